/* Failing a chosen allocation, so that a test can see what the code under test does about it.
 *
 * malloc, calloc, realloc, strdup and strndup are wrapped in every unit test, for the layers, the
 * test itself, the check library and cJSON alike; what the C library allocates inside (asprintf, getline)
 * is not seen. Disarmed, the wrappers only count.
 *
 * The usual loop, which fails each allocation of `work` in turn until one run needs no more:
 *
 *     for (size_t n = 1;; n++) {
 *         failmem_arm(n);
 *         int r = work();
 *         if (!failmem_disarm())
 *             break;                     // the n-th allocation was never made: all were tried
 *         ck_assert_int_eq(r, -ENOMEM);
 *     }
 *
 * Make no ck_assert while armed: check allocates too. Counters are per thread: arm in the thread
 * that allocates. */

#ifndef RETRYD_FAILMEM_H
#define RETRYD_FAILMEM_H

#include <stdbool.h>
#include <stddef.h>

/* The n-th allocation from now on (1: the next) returns NULL with errno ENOMEM; those after it
 * succeed again. Sets the count to 0. */
void failmem_arm(size_t n);

/* As failmem_arm, but every allocation from the n-th on fails. */
void failmem_arm_from(size_t n);

/* No more failures. True if at least one allocation was made to fail since the arming. */
bool failmem_disarm(void);

/* Allocations asked for since the last arming (or since the thread's start). */
size_t failmem_count(void);

#endif
