/* What every unit test shares: the main is in unit.c, and each test_*.c gives it its tests. */
#ifndef RETRYD_UNIT_H
#define RETRYD_UNIT_H

#include <check.h>
#include <stdint.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Defined by each test_*.c: adds its cases to the suite, which is named after the program. */
void unit_tests(Suite *suite);

/* A new case of the suite, which owns it. Tests, fixtures and a time limit may still be added. */
TCase *unit_case(Suite *suite, const char *name);

/* The program's argument of that number, from 1 on, or `otherwise` where there are fewer. */
uint64_t unit_argument(int number, uint64_t otherwise);

/* Random numbers (xorshift64, Marsaglia 2003), the same in each run; the second is below n. */
uint64_t unit_random(void);
uint64_t unit_below(uint64_t n);

#endif
