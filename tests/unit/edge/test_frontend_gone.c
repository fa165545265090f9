/* Clients that leave at any point and in any way: each connection ends, and its owner is notified.
 * On real sockets, with the real libmicrohttpd. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/frontend.h"
#include "exchange/exchange.h"
#include "unit.h"

#define LARGE (16u << 20) /* more than the kernel takes of a response that nobody reads */

enum way { CLOSES, RESETS, HALF_CLOSES, WAYS };

/* When it leaves: as soon as its place is reached; then, with more of its body, which is asked for
 * at that moment and read after the news; and before anything of it is read. */
enum moment { ALONE, WITH_MORE, BEFORE_ALL, MOMENTS };

/* The owner's actions, and when the client leaves. */
struct place {
    const char *sent;    /* before it leaves; zeros of a body follow */
    size_t body;         /* so many */
    size_t taken;        /* ... of which the owner has room for so many, and never for more */
    unsigned events;     /* how much has happened then */
    size_t whole;        /* length of the response */
    bool streams, dries; /* ... or one that is pulled, and has nothing to give from some time on */
};

#define HEAD "POST /v1/files HTTP/1.1\r\nHost: localhost\r\n"
#define BODY_FOLLOWS HEAD "Content-Length: 50000000\r\n\r\n"
#define CHUNK_FOLLOWS HEAD "Transfer-Encoding: chunked\r\n\r\n40000000\r\n"
#define NO_BODY HEAD "Content-Length: 0\r\n\r\n"

static const struct place places[] = {
    /* before it says anything, amid its head, and before its body */
    {.sent = ""},
    {.sent = HEAD "Content-Le"},
    {.sent = BODY_FOLLOWS, .events = 1},
    /* amid its body, which its owner takes in, has room for no more of, and has no room for */
    {.sent = BODY_FOLLOWS, .body = 1000, .taken = SIZE_MAX, .events = 2},
    {.sent = BODY_FOLLOWS, .body = 1000, .taken = 1000, .events = 2},
    {.sent = BODY_FOLLOWS, .body = 20000, .taken = 10000, .events = 2},
    {.sent = BODY_FOLLOWS, .body = 20000, .events = 2},
    /* the same of a chunk */
    {.sent = CHUNK_FOLLOWS, .body = 1000, .taken = SIZE_MAX, .events = 2},
    {.sent = CHUNK_FOLLOWS, .body = 1000, .taken = 1000, .events = 2},
    {.sent = CHUNK_FOLLOWS, .body = 20000, .taken = 10000, .events = 2},
    {.sent = CHUNK_FOLLOWS, .body = 20000, .events = 2},
    /* while its owner thinks, with its next request sent, too */
    {.sent = NO_BODY, .events = 2},
    {.sent = NO_BODY NO_BODY, .events = 2},
    /* with a response and with a stream that it does not read, and with a stream that waits */
    {.sent = NO_BODY, .events = 2, .whole = LARGE},
    {.sent = NO_BODY, .events = 3, .streams = true},
    {.sent = NO_BODY, .events = 3, .streams = true, .dries = true},
};

static uv_loop_t loop;
static struct frontend *frontend;
static struct sockaddr_in address;
static int listener;

static struct {
    const struct place *place;
    struct frontend_request *request;
    size_t taken, pulled;
    unsigned begun, closed; /* requests */
    unsigned events;        /* of this client, of all kinds */
    bool complete, gone, answered;
} owner;

/* --- the owner -------------------------------------------------------------------------------- */

static int on_headers(void *ctx, struct frontend_request *r, struct http_request *request,
                      void **ret_user, char *ret_why, size_t size)
{
    (void)ctx;
    (void)request;
    (void)ret_why;
    (void)size;
    owner.request = r;
    owner.complete = owner.gone = owner.answered = false;
    owner.begun++;
    owner.events++;
    *ret_user = &owner;
    return 0;
}

static ptrdiff_t on_body(void *user, const void *data, size_t n, char *ret_why, size_t size)
{
    size_t room = owner.place->taken - owner.taken;

    (void)user;
    (void)data;
    (void)ret_why;
    (void)size;
    owner.events++;
    if (n > room)
        n = room;
    owner.taken += n;
    return (ptrdiff_t)n;
}

static void on_complete(void *user)
{
    (void)user;
    owner.complete = true;
    owner.events++;
}

static void on_body_refused(void *user, unsigned status)
{
    (void)user;
    (void)status;
}

static void on_gone(void *user)
{
    (void)user;
    owner.gone = true;
}

static ptrdiff_t on_pull(void *user, char *to, size_t max)
{
    (void)user;
    owner.events++;
    if (owner.gone)
        return PULL_CUT;
    if (owner.place->dries && owner.pulled > 0)
        return 0;
    memset(to, 'x', max);
    owner.pulled += max;
    return (ptrdiff_t)max;
}

static void on_closed(void *user, bool whole)
{
    (void)user;
    (void)whole;
    owner.request = NULL;
    owner.closed++;
}

static void on_refused(void *ctx, unsigned status, const char *why)
{
    (void)ctx;
    (void)status;
    (void)why;
}

static const struct frontend_handler handler = {
    .on_headers = on_headers,
    .on_body = on_body,
    .on_complete = on_complete,
    .on_body_refused = on_body_refused,
    .on_gone = on_gone,
    .on_pull = on_pull,
    .on_closed = on_closed,
    .on_refused = on_refused,
};

static void answer(void)
{
    struct http_response response;
    struct buf body;

    http_response_init(&response);
    response.status = 200;
    response.content_length = owner.place->streams ? LENGTH_UNKNOWN : owner.place->whole;
    buf_init(&body, LARGE);
    if (owner.place->streams) {
        ck_assert_int_eq(frontend_stream(owner.request, &response), 0);
    } else {
        ck_assert_int_eq(buf_reserve(&body, owner.place->whole), 0);
        memset(body.p, 'x', owner.place->whole);
        body.len = owner.place->whole;
        ck_assert_int_eq(frontend_whole(owner.request, &response, &body), 0);
    }
    buf_deinit(&body);
    http_response_deinit(&response);
    owner.answered = true;
}

/* As the daemon does: in its own turn, never within a callback. */
static void act(void)
{
    if (!owner.request || !owner.complete)
        return;
    if (owner.gone)
        frontend_cut(owner.request);
    else if (!owner.answered && (owner.place->whole > 0 || owner.place->streams))
        answer();
}

/* --- the loop --------------------------------------------------------------------------------- */

static void on_work(void *arg)
{
    (void)arg; /* there is a turn whenever the loop has woken up */
}

static void turn(void)
{
    do
        act();
    while (frontend_run(frontend));
}

static void set_up(void)
{
    socklen_t n = sizeof(address);

    memset(&owner, 0, sizeof(owner));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    frontend = frontend_new(&loop, &handler, NULL, 8, on_work, NULL);
    ck_assert_ptr_nonnull(frontend);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &n), 0);
}

static void tear_down(void)
{
    close(listener);
    frontend_close(frontend);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

/* --- the client ------------------------------------------------------------------------------- */

static int connect_one(int *ret_accepted)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    *ret_accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    ck_assert_int_ge(*ret_accepted, 0);
    return fd;
}

static void say(int fd, const char *text, size_t body)
{
    static const char zeros[20000];
    size_t n = strlen(text);

    ck_assert_int_eq(send(fd, text, n, 0), (ssize_t)n);
    ck_assert_int_eq(send(fd, zeros, body, 0), (ssize_t)body);
}

static void leave(int fd, enum way way)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};

    if (way == HALF_CLOSES) {
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        return;
    }
    if (way == RESETS)
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)), 0);
    close(fd);
}

/* The loop has it from the socket, and the timer that follows has run; libmicrohttpd has not. */
static void see_it_leave(void)
{
    for (unsigned i = 0; i < 10; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* One that is forgotten makes this wait until the test's time is over. */
static void await_end(void)
{
    while ((void)turn(), frontend_connections(frontend) > 0)
        uv_run(&loop, UV_RUN_ONCE);
    ck_assert_uint_eq(owner.closed, owner.begun);
}

static void one_client(const struct place *p, enum moment moment, enum way way)
{
    int accepted, fd = connect_one(&accepted);

    owner.place = p;
    owner.taken = owner.pulled = 0;
    owner.events = 0;
    say(fd, p->sent, p->body);
    if (moment == BEFORE_ALL)
        leave(fd, way);
    ck_assert_int_eq(frontend_add(frontend, accepted), 0);
    if (moment != BEFORE_ALL) {
        while ((void)turn(), owner.events < p->events)
            uv_run(&loop, UV_RUN_ONCE);
        if (moment == WITH_MORE)
            say(fd, "", p->body);
        leave(fd, way);
        if (moment == WITH_MORE && owner.request)
            frontend_upload_on(owner.request);
    }
    if (moment != ALONE)
        see_it_leave();
    await_end();
    if (way == HALF_CLOSES)
        close(fd);
}

START_TEST(one_that_leaves_is_let_go)
{
    const struct place *p = &places[_i];

    set_up();
    for (enum moment moment = ALONE; moment < MOMENTS; moment++)
        for (enum way way = CLOSES; way < WAYS; way++) {
            one_client(p, moment, way);
        }
    tear_down();
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "frontend_gone");

    tcase_add_loop_test(tcase, one_that_leaves_is_let_go, 0, (int)COUNT(places));
}
