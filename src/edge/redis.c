/* Sends commands to a Redis server and reads its replies, on a libuv stream. */
#include "edge/redis.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/list.h"

#define REDIS_MAGIC 0x72656469u
#define REDIS_HOST_MAX 256

struct redis_reader; /* wraps hiredis; private to redis.c */

enum redis_phase { REDIS_CONNECTING, REDIS_LIVE, REDIS_DEAD, REDIS_CLOSED };

struct redis {
    unsigned magic;
    enum redis_phase phase;
    uv_loop_t *loop;
    struct redis_handler handler;

    char host[REDIS_HOST_MAX]; /* a name, an address, or the path of a Unix socket */
    int port;                  /* 0 for a Unix socket */
    uv_getaddrinfo_t resolving;
    bool is_resolving;
    struct addrinfo *addresses;
    const struct addrinfo *next; /* the next address to try */
    int connect_error;           /* of the last address tried */

    uv_connect_t connecting;
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream;
        uv_handle_t handle;
    } way;
    bool way_open;
    uv_timer_t timer;
    unsigned open_handles; /* libuv handles that are not closed yet */

    struct list awaited;
    size_t awaited_count;
    int write_error;  /* reported by the timer; 0 if none */
    bool ping_failed; /* the last PING failed for lack of memory */
    bool begun;       /* begin_connecting was called */
    bool late;        /* a reply is overdue, but a busy loop may not have read it yet */
    struct redis_reader *reader;
    char space[16 * 1024];
};

/* Reports that the connection is dead. Does nothing if it is already dead or closed. */
static void die(struct redis *r, enum redis_end end, int error);
static void connected(struct redis *r);
static void free_if_over(struct redis *r);

/* --- connecting ------------------------------------------------------------------------------- */

#define DEFAULT_PORT 6379

static void connect_next(struct redis *r);

static void on_connected(uv_connect_t *request, int status)
{
    struct redis *r = request->data;

    assert(r->magic == REDIS_MAGIC);
    if (r->phase != REDIS_CONNECTING)
        return;
    if (status < 0) {
        r->connect_error = status;
        connect_next(r);
        return;
    }
    if (r->port > 0)
        uv_tcp_nodelay(&r->way.tcp, 1);
    connected(r);
}

static void open_way(struct redis *r, int rc)
{
    if (rc < 0)
        return;
    r->way.handle.data = r;
    r->way_open = true;
    r->open_handles++;
    r->connecting.data = r;
}

static void on_given_up(uv_handle_t *handle)
{
    struct redis *r = handle->data;

    assert(r->magic == REDIS_MAGIC);
    r->open_handles--;
    if (r->phase == REDIS_CONNECTING)
        connect_next(r);
    else
        free_if_over(r);
}

/* Tries the next address, after the handle of the last one is closed. */
static void connect_next(struct redis *r)
{
    if (!r->next) {
        die(r, REDIS_END_CONNECT, r->connect_error);
    } else if (r->way_open) {
        r->way_open = false;
        uv_close(&r->way.handle, on_given_up);
    } else {
        const struct addrinfo *to = r->next;

        r->next = to->ai_next;
        int rc = uv_tcp_init(r->loop, &r->way.tcp);
        open_way(r, rc);
        if (rc == 0)
            rc = uv_tcp_connect(&r->connecting, &r->way.tcp, to->ai_addr, on_connected);
        if (rc < 0) {
            r->connect_error = rc;
            connect_next(r);
        }
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct redis *r = request->data;

    assert(r->magic == REDIS_MAGIC);
    r->is_resolving = false;
    r->addresses = addresses;
    if (r->phase != REDIS_CONNECTING) {
        free_if_over(r);
        return;
    }
    r->next = addresses;
    if (status < 0 || !addresses)
        die(r, REDIS_END_ADDRESS, status);
    else
        connect_next(r);
}

/* Names are resolved on libuv's thread pool, and so are numeric addresses. */
static void begin_connecting(struct redis *r)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    char port[8];
    int rc;

    if (r->port == 0) {
        int failed = uv_pipe_init(r->loop, &r->way.pipe, 0);
        open_way(r, failed);
        if (failed < 0)
            die(r, REDIS_END_CONNECT, failed);
        else /* the callback reports errors */
            uv_pipe_connect(&r->connecting, &r->way.pipe, r->host, on_connected);
        return;
    }
    snprintf(port, sizeof(port), "%d", r->port);
    r->resolving.data = r;
    rc = uv_getaddrinfo(r->loop, &r->resolving, on_resolved, r->host, port, &hints);
    r->is_resolving = rc == 0;
    if (rc < 0)
        die(r, REDIS_END_ADDRESS, rc);
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Splits "host:port"; `*ret_port` is empty or begins with the colon. A name or IPv4 address has no
 * colon, and an IPv6 address has brackets. */
static bool split_address(struct str address, struct str *ret_host, struct str *ret_port)
{
    const char *colon = address.n ? memrchr(address.p, ':', address.n) : NULL;

    if (str_starts(address, STR("["))) {
        const char *end = memchr(address.p, ']', address.n);

        if (!end)
            return false;
        *ret_host = (struct str){address.p + 1, (size_t)(end - address.p) - 1};
        *ret_port = (struct str){end + 1, (size_t)(address.p + address.n - end) - 1};
        if (ret_port->n > 0 && ret_port->p[0] != ':')
            return false;
    } else {
        size_t n = colon ? (size_t)(colon - address.p) : address.n;

        *ret_host = (struct str){address.p, n};
        *ret_port = str_after(address, n);
        if (n > 0 && memchr(address.p, ':', n))
            return false;
    }
    return true;
}

static int parse_address(const char *text, char host[REDIS_HOST_MAX], int *ret_port)
{
    struct str address = str_from(text);
    struct str name = address, port = {NULL, 0};
    uint64_t number = DEFAULT_PORT;

    if (str_starts(address, STR("unix:"))) {
        name = str_after(address, 5);
        number = 0;
        if (name.n >= sizeof(((struct sockaddr_un *)NULL)->sun_path) || name.n == 0 ||
            name.p[0] != '/')
            return -EINVAL;
    } else if (!split_address(address, &name, &port)) {
        return -EINVAL;
    } else if (port.n > 0 &&
               (!str_to_u64(str_after(port, 1), &number) || number == 0 || number > 65535)) {
        return -EINVAL;
    }
    if (name.n == 0 || name.n >= REDIS_HOST_MAX)
        return -EINVAL;
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';
    *ret_port = (int)number;
    return 0;
}

int redis_address_check(const char *address)
{
    char host[REDIS_HOST_MAX];
    int port = 0;

    return parse_address(address, host, &port);
}

/* --- commands and replies --------------------------------------------------------------------- */

#define REPLY_BYTES_MAX (64u * 1024) /* far more than any expected reply */
#define REPLY_ITEMS_MAX 64
#define SECOND_LOOK_MS 20

/* hiredis 0.14 allocates a list of any announced length and later walks through all of it to free
 * it. A dozen bytes could block the loop for seconds. hiredis 1.0 has a limit for that. */
struct redis_reader {
    redisReader *hiredis;
#if HIREDIS_MAJOR < 1
    redisReplyObjectFunctions functions; /* the default ones, except for lists */
    void *(*usual_list)(const redisReadTask *task, int count);
#endif
    bool too_long;
};

/* A command without a reply so far. */
struct awaited {
    struct list node;
    redis_reply_fn *reply;
    void *tag;
    uint64_t due_ms;
};

/* A command that libuv is writing. */
struct unsent {
    uv_write_t request;
    char *text;
    size_t n;
};

static void on_time(uv_timer_t *timer);

static void look_again_in(struct redis *r, uint64_t ms)
{
    uv_update_time(r->loop); /* the iteration may have started long ago */
    uv_timer_start(&r->timer, on_time, ms, 0);
}

/* --- the reader ------------------------------------------------------------------------------- */

#if HIREDIS_MAJOR < 1
static void *limited_list(const redisReadTask *task, int count)
{
    struct redis_reader *reader = task->privdata;

    reader->too_long = count > REPLY_ITEMS_MAX;
    return reader->too_long ? NULL : reader->usual_list(task, count);
}
#endif

static void reader_free(struct redis_reader *reader)
{
    if (!reader)
        return;
    if (reader->hiredis)
        redisReaderFree(reader->hiredis);
    free(reader);
}

static struct redis_reader *reader_new(void)
{
    struct redis_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return NULL;
    reader->hiredis = redisReaderCreate();
    if (!reader->hiredis) {
        free(reader);
        return NULL;
    }
#if HIREDIS_MAJOR < 1
    reader->functions = *reader->hiredis->fn;
    reader->usual_list = reader->functions.createArray;
    reader->functions.createArray = limited_list;
    reader->hiredis->fn = &reader->functions;
    reader->hiredis->privdata = reader;
#else
    reader->hiredis->maxelements = REPLY_ITEMS_MAX;
#endif
    return reader;
}

/* Returns why hiredis cannot parse the replies. */
static enum redis_end reader_end(const struct redis_reader *reader)
{
    return reader->hiredis->err == REDIS_ERR_OOM && !reader->too_long ? REDIS_END_MEMORY
                                                                      : REDIS_END_STRANGE;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void free_if_over(struct redis *r)
{
    struct list *node;

    if (r->phase != REDIS_CLOSED || r->open_handles > 0 || r->is_resolving)
        return;
    while ((node = list_pop(&r->awaited)))
        free(LIST_ENTRY(node, struct awaited, node));
    uv_freeaddrinfo(r->addresses);
    reader_free(r->reader);
    r->magic = 0;
    free(r);
}

static void on_closed(uv_handle_t *handle)
{
    struct redis *r = handle->data;

    assert(r->magic == REDIS_MAGIC);
    r->open_handles--;
    free_if_over(r);
}

static void close_all(struct redis *r)
{
    if (r->is_resolving)
        uv_cancel((uv_req_t *)&r->resolving); /* has an effect only before a thread runs it */
    if (r->way_open)
        uv_close(&r->way.handle, on_closed);
    r->way_open = false;
    uv_timer_stop(&r->timer);
}

static void die(struct redis *r, enum redis_end end, int error)
{
    if (r->phase != REDIS_CONNECTING && r->phase != REDIS_LIVE)
        return;
    r->phase = REDIS_DEAD;
    close_all(r);
    r->handler.dead(r->handler.arg, end, error);
}

void redis_close(struct redis *r)
{
    if (!r)
        return;
    assert(r->magic == REDIS_MAGIC && r->phase != REDIS_CLOSED);
    r->phase = REDIS_CLOSED;
    close_all(r);
    uv_close((uv_handle_t *)&r->timer, on_closed);
}

/* --- replies ---------------------------------------------------------------------------------- */

static struct redis_reply reply_of(const redisReply *reply)
{
    struct redis_reply a = {.kind = REDIS_IS_NOTHING};

    switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        a.kind = reply->type == REDIS_REPLY_ERROR ? REDIS_IS_REFUSAL : REDIS_IS_TEXT;
        a.text = (struct str){reply->str, reply->len};
        break;
    case REDIS_REPLY_INTEGER:
        a.kind = REDIS_IS_NUMBER;
        a.number = reply->integer;
        break;
    case REDIS_REPLY_ARRAY:
        a.kind = REDIS_IS_LIST;
        a.count = reply->elements;
        a.list = reply;
        break;
    default: /* nil, and types of RESP3, which is not used */
        break;
    }
    return a;
}

struct redis_reply redis_item(const struct redis_reply *list, size_t i)
{
    const redisReply *reply = list->list;

    assert(list->kind == REDIS_IS_LIST && i < list->count);
    return reply_of(reply->element[i]);
}

static bool is_message(const struct redis_reply *a)
{
    return a->kind == REDIS_IS_LIST && a->count == 3 &&
           str_eq(redis_item(a, 0).text, STR("message"));
}

static void take_reply(struct redis *r, const struct redis_reply *a)
{
    struct list *node = NULL;

    if (is_message(a)) {
        r->handler.message(r->handler.arg, redis_item(a, 2).text);
        return;
    }
    node = list_pop(&r->awaited);
    if (!node) {
        /* A server without a free slot sends an error and closes the connection. */
        die(r, a->kind == REDIS_IS_REFUSAL ? REDIS_END_LOST : REDIS_END_STRANGE, 0);
        return;
    }
    struct awaited w = *LIST_ENTRY(node, struct awaited, node);
    free(LIST_ENTRY(node, struct awaited, node));
    r->awaited_count--;
    if (w.reply)
        w.reply(r->handler.arg, w.tag, a);
}

static void give_space(uv_handle_t *handle, size_t wanted, uv_buf_t *ret_buf)
{
    struct redis *r = handle->data;

    (void)wanted;
    *ret_buf = uv_buf_init(r->space, sizeof(r->space));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct redis *r = stream->data;

    assert(r->magic == REDIS_MAGIC);
    if (r->phase != REDIS_LIVE || n == 0)
        return;
    if (n < 0) {
        die(r, REDIS_END_LOST, n == UV_EOF ? 0 : (int)n);
        return;
    }
    r->late = false;
    if (redisReaderFeed(r->reader->hiredis, buf->base, (size_t)n) != REDIS_OK) {
        die(r, REDIS_END_MEMORY, 0);
        return;
    }
    /* Takes all complete replies. Stops if one of them ends the connection. */
    while (r->phase == REDIS_LIVE) {
        void *reply = NULL;
        int rc = redisReaderGetReply(r->reader->hiredis, &reply);

        if (rc != REDIS_OK) {
            die(r, reader_end(r->reader), 0);
            return;
        }
        if (!reply)
            break;
        struct redis_reply a = reply_of(reply);
        take_reply(r, &a);
        freeReplyObject(reply);
    }
    if (r->phase == REDIS_LIVE && r->reader->hiredis->len > REPLY_BYTES_MAX)
        die(r, REDIS_END_STRANGE, 0);
}

/* --- commands --------------------------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status)
{
    struct unsent *o = request->data;
    struct redis *r = request->handle->data;

    explicit_bzero(o->text, o->n);
    redisFreeCommand(o->text);
    free(o);
    if (status < 0 && status != UV_ECANCELED)
        die(r, REDIS_END_LOST, status);
}

static int write_text(struct redis *r, size_t argc, const struct str argv[])
{
    const char *words[REDIS_ARGS_MAX];
    size_t lengths[REDIS_ARGS_MAX];
    struct unsent *o = malloc(sizeof(*o));

    if (!o)
        return -ENOMEM;
    for (size_t i = 0; i < argc; i++) {
        words[i] = argv[i].n ? argv[i].p : "";
        lengths[i] = argv[i].n;
    }
    long long n = redisFormatCommandArgv(&o->text, (int)argc, words, lengths);
    if (n < 0) {
        free(o);
        return -ENOMEM;
    }
    o->n = (size_t)n;
    o->request.data = o;
    uv_buf_t buf = uv_buf_init(o->text, (unsigned)o->n);
    int rc = uv_write(&o->request, &r->way.stream, &buf, 1, on_written);
    if (rc < 0) { /* libuv does not call on_written */
        explicit_bzero(o->text, o->n);
        redisFreeCommand(o->text);
        free(o);
    }
    return rc < 0 ? rc : 0;
}

int redis_send(struct redis *r, size_t argc, const struct str argv[], redis_reply_fn *reply,
               void *tag)
{
    assert(r->magic == REDIS_MAGIC && argc > 0 && argc <= REDIS_ARGS_MAX);
    if (r->phase != REDIS_LIVE)
        return -ENOTCONN;
    struct awaited *w = malloc(sizeof(*w));
    if (!w)
        return -ENOMEM;
    *w = (struct awaited){.reply = reply, .tag = tag, .due_ms = clock_now_ms() + REDIS_REPLY_MS};
    int rc = write_text(r, argc, argv);
    if (rc < 0) {
        free(w);
        if (rc == -ENOMEM)
            return rc;
        r->write_error = rc; /* the timer reports it, because no callback may run here */
        look_again_in(r, 0);
        return -ENOTCONN;
    }
    list_append(&r->awaited, &w->node);
    r->awaited_count++;
    return 0;
}

size_t redis_pending(const struct redis *r)
{
    return r->awaited_count;
}

/* --- time ------------------------------------------------------------------------------------- */

/* Handles an overdue reply. If the loop or the whole process was busy, the reply may be there but
 * not read, so it gets a little more time. */
static void silence(struct redis *r)
{
    if (r->late) {
        die(r, r->phase == REDIS_LIVE ? REDIS_END_SILENT : REDIS_END_CONNECT, UV_ETIMEDOUT);
        return;
    }
    r->late = true;
    look_again_in(r, SECOND_LOOK_MS);
}

/* Sends a PING. Returns false if the timer is already set: to report a broken connection at once,
 * or to send another PING at once after a lack of memory. If that fails, too, the next one waits
 * for its usual time. */
static bool ping(struct redis *r)
{
    int rc = redis_send(r, 1, &STR("PING"), NULL, NULL);
    bool again = rc == -ENOMEM && !r->ping_failed;

    r->ping_failed = again;
    if (again)
        look_again_in(r, 0);
    return !again && rc != -ENOTCONN;
}

static void on_time(uv_timer_t *timer)
{
    struct redis *r = timer->data;
    uint64_t now = clock_now_ms();

    assert(r->magic == REDIS_MAGIC);
    if (r->phase == REDIS_CONNECTING && !r->begun) {
        r->begun = true;
        look_again_in(r, REDIS_CONNECT_MS);
        begin_connecting(r);
    } else if (r->phase == REDIS_CONNECTING) {
        silence(r);
    } else if (r->phase == REDIS_LIVE && r->write_error < 0) {
        die(r, REDIS_END_LOST, r->write_error);
    } else if (r->phase == REDIS_LIVE && list_empty(&r->awaited)) {
        if (ping(r))
            look_again_in(r, REDIS_PING_MS);
    } else if (r->phase == REDIS_LIVE) {
        uint64_t due = LIST_ENTRY(r->awaited.next, struct awaited, node)->due_ms;

        if (due <= now)
            silence(r);
        else
            look_again_in(r, due - now < REDIS_PING_MS ? due - now : REDIS_PING_MS);
    }
}

/* --- opening ---------------------------------------------------------------------------------- */

static void connected(struct redis *r)
{
    int rc = uv_read_start(&r->way.stream, give_space, on_read);

    if (rc < 0) {
        die(r, REDIS_END_CONNECT, rc);
        return;
    }
    r->phase = REDIS_LIVE;
    r->late = false;
    look_again_in(r, REDIS_PING_MS);
    r->handler.connected(r->handler.arg);
}

struct redis *redis_open(uv_loop_t *loop, const char *address, const struct redis_handler *handler)
{
    struct redis *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->magic = REDIS_MAGIC;
    r->phase = REDIS_CONNECTING;
    r->loop = loop;
    r->handler = *handler;
    list_init(&r->awaited);
    r->reader = reader_new();
    if (!r->reader || parse_address(address, r->host, &r->port) < 0) {
        reader_free(r->reader);
        free(r);
        return NULL;
    }
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
    r->open_handles = 1;
    uv_timer_start(&r->timer, on_time, 0, 0); /* connects later: no callback may run here */
    return r;
}
