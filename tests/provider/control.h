/* The control API: scripts go in, records come out, under the path "/_/". */
#ifndef PROVIDER_CONTROL_H
#define PROVIDER_CONTROL_H

struct conn;
struct server;

/* Answers a whole control request, now or (for /_/wait) later. */
void control_handle(struct conn *c);
/* Answers those whose wait is over. */
void control_check(struct server *s);
void control_timeout(struct conn *c);

#endif
