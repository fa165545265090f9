/* The commands status, top and explain: they show what a running daemon says of itself. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "edge/fetch.h"

#define TEXT_MAX (1024 * 1024)
#define PATIENCE_MS 5000
#define EVERY_MS 1000

/* --- asking ----------------------------------------------------------------------------------- */

/* Gets a page: EXIT_OK, or EXIT_FAILED after a line on `err`. A 404's body is such a line, too. */
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

/* Draws the text from the upper left corner, each line cut at the terminal's width (in bytes that begin a
 * character), and clears what was there. */
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

/* On the terminal's other screen, without echo; what was there comes back. */
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
