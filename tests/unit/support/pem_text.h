/* A certificate of the tests' own (openssl req -x509), valid for a hundred years; keys are no secret here. */
#ifndef RETRYD_TESTS_PEM_TEXT_H
#define RETRYD_TESTS_PEM_TEXT_H

extern const char pem_certificate[];
extern const char pem_key[];       /* the certificate's */
extern const char pem_other_key[]; /* not the certificate's */

#endif
