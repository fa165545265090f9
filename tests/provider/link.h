/* A link carries bytes to and from one peer: TCP or Unix socket, plain or TLS. */
#ifndef PROVIDER_LINK_H
#define PROVIDER_LINK_H

#include "buf.h"
#include "tls.h"

#include <uv.h>

struct link;

/* All are called from the loop, never from within a call of the owner's. After on_gone the owner
 * closes the link; after on_closed it may be freed. */
struct link_events {
    void (*on_data)(struct link *link, const char *bytes, size_t len);
    void (*on_gone)(struct link *link);    /* the peer has closed or reset */
    void (*on_drained)(struct link *link); /* what was written is with the kernel */
    void (*on_tls)(struct link *link);     /* the handshake is complete */
    void (*on_closed)(struct link *link);
};

struct link {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    const struct link_events *events;
    struct tls *tls;
    struct buf out;  /* what the pending write is writing */
    struct buf next; /* what it will write after that */
    uv_write_t write;
    uv_poll_t hup; /* watches for the peer's close while reading is paused */
    int hup_fd;
    unsigned handles;
    bool is_pipe;
    bool writing;
    bool paused;
    bool hup_open;
    bool closed;
};

/* Accepts the pending connection of server. ctx is NULL for plain. On an error the owner waits
 * for on_closed all the same. */
int link_accept(struct link *link, uv_stream_t *server, bool is_pipe, SSL_CTX *ctx,
                const struct link_events *events);
int link_start(struct link *link);
/* Stops reading but still notices the peer's close; link_resume reads on. */
void link_pause(struct link *link);
void link_resume(struct link *link);
/* Writes all, at once or in the background; -errno when the peer is gone. */
int link_write(struct link *link, const uv_buf_t *bufs, unsigned n);
/* Whether a write is under way. */
bool link_busy(const struct link *link);
/* Whether the kernel still has bytes that were never sent: a reset would lose them. */
bool link_unsent(struct link *link);
/* Whether the kernel has bytes that were never read: a close would become a reset. */
bool link_unread(struct link *link);
/* Sends the TLS close_notify, if there is one to send. */
void link_notify(struct link *link);
/* Closes the sending side only. */
void link_half_close(struct link *link);
void link_close(struct link *link);
void link_reset(struct link *link);

#endif
