/* For the tests of the configuration: loads a text as if it were a file, and reads a dump. */
#ifndef RETRYD_TESTS_CONFIG_TEXT_H
#define RETRYD_TESTS_CONFIG_TEXT_H

#include <stddef.h>

#include "config/config.h"

/* What config_load made of it. The file's name in the messages is "t.conf". */
struct loaded {
    struct config *config;
    char problems[16384];
    char notes[16384];
    int error; /* errno where config is NULL */
};

/* Each goes to a folder of its own, which is the working directory afterwards, and is removed when
 * the process ends. */
void config_text_folder(void);
void config_text_write(const char *name, const void *text, size_t n);
/* "client.pem": a certificate and its key. */
void config_text_write_client(const char *certificate, const char *key);

struct loaded config_text_load(const char *text);
struct loaded config_text_load_bytes(const void *text, size_t n);
void loaded_deinit(struct loaded *l);

/* Renews it again and again, with another allocation failing each time, until none does. */
void config_text_renew_nomem(struct config *c);

/* config_dump as text, on the heap. */
char *config_text_dump(const struct config *c);

/* The value of a key in a dump, as "[section]" and "key"; NULL when it is not there. On the heap. */
char *config_text_value(const char *dump, const char *section, const char *key);

/* The whole of a file of the source tree, on the heap. */
char *config_text_source(const char *path);

#endif
