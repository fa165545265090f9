/* The state that the process was started with and changes later: its signal mask, the signals it
 * ignores, its limits, its descriptors. A child of `retryd run` gets all of it back. */
#ifndef RETRYD_DAEMON_BIRTH_H
#define RETRYD_DAEMON_BIRTH_H

#include <stdbool.h>

/* Notes everything. Call it first in main. */
void birth_remember(void);

/* Returns whether the terminal that the process was started on has been closed, and the process is
 * not meant to outlive it (nohup ignores SIGHUP). */
bool birth_terminal_gone(void);

/* Raises the limit of descriptors to the hard limit, because each request may need several. */
void birth_raise_files(void);

/* Gives everything back, in a child between fork and exec; async-signal-safe. The new program keeps
 * only the descriptors that were open at the start. The signal mask is the one of the start, so a
 * pending signal may end the child. */
void birth_give_back(void);

#endif
