/* The one child of `retryd run`: started as the shell would have started it, with every signal
 * relayed that is meant for it.
 *
 * The child is in retryd's process group, so the terminal's signals (Ctrl-C, Ctrl-Z) reach it
 * directly, and retryd leaves them to it. Signals from another process to retryd alone are relayed.
 * If the child stops, retryd stops, too, with the same signal, so that the shell sees its job stop;
 * SIGCONT wakes both. If retryd dies, the kernel sends the child SIGTERM. */
#ifndef RETRYD_CLI_RUN_CHILD_H
#define RETRYD_CLI_RUN_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct run_child {
    pid_t pid;   /* 0: not started */
    int status;  /* from waitpid, once the child has ended */
    bool ended;  /* the child has ended, and was waited for */
    int signals; /* the signalfd; -1: none */
    uv_poll_t poll;
    bool polling;
    void (*on_end)(
        void *ctx); /* called when the child has ended, and for each signal that would end retryd */
    void *ctx;
};

/* Blocks the signals that are relayed. Call it before any thread starts, so that none takes one. */
void run_child_block(void);

/* Returns a signal since run_child_block that would have ended the process, or 0. */
int run_child_interrupted(void);

/* Starts `argv` (searched in PATH) with the environment `envp`. Returns 0 or -errno, which may be
 * exec's. */
int run_child_start(struct run_child *c, char *const *argv, char *const *envp);

/* Relays signals from the loop until run_child_close, and calls on_end. 0 or -errno. */
int run_child_watch(struct run_child *c, uv_loop_t *loop);
void run_child_close(struct run_child *c);

/* Returns the exit code of a child that has ended. If a signal ended it, ends the process by the
 * same signal, and does not return. */
int run_child_pass_on(const struct run_child *c);

#endif
