/* The state that the process was started with and has changed since: its signal mask, the signals it ignores,
 * its limits, its descriptors. A child of `retryd run` gets all of it back. */
#ifndef RETRYD_DAEMON_BIRTH_H
#define RETRYD_DAEMON_BIRTH_H

#include <stdbool.h>

/* Notes everything. Call it first of all in main. */
void birth_remember(void);

/* Returns whether the terminal that the process was started on has been closed, and the process was not
 * told to outlive it (nohup ignores SIGHUP). */
bool birth_terminal_gone(void);

/* Each request may need several descriptors: takes as many as the hard limit allows. */
void birth_raise_files(void);

/* Gives everything back, in a child between fork and exec; async-signal-safe. Of the descriptors,
 * only those are left to the new program that were open at the start. Signals are unblocked as they
 * were at the start, so a pending one may end the child. */
void birth_give_back(void);

#endif
