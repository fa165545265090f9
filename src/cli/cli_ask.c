/* The commands that talk to a running daemon: --health, --ready, wait, reload, status, top and
 * explain. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "base/units.h"
#include "cli/cli.h"
#include "daemon/control.h"
#include "edge/fetch.h"

/* --- --health and --ready --------------------------------------------------------------------- */

/* Writes the result of a request in one line: `rc` is a status, or -errno. */
static enum exit_code tell_status(int rc, const char *what, const char *address, FILE *out,
                                  FILE *err)
{
    if (rc == 200)
        fprintf(out, "retryd is %s: %s answers\n", what, address);
    else if (rc >= 0)
        fprintf(err, "retryd is not %s: %s answers %d\n", what, address, rc);
    else
        fprintf(err, "retryd does not answer: %s: %s\n", address, strerror(-rc));
    return rc == 200 ? EXIT_OK : EXIT_FAILED;
}

enum exit_code cli_health(const char *address, bool ready, unsigned patience_ms, FILE *out,
                          FILE *err)
{
    return tell_status(fetch_status(address, ready ? "/readyz" : "/healthz", patience_ms),
                       ready ? "ready" : "healthy", address, out, err);
}

/* --- wait ------------------------------------------------------------------------------------- */

#define WAIT_DEFAULT_MS 60000
#define PAUSE_FIRST_MS 10
#define PAUSE_MOST_MS 250

/* Asks until the response is 200 or the time is over; the pauses between two requests grow. Returns
 * the last result. */
static int ask_until_ready(const char *address, uint64_t timeout_ms)
{
    uint64_t begin = clock_now_ms(), passed = 0, pause = PAUSE_FIRST_MS;

    for (;;) {
        uint64_t left = timeout_ms ? timeout_ms - passed : CLI_HEALTH_PATIENCE_MS;
        int rc =
            fetch_status(address, "/readyz",
                         left < CLI_HEALTH_PATIENCE_MS ? (unsigned)left : CLI_HEALTH_PATIENCE_MS);

        passed = clock_now_ms() - begin;
        if (rc == 200 || (timeout_ms && passed + pause >= timeout_ms))
            return rc;
        (void)poll(NULL, 0, (int)pause);
        passed = clock_now_ms() - begin;
        if (timeout_ms && passed >= timeout_ms)
            return rc;
        pause = 2 * pause < PAUSE_MOST_MS ? 2 * pause : PAUSE_MOST_MS;
    }
}

/* Parses "--timeout DURATION" and "--timeout=DURATION". */
static enum exit_code parse_wait(int argc, char **argv, uint64_t *ret_timeout_ms, FILE *err)
{
    static const struct str option = STR("--timeout=");
    struct str value;

    *ret_timeout_ms = WAIT_DEFAULT_MS;
    if (argc == 0)
        return EXIT_OK;
    if (!strcmp(argv[0], "--timeout")) {
        if (argc < 2)
            return cli_complain(err, "--timeout needs a duration such as 90s", "");
        value = str_from(argv[1]);
        argc--;
        argv++;
    } else if (str_starts(str_from(argv[0]), option)) {
        value = str_from(argv[0] + option.n);
    } else {
        return cli_complain(err, "wait: unknown argument", argv[0]);
    }
    if (argc > 1)
        return cli_complain(err, "unexpected argument", argv[1]);
    if (!units_duration(value, ret_timeout_ms))
        return cli_complain(err, "--timeout expects a duration such as 90s, not", value.p);
    return EXIT_OK;
}

int cli_wait(const struct cli *cli, FILE *out, FILE *err)
{
    uint64_t timeout_ms;
    enum exit_code result = parse_wait(cli->argc - 1, cli->argv + 1, &timeout_ms, err);
    char *address;

    if (result != EXIT_OK)
        return result;
    address = cli_admin_address(cli, err);
    if (!address)
        return EXIT_FAILED;
    result = tell_status(ask_until_ready(address, timeout_ms), "ready", address, out, err);
    free(address);
    return result;
}

/* --- reload ----------------------------------------------------------------------------------- */

#define REPLY_MAX (256 * 1024)
#define RELOAD_PATIENCE_MS 30000
#define SOCKETS "/proc/self/net/unix"
#define LISTENING "00010000" /* the field Flags of SOCKETS */

struct search {
    long pid;       /* the wanted process; 0: any */
    int fd;         /* the connection to the first one found; -1: none */
    unsigned found; /* the number of daemons found */
    struct buf pids;
    int error; /* errno, if a socket could not be created */
};

/* Whether the peer is the wanted daemon, and not a process of another user that pretends to be
 * one. */
static bool is_meant(struct search *s, int fd, long *ret_pid)
{
    struct ucred who;
    socklen_t size = sizeof(who);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
        return false;
    *ret_pid = who.pid;
    return s->pid ? who.pid == s->pid : geteuid() == 0 || who.uid == geteuid();
}

static void try_socket(struct search *s, struct str name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long pid = 0;

    if (fd < 0) {
        s->error = errno;
        return;
    }
    if (name.n >= sizeof(a.sun_path))
        name.n = sizeof(a.sun_path) - 1; /* not a name that retryd uses */
    memcpy(a.sun_path + 1, name.p, name.n);
    if (connect(fd, (struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + name.n)) < 0 ||
        !is_meant(s, fd, &pid)) {
        close(fd);
        return;
    }
    buf_printf(&s->pids, "%s%ld", s->found ? ", " : "", pid);
    if (s->found++ == 0)
        s->fd = fd;
    else
        close(fd);
}

/* Tries the socket of a line such as "0000000000000000: 00000002 00000000 00010000 0001 01 4711
 * @retryd-control/0123456789abcdef". */
static void try_line(struct search *s, const char *line)
{
    const char *name = strstr(line, " @" CONTROL_PREFIX), *end;

    if (!name || !strstr(line, " " LISTENING " "))
        return;
    name += 2;
    end = strchr(name, '\n');
    try_socket(s, (struct str){name, end ? (size_t)(end - name) : strlen(name)});
}

static int find(struct search *s)
{
    FILE *sockets = fopen(SOCKETS, "re");
    char line[512];

    if (!sockets)
        return -errno;
    while (fgets(line, sizeof(line), sockets))
        try_line(s, line);
    fclose(sockets);
    return s->error ? -s->error : 0;
}

/* Sends the request, and reads the whole reply. Returns 0 or -errno. */
static int ask(int fd, uint64_t until_ms, struct buf *ret)
{
    char room[4096];

    if (send(fd, CONTROL_REQUEST, strlen(CONTROL_REQUEST), MSG_NOSIGNAL) < 0)
        return -errno;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = clock_now_ms();
        int ready = now < until_ms ? poll(&p, 1, (int)(until_ms - now)) : 0;
        ssize_t n;

        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return ready < 0 ? -errno : -ETIMEDOUT;
        n = recv(fd, room, sizeof(room), 0);
        if (n < 0)
            return -errno;
        if (n == 0)
            return ret->failed ? -ENOMEM : 0;
        buf_add(ret, room, (size_t)n);
    }
}

/* Writes the reply. Its first line is the exit code, and the others are for the user. */
static enum exit_code tell(const struct buf *reply, FILE *out, FILE *err)
{
    struct str rest = buf_str(reply), code;
    uint64_t n;

    if (!str_next(&rest, '\n', &code) || !str_to_u64(code, &n) || n > EXIT_MAX) {
        fputs("retryd: the daemon ended before it replied, or is of another version\n", err);
        return EXIT_FAILED;
    }
    fprintf(n == EXIT_OK ? out : err, "%.*s", (int)rest.n, rest.n ? rest.p : "");
    return (enum exit_code)n;
}

static enum exit_code tell_not_found(const struct search *s, int error, FILE *err)
{
    if (error < 0)
        fprintf(err, "retryd: cannot look for a running retryd: %s\n", strerror(-error));
    else if (s->found > 1)
        fprintf(
            err,
            "retryd: several are running here, with the process IDs %.*s; use retryd reload PID\n",
            (int)s->pids.len, s->pids.p);
    else if (s->pid)
        fprintf(err, "retryd: process %ld is not a retryd that can be reached from here\n", s->pid);
    else
        fputs("retryd: no retryd is running here that this user may reload\n", err);
    return s->found > 1 ? EXIT_USAGE : EXIT_FAILED;
}

static enum exit_code reload_one(long pid, FILE *out, FILE *err)
{
    struct search s = {.pid = pid, .fd = -1};
    enum exit_code result;
    struct buf reply;
    int rc;

    buf_init(&s.pids, 4096);
    buf_init(&reply, REPLY_MAX);
    rc = find(&s);
    if (rc < 0 || s.found != 1) {
        result = tell_not_found(&s, rc, err);
    } else {
        rc = ask(s.fd, clock_now_ms() + RELOAD_PATIENCE_MS, &reply);
        if (rc == 0) {
            result = tell(&reply, out, err);
        } else {
            fprintf(err, "retryd: the daemon does not answer the request to reload: %s\n",
                    strerror(-rc));
            result = EXIT_FAILED;
        }
    }
    if (s.fd >= 0)
        close(s.fd);
    buf_deinit(&reply);
    buf_deinit(&s.pids);
    return result;
}

int cli_reload(const struct cli *cli, FILE *out, FILE *err)
{
    uint64_t pid = 0;

    if (cli->argc > 2)
        return (int)cli_complain(err, "unexpected argument", cli->argv[2]);
    if (cli->argc == 2 && (!str_to_u64(str_from(cli->argv[1]), &pid) || pid == 0 || pid > INT_MAX))
        return (int)cli_complain(err, "reload expects a process ID, not", cli->argv[1]);
    return (int)reload_one((long)pid, out, err);
}

/* --- status, top and explain ------------------------------------------------------------------ */

#define TEXT_MAX (1024 * 1024)
#define PATIENCE_MS 5000
#define EVERY_MS 1000

/* --- asking ----------------------------------------------------------------------------------- */

/* Gets a page. Returns EXIT_OK, or EXIT_FAILED after a line on `err`, which may be a 404's body. */
static enum exit_code get(const char *address, const char *path, struct buf *ret, FILE *err)
{
    int rc = fetch_text(address, path, PATIENCE_MS, ret);

    if (rc == 200 && !ret->failed)
        return EXIT_OK;
    if (rc == 404)
        fprintf(err, "retryd: %.*s", (int)ret->len, ret->len ? ret->p : "\n");
    else if (rc >= 0)
        fprintf(err, "retryd: %s answers %d\n", address, rc);
    else
        fprintf(err, "retryd does not answer: %s: %s\n", address, strerror(-rc));
    return EXIT_FAILED;
}

static int show_page(const struct cli *cli, const char *path, FILE *out, FILE *err)
{
    char *address = cli_admin_address(cli, err);
    enum exit_code result = EXIT_FAILED;
    struct buf text;

    buf_init(&text, TEXT_MAX);
    if (address)
        result = get(address, path, &text, err);
    if (result == EXIT_OK)
        fwrite(text.p, 1, text.len, out);
    buf_deinit(&text);
    free(address);
    return result;
}

int cli_status(const struct cli *cli, FILE *out, FILE *err)
{
    if (cli->argc > 1)
        return cli_complain(err, "status takes no argument, not", cli->argv[1]);
    return show_page(cli, "/status.txt", out, err);
}

int cli_explain(const struct cli *cli, FILE *out, FILE *err)
{
    char path[128];

    if (cli->argc != 2)
        return cli_complain(err, "explain expects the id of one request, as the log has it", "");
    for (const char *p = cli->argv[1]; *p; p++)
        if (!strchr("0123456789abcdefABCDEF-", *p) || p - cli->argv[1] > 64)
            return cli_complain(err, "this is no request's id:", cli->argv[1]);
    snprintf(path, sizeof(path), "/requests/%s.txt", cli->argv[1]);
    return show_page(cli, path, out, err);
}

/* --- top -------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* Draws the text from the upper left corner, each line cut at the terminal's width (in bytes that
 * begin a character), and clears the rest. */
static void draw(const struct buf *text, FILE *out)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    unsigned column = 0, row = 1;

    (void)ioctl(fileno(out), TIOCGWINSZ, &size);
    fputs("\033[H", out);
    for (size_t i = 0; i < text->len && row < size.ws_row; i++) {
        unsigned char c = (unsigned char)text->p[i];

        if (c == '\n') {
            fputs("\033[K\n", out);
            column = 0;
            row++;
        } else if ((c & 0xc0) == 0x80 ? column <= size.ws_col : ++column <= size.ws_col) {
            fputc(c, out);
        }
    }
    fputs("\033[J", out);
    fflush(out);
}

/* Waits for the next time to draw. Returns false if the user wants to leave. */
static bool wait_key(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;

    if (poll(&p, 1, EVERY_MS) > 0 && read(STDIN_FILENO, &key, 1) <= 0)
        return false;
    return !stopped && key != 'q' && key != 'Q' && key != 4;
}

/* Uses the terminal's alternate screen, without echo, and restores the normal one at the end. */
static enum exit_code watch_on_terminal(const char *address, FILE *out, FILE *err)
{
    struct sigaction on = {.sa_handler = on_signal}, before[2];
    struct termios was, raw;
    enum exit_code result;
    struct buf text;

    if (tcgetattr(STDIN_FILENO, &was) < 0)
        return EXIT_FAILED;
    sigaction(SIGINT, &on, &before[0]);
    sigaction(SIGTERM, &on, &before[1]);
    raw = was;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    fputs("\033[?1049h\033[?25l\033[2J", out);
    do {
        buf_init(&text, TEXT_MAX);
        result = get(address, "/status.txt", &text, err);
        if (result == EXIT_OK)
            draw(&text, out);
        buf_deinit(&text);
    } while (result == EXIT_OK && wait_key());
    fputs("\033[?25h\033[?1049l", out);
    fflush(out);
    tcsetattr(STDIN_FILENO, TCSANOW, &was);
    sigaction(SIGINT, &before[0], NULL);
    sigaction(SIGTERM, &before[1], NULL);
    return result;
}

int cli_top(const struct cli *cli, FILE *out, FILE *err)
{
    enum exit_code result;
    char *address;

    if (cli->argc > 1)
        return cli_complain(err, "top takes no argument, not", cli->argv[1]);
    if (!isatty(fileno(out)) || !isatty(STDIN_FILENO))
        return show_page(cli, "/status.txt", out, err);
    address = cli_admin_address(cli, err);
    result = address ? watch_on_terminal(address, out, err) : EXIT_FAILED;
    free(address);
    return result;
}
