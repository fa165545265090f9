/* The command line: what is understood, what each response says and to whom, the exit codes,
 * --health. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "config_text.h"
#include "failcall.h"
#include "unit.h"

int socket(int family, int type, int protocol)
{
    int (*real)(int, int, int);

    REAL(socket);
    return fails("socket") ? -1 : real(family, type, protocol);
}

int getsockopt(int fd, int level, int option, void *to, socklen_t *n)
{
    int (*real)(int, int, int, void *, socklen_t *);

    REAL(getsockopt);
    return fails("getsockopt") ? -1 : real(fd, level, option, to, n);
}

ssize_t send(int fd, const void *from, size_t n, int flags)
{
    ssize_t (*real)(int, const void *, size_t, int);

    REAL(send);
    return fails("send") ? -1 : real(fd, from, n, flags);
}

/* Two streams that keep what was written to them. */
struct outputs {
    FILE *out, *err;
    char *out_text, *err_text;
    size_t out_size, err_size;
};

static void outputs_init(struct outputs *o)
{
    *o = (struct outputs){0};
    o->out = open_memstream(&o->out_text, &o->out_size);
    o->err = open_memstream(&o->err_text, &o->err_size);
    ck_assert(o->out && o->err);
}

static void outputs_close(struct outputs *o)
{
    ck_assert_int_eq(fclose(o->out), 0);
    ck_assert_int_eq(fclose(o->err), 0);
}

static void outputs_deinit(struct outputs *o)
{
    free(o->out_text);
    free(o->err_text);
}

/* --- parsing ---------------------------------------------------------------------------------- */

#define ARGS_MAX 8

/* Arguments are separated by a single space; a trailing one makes an empty argument. */
static enum exit_code parse(const char *line, char *store, size_t size, struct cli *ret_cli,
                            FILE *err)
{
    static char *args[ARGS_MAX]; /* a command keeps them */
    int n = 0;

    memset(args, 0, sizeof args);
    snprintf(store, size, "%s", line);
    for (char *p = store; p; n++) {
        ck_assert_int_lt(n, ARGS_MAX - 1);
        args[n] = p;
        p = strchr(p, ' ');
        if (p)
            *p++ = '\0';
    }
    return cli_parse(n, args, ret_cli, err);
}

START_TEST(what_is_understood)
{
    static const struct {
        const char *line;
        enum cli_mode mode;
        const char *config;
        const char *command;
    } lines[] = {
        {"retryd", CLI_SERVE, NULL, NULL},
        {"retryd -c f", CLI_SERVE, "f", NULL},
        {"retryd -cf", CLI_SERVE, "f", NULL},
        {"retryd --config f", CLI_SERVE, "f", NULL},
        {"retryd --config=f", CLI_SERVE, "f", NULL},
        {"retryd --log json", CLI_SERVE, NULL, NULL},
        {"retryd --check", CLI_CHECK, NULL, NULL},
        {"retryd --check -c f", CLI_CHECK, "f", NULL},
        {"retryd --check --check", CLI_CHECK, NULL, NULL},
        {"retryd -c f --dump-config", CLI_DUMP, "f", NULL},
        {"retryd --version", CLI_VERSION, NULL, NULL},
        {"retryd --help", CLI_HELP, NULL, NULL},
        {"retryd -h", CLI_HELP, NULL, NULL},
        {"retryd --health", CLI_HEALTH, NULL, NULL},
        {"retryd --ready", CLI_READY, NULL, NULL},
        {"retryd --manual", CLI_MANUAL, NULL, NULL},
        {"retryd -c f wait --timeout 1s", CLI_COMMAND, "f", "wait"},
        {"retryd --", CLI_SERVE, NULL, NULL},
        {"retryd reload", CLI_COMMAND, NULL, "reload"},
        {"retryd -c f reload 4711", CLI_COMMAND, "f", "reload"},
        {"retryd reload --help", CLI_COMMAND_HELP, NULL, "reload"},
    };

    for (size_t i = 0; i < COUNT(lines); i++) {
        struct cli cli = {0};
        struct outputs o;
        char store[256];

        outputs_init(&o);
        ck_assert_int_eq(parse(lines[i].line, store, sizeof store, &cli, o.err), EXIT_OK);
        outputs_close(&o);
        ck_assert_int_eq(cli.mode, lines[i].mode);
        ck_assert_pstr_eq(cli.config, lines[i].config);
        ck_assert_pstr_eq(cli.command ? cli.command->name : NULL, lines[i].command);
        ck_assert_uint_eq(o.err_size, 0);
        outputs_deinit(&o);
    }
}
END_TEST

START_TEST(what_is_not_understood)
{
    static const char *const lines[][2] = {
        {"retryd start", "unknown argument start"},
        {"retryd --check x", "unknown argument x"},
        {"retryd x --check", "unknown argument x"},
        {"retryd reload x", "reload expects a process ID, not x"},
        {"retryd reload 0", "reload expects a process ID, not 0"},
        {"retryd reload 4294967296", "reload expects a process ID, not 4294967296"},
        {"retryd reload 1 2", "unexpected argument 2"},
        {"retryd --check reload", "no option but -c may stand before the command reload"},
        {"retryd --daemon", "unknown option --daemon"},
        {"retryd --check=1", "unknown option --check=1"},
        {"retryd --he", "unknown option --he"},
        {"retryd -x", "unknown option -x"},
        {"retryd -xh", "unknown option -x"},
        {"retryd -\x1b", "unknown option -?"},
        {"retryd \x1b[2J", "unknown argument ?[2J"},
        {"retryd -c", "-c needs a file name"},
        {"retryd --config", "-c needs a file name"},
        {"retryd -c ", "-c needs a file name"},
        {"retryd -c a -c b", "-c was given twice; expected one file"},
        {"retryd --log", "--log needs auto, pretty, logfmt or json"},
        {"retryd --log file", "--log expects auto, pretty, logfmt or json, not file"},
        {"retryd --log json run x",
         "--log FORMAT cannot be used with a command or an option such as --check"},
        {"retryd --check --health",
         "only one of --check, --dump-config, --health, --ready, --manual, --version and --help can be used at a time"},
    };

    for (size_t i = 0; i < COUNT(lines); i++) {
        struct cli cli = {.mode = CLI_DUMP};
        char store[256], wanted[256];
        struct outputs o;
        int rc;

        outputs_init(&o);
        rc = (int)parse(lines[i][0], store, sizeof store, &cli, o.err);
        if (rc == EXIT_OK) { /* the command itself finds it */
            ck_assert_int_eq(cli.mode, CLI_COMMAND);
            rc = cli_run_mode(&cli, NULL, o.out, o.err);
            cli.mode = CLI_DUMP;
        }
        ck_assert_int_eq(rc, EXIT_USAGE);
        outputs_close(&o);
        snprintf(wanted, sizeof wanted, "retryd: %s; see retryd --help\n", lines[i][1]);
        ck_assert_str_eq(o.err_text, wanted);
        ck_assert_int_eq(cli.mode, CLI_DUMP); /* untouched */
        outputs_deinit(&o);
    }
}
END_TEST

/* --- answers ---------------------------------------------------------------------------------- */

static int answer(enum cli_mode mode, const char *config, struct outputs *o)
{
    static const char *const libraries[] = {"libone 1.2", "libtwo 3", NULL};
    struct cli cli = {.mode = mode, .config = config};
    int rc;

    outputs_init(o);
    rc = cli_run_mode(&cli, libraries, o->out, o->err);
    outputs_close(o);
    return rc;
}

static void answers(enum cli_mode mode, const char *config, enum exit_code rc, const char *out,
                    const char *err)
{
    struct outputs o;

    ck_assert_int_eq(answer(mode, config, &o), rc);
    ck_assert_str_eq(o.out_text, out);
    ck_assert_str_eq(o.err_text, err);
    outputs_deinit(&o);
}

static void write_config(const char *text)
{
    config_text_write("t.conf", text, strlen(text));
}

START_TEST(check_says_what_is_wrong_or_ok)
{
    answers(CLI_CHECK, NULL, EXIT_OK, "defaults: ok\n", "");
    write_config("[server]\nspool_dir = /x\n");
    answers(
        CLI_CHECK, "t.conf", EXIT_OK,
        "t.conf: ok\n"
        "t.conf:2: [server] spool_dir: cannot create a file in \"/x\" (No such file or directory); requests with bodies larger than memory_body will get 507\n",
        "");
    write_config("[log]\nlevel = x\n");
    answers(CLI_CHECK, "t.conf", EXIT_CONFIG, "",
            "t.conf:2: [log] level: found \"x\"; expected debug, info, warn or error\n");
}
END_TEST

START_TEST(each_kind_of_problem_has_its_code)
{
    answers(CLI_CHECK, "missing.conf", EXIT_CONFIG, "",
            "missing.conf: cannot be read: No such file or directory\n");
    write_config("[upstream openai]\napi_key_file = ./missing\n");
    answers(CLI_DUMP, "t.conf", EXIT_KEY_FILE, "",
            "t.conf:2: [upstream openai] api_key_file: \"./missing\" cannot be read: No such file "
            "or directory\n");
    write_config("[route r]\nupstreams = azure\n");
    answers(CLI_CHECK, "t.conf", EXIT_NO_UPSTREAM, "",
            "t.conf:2: [route r] upstreams: found \"azure\"; expected names of [upstream] sections "
            "(openai)\n");
    ck_assert_int_eq(exit_for(0), EXIT_OK);
    ck_assert_int_eq(exit_for(-EADDRINUSE), EXIT_ADDRESS_IN_USE);
    ck_assert_int_eq(exit_for(EACCES), EXIT_PERMISSION);
    ck_assert_int_eq(exit_for(-EPERM), EXIT_PERMISSION);
    ck_assert_int_eq(exit_for(-EINVAL), EXIT_CONFIG);
    ck_assert_int_eq(exit_for(-ENOMEM), EXIT_FAILED);
}
END_TEST

/* Root may read everything: as nobody, to whom even the folder is closed. */
START_TEST(a_forbidden_file_is_a_matter_of_permission)
{
    char path[4096];
    struct outputs o;

    write_config("");
    ck_assert_int_eq(chmod("t.conf", 0), 0);
    ck_assert_ptr_nonnull(getcwd(path, sizeof path - 8));
    snprintf(path + strlen(path), 8, "/t.conf");
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    ck_assert_int_eq(answer(CLI_CHECK, path, &o), EXIT_PERMISSION);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    ck_assert_ptr_nonnull(strstr(o.err_text, "/t.conf: cannot be read: Permission denied\n"));
    outputs_deinit(&o);
}
END_TEST

START_TEST(dump_and_load)
{
    struct outputs o;
    enum exit_code rc;
    struct config *c;

    ck_assert_int_eq(answer(CLI_DUMP, NULL, &o), EXIT_OK);
    ck_assert_ptr_nonnull(strstr(o.out_text, "\n[retry]\nmax_attempts = 5\n"));
    ck_assert_uint_eq(o.err_size, 0);
    outputs_deinit(&o);
    outputs_init(&o);
    c = cli_load(NULL, NULL, o.err, &rc);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(rc, EXIT_OK);
    config_unref(c);
    ck_assert_ptr_null(cli_load("missing.conf", NULL, o.err, &rc));
    ck_assert_int_eq(rc, EXIT_CONFIG);
    outputs_close(&o);
    ck_assert_str_eq(o.err_text, "missing.conf: cannot be read: No such file or directory\n");
    outputs_deinit(&o);
}
END_TEST

START_TEST(version_names_the_libraries)
{
    struct cli cli = {.mode = CLI_VERSION};
    struct outputs o;

    answers(CLI_VERSION, NULL, EXIT_OK, "retryd " RETRYD_VERSION " (libone 1.2, libtwo 3)\n", "");
    outputs_init(&o);
    ck_assert_int_eq(cli_run_mode(&cli, NULL, o.out, o.err), EXIT_OK);
    outputs_close(&o);
    ck_assert_str_eq(o.out_text, "retryd " RETRYD_VERSION "\n");
    outputs_deinit(&o);
}
END_TEST

START_TEST(manual_has_each_key)
{
    struct outputs o;

    ck_assert_int_eq(answer(CLI_MANUAL, NULL, &o), EXIT_OK);
    ck_assert(str_starts(str_from(o.out_text), STR(".Dd ")));
    ck_assert_ptr_nonnull(strstr(o.out_text, "\n.Ss Section retry\n"));
    ck_assert_ptr_nonnull(strstr(o.out_text, "\n.It Cm max_attempts\nattempts per request,"));
    ck_assert_ptr_nonnull(strstr(o.out_text, "\n.It Cm header.NAME\n"));
    outputs_deinit(&o);
}
END_TEST

/* The usage stands on the first screen, and the keys follow. */
START_TEST(help_starts_with_one_screen)
{
    static const char *const options[] = {"-c, --config FILE", "--check",   "--dump-config",
                                          "--health",          "--version", "-h, --help"};
    struct outputs o;
    char code[16];
    unsigned lines = 0;
    const char *keys;

    ck_assert_int_eq(answer(CLI_HELP, NULL, &o), EXIT_OK);
    keys = strstr(o.out_text, "\n[server]\n");
    ck_assert_ptr_nonnull(keys);
    for (const char *p = o.out_text; p < keys; p++)
        lines += *p == '\n';
    ck_assert_uint_le(lines, 45);
    for (size_t i = 0; i < COUNT(options); i++) {
        const char *at = strstr(o.out_text, options[i]);

        ck_assert_msg(at && at < keys, "%s is not on the first screen", options[i]);
    }
    for (int i = EXIT_OK; i <= EXIT_NO_UPSTREAM; i++) {
        snprintf(code, sizeof code, "  %d  ", i);
        ck_assert_ptr_nonnull(strstr(o.out_text, code));
    }
    ck_assert_uint_eq(o.err_size, 0);
    outputs_deinit(&o);
}
END_TEST

/* What a command does is on a screen of its own. */
START_TEST(each_command_has_its_help)
{
    char store[64];
    struct outputs o;
    struct cli cli;

    outputs_init(&o);
    ck_assert_int_eq(parse("retryd reload --help", store, sizeof store, &cli, o.err), EXIT_OK);
    ck_assert_int_eq(cli_run_mode(&cli, NULL, o.out, o.err), EXIT_OK);
    outputs_close(&o);
    ck_assert_msg(str_starts(str_from(o.out_text), STR("Usage: retryd reload [PID]\n\nMake the")),
                  "%s", o.out_text);
    outputs_deinit(&o);
}
END_TEST

START_TEST(a_full_disk_is_a_failure)
{
    struct cli cli = {.mode = CLI_HELP};
    FILE *full = fopen("/dev/full", "w");
    struct outputs o;

    ck_assert_ptr_nonnull(full);
    outputs_init(&o);
    ck_assert_int_eq(cli_run_mode(&cli, NULL, full, o.err), EXIT_FAILED);
    outputs_close(&o);
    fclose(full);
    ck_assert_str_eq(o.err_text, "retryd: cannot write: No space left on device\n");
    outputs_deinit(&o);
}
END_TEST

/* --- --health --------------------------------------------------------------------------------- */

/* Serves one connection: reads the request, then writes `reply` byte by byte and closes; without a
 * reply it waits until the client goes away. */
struct admin {
    pthread_t thread;
    int listener;
    const char *reply;
    char request[512];
    char address[128];
};

static void *serve(void *arg)
{
    struct admin *a = arg;
    int fd = accept(a->listener, NULL, NULL);
    size_t n = 0;
    ssize_t got;

    while (fd >= 0 && !strstr(a->request, "\r\n\r\n") && n < sizeof a->request - 1) {
        got = read(fd, a->request + n, sizeof a->request - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    for (const char *p = a->reply; p && *p && send(fd, p, 1, MSG_NOSIGNAL) == 1; p++)
        continue;
    if (!a->reply)
        (void)!read(fd, a->request, 1);
    close(fd);
    return NULL;
}

static void admin_start(struct admin *a, const char *reply, bool on_unix)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "keys"};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = on_unix ? (void *)&un : (void *)&in;
    socklen_t size = on_unix ? sizeof un : sizeof in;
    char folder[64];

    *a = (struct admin){.reply = reply};
    config_text_folder();
    a->listener = socket(on_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(a->listener, 0);
    ck_assert_int_eq(bind(a->listener, address, size), 0);
    ck_assert_int_eq(listen(a->listener, 1), 0);
    ck_assert_int_eq(getsockname(a->listener, address, &size), 0);
    if (on_unix)
        snprintf(a->address, sizeof a->address, "unix:%s/keys", getcwd(folder, sizeof folder));
    else
        snprintf(a->address, sizeof a->address, "127.0.0.1:%u", ntohs(in.sin_port));
    ck_assert_int_eq(pthread_create(&a->thread, NULL, serve, a), 0);
}

/* Asks for the health at the address, as the listener has it or as `address` says. */
static void health(struct admin *a, const char *address, enum exit_code wanted, const char *said)
{
    unsigned patience_ms = a->reply ? 10000 : 50;
    struct outputs o;

    outputs_init(&o);
    ck_assert_int_eq(cli_health(address ? address : a->address, false, patience_ms, o.out, o.err),
                     wanted);
    outputs_close(&o);
    ck_assert_int_eq(pthread_join(a->thread, NULL), 0);
    close(a->listener);
    ck_assert_msg(strstr(wanted ? o.err_text : o.out_text, said) != NULL, "%s%s", o.out_text,
                  o.err_text);
    ck_assert_uint_eq(wanted ? o.out_size : o.err_size, 0);
    outputs_deinit(&o);
}

START_TEST(health_is_what_healthz_answers)
{
    static const struct {
        const char *reply;
        enum exit_code rc;
        const char *said;
    } replies[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", EXIT_OK,
         "retryd is healthy: 127.0.0.1:"},
        {"HTTP/1.1 503 Service Unavailable\r\n\r\n", EXIT_FAILED, " answers 503\n"},
        {"HTTP/1.1 200", EXIT_FAILED, "retryd does not answer: 127.0.0.1:"},
        {"", EXIT_FAILED, "retryd does not answer: 127.0.0.1:"},
        {"SSH-2.0-x y\r\n", EXIT_FAILED, "Protocol error"},
        {"HTTP/1.1 xyz\r\n", EXIT_FAILED, "Protocol error"},
        {NULL, EXIT_FAILED, "Connection timed out"},
    };

    for (size_t i = 0; i < COUNT(replies); i++) {
        struct admin a;

        admin_start(&a, replies[i].reply, false);
        health(&a, NULL, replies[i].rc, replies[i].said);
    }
}
END_TEST

START_TEST(health_by_every_kind_of_address)
{
    static const char *const hosts[] = {"0.0.0.0", "localhost", "[::ffff:127.0.0.1]"};
    static const char ok[] = "HTTP/1.1 200 OK\r\n\r\n";
    struct admin a;

    ck_assert_int_eq(setenv("http_proxy", "http://127.0.0.1:9", 1), 0); /* is not asked */
    for (size_t i = 0; i < COUNT(hosts); i++) {
        char address[160];

        admin_start(&a, ok, false);
        snprintf(address, sizeof address, "%s%s", hosts[i], strchr(a.address, ':'));
        health(&a, address, EXIT_OK, "retryd is healthy");
        ck_assert_str_eq(a.request, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
                                    "Connection: close\r\n\r\n");
    }
    admin_start(&a, ok, true);
    health(&a, NULL, EXIT_OK, "retryd is healthy: unix:/");
}
END_TEST

START_TEST(health_with_nobody_there)
{
    static const char *const addresses[] = {"off", "127.0.0.1:0", "unix:/nonexistent/socket"};

    for (size_t i = 0; i < COUNT(addresses); i++) {
        struct outputs o;

        outputs_init(&o);
        ck_assert_int_eq(cli_health(addresses[i], false, 1000, o.out, o.err), EXIT_FAILED);
        outputs_close(&o);
        ck_assert_ptr_nonnull(strstr(o.err_text, addresses[i]));
        outputs_deinit(&o);
    }
    write_config("[admin]\nlisten = off\n");
    answers(CLI_HEALTH, "t.conf", EXIT_FAILED, "",
            "retryd: there is no admin address to ask: [admin] listen is off\n");
    /* 0 and 1 are all that a container's health check knows. */
    write_config("[admin]\nlisten = x\n");
    answers(CLI_HEALTH, "t.conf", EXIT_FAILED, "",
            "t.conf:2: [admin] listen: found \"x\"; expected ADDRESS:PORT, [IPV6]:PORT or "
            "unix:/PATH\n");
}
END_TEST

/* A daemon's control socket, of this process: accepts once, and sends the reply, or ends without
 * reading. */
struct control_end {
    int fd;
    const char *reply; /* NULL: none, and what came is not read */
};

static void *serve_control(void *arg)
{
    struct control_end *c = arg;
    int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
    char request[64];

    if (c->reply && recv(fd, request, sizeof request, 0) > 0)
        (void)!write(fd, c->reply, strlen(c->reply));
    else if (!c->reply)
        (void)!recv(fd, request, 1, MSG_PEEK); /* the request is there */
    close(fd);
    return NULL;
}

static void reload(const char *reply, enum exit_code rc, const char *out, const char *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n =
        snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "retryd-control/%016x", (unsigned)getpid());
    struct control_end c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .reply = reply};
    char pid[16], name[] = "reload", *argv[] = {name, pid, NULL};
    struct cli cli = {.argc = 2, .argv = argv};
    struct outputs o;
    pthread_t thread;

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    ck_assert_int_eq(bind(c.fd, (struct sockaddr *)&a,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
                     0);
    ck_assert_int_eq(listen(c.fd, 1), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, serve_control, &c), 0);
    outputs_init(&o);
    ck_assert_int_eq(cli_reload(&cli, o.out, o.err), (int)rc);
    outputs_close(&o);
    pthread_join(thread, NULL);
    close(c.fd);
    ck_assert_str_eq(o.out_text, out);
    ck_assert_msg(strstr(o.err_text, err) != NULL, "%s", o.err_text);
    outputs_deinit(&o);
}

/* A daemon that is there, while one call fails. */
START_TEST(reload_tells_why_it_cannot_ask)
{
    static const struct {
        const char *function;
        int error;
        bool by_pid;
        const char *err;
    } faults[] = {
        {"socket", EMFILE, true, "retryd: cannot look for a running retryd: Too many open files\n"},
        {"getsockopt", ENOPROTOOPT, false,
         "retryd: no retryd is running here that this user may reload\n"},
        {"send", EPIPE, true,
         "retryd: the daemon does not answer the request to reload: Broken pipe\n"},
    };
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n =
        snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "retryd-control/%016x", (unsigned)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char pid[16], name[] = "reload", *argv[] = {name, pid, NULL};

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
                     0);
    ck_assert_int_eq(listen(fd, 8), 0);
    for (size_t i = 0; i < COUNT(faults); i++) {
        struct cli cli = {.argc = faults[i].by_pid ? 2 : 1, .argv = argv};
        struct outputs o;
        int rc;

        outputs_init(&o);
        fail_with = faults[i].error;
        failing = faults[i].function;
        rc = cli_reload(&cli, o.out, o.err);
        failing = NULL;
        outputs_close(&o);
        ck_assert_int_eq(rc, EXIT_FAILED);
        ck_assert_str_eq(o.out_text, "");
        ck_assert_str_eq(o.err_text, faults[i].err);
        outputs_deinit(&o);
    }
    close(fd);
}
END_TEST

START_TEST(reload_tells_what_the_daemon_says)
{
    reload("0\nreloaded\n", EXIT_OK, "reloaded\n", "");
    reload("3\nline 4 is wrong\n", EXIT_CONFIG, "", "line 4 is wrong\n");
    reload("99\n", EXIT_FAILED, "",
           "retryd: the daemon ended before it replied, or is of another version\n");
    reload("", EXIT_FAILED, "", "retryd: the daemon ended before it replied");
    reload(NULL, EXIT_FAILED, "",
           "retryd: the daemon does not answer the request to reload: Connection reset by peer\n");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "cli");

    tcase_add_test(all, what_is_understood);
    tcase_add_test(all, what_is_not_understood);
    tcase_add_test(all, check_says_what_is_wrong_or_ok);
    tcase_add_test(all, each_kind_of_problem_has_its_code);
    tcase_add_test(all, a_forbidden_file_is_a_matter_of_permission);
    tcase_add_test(all, dump_and_load);
    tcase_add_test(all, version_names_the_libraries);
    tcase_add_test(all, manual_has_each_key);
    tcase_add_test(all, help_starts_with_one_screen);
    tcase_add_test(all, each_command_has_its_help);
    tcase_add_test(all, a_full_disk_is_a_failure);
    tcase_add_test(all, health_is_what_healthz_answers);
    tcase_add_test(all, health_by_every_kind_of_address);
    tcase_add_test(all, health_with_nobody_there);
    tcase_add_test(all, reload_tells_why_it_cannot_ask);
    tcase_add_test(all, reload_tells_what_the_daemon_says);
}
