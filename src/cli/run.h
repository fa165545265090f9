/* `retryd run`: a private retryd for one child. */
#ifndef RETRYD_CLI_RUN_H
#define RETRYD_CLI_RUN_H

#include "cli/cli.h"

/* A command of the table in cli.c. Returns the child's exit code, 127 or 126 if the child cannot be
 * started, or RUN_FAILED if retryd itself cannot. If a signal ended the child, the process ends by
 * the same signal. */
#define RUN_FAILED 125 /* as env(1) and timeout(1) have it */
int run(const struct cli *cli, FILE *out, FILE *err);

extern const char run_help[];

#endif
