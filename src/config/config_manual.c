/* Writes the reference of the settings: for --help, and as the manual page of the file,
 * retryd.conf(5), in mdoc(7): the table of settings, after the rules for all of them. */
#include <string.h>

#include "config/config_private.h"

#define WIDTH 76 /* of a line; some readers of mdoc complain about more than 80 */

#define HELP_WIDTH 96

void config_row_describe(const struct config_row *row, struct buf *out)
{
    buf_printf(out, "%s (", row->help);
    config_value_kind(row, out);
    buf_addc(out, ')');
    if (row->zero_means)
        buf_printf(out, "; %s: %s", row->fallback[0] && row->max ? "0" : "empty", row->zero_means);
    if (row->restart)
        buf_add_str(out, STR("; a change needs a restart"));
}

/* --- for --help ------------------------------------------------------------------------------- */

/* Writes words in lines of up to HELP_WIDTH, each after `indent` spaces. */
static void put_wrapped(struct str text, int indent, FILE *out)
{
    size_t column = 0;
    struct str word;

    while (str_next(&text, ' ', &word)) {
        if (column && column + 1 + word.n > HELP_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            fprintf(out, "%*s", indent, "");
        else
            fputc(' ', out);
        column = (column ? column + 1 : (size_t)indent) + word.n;
        fprintf(out, "%.*s", (int)word.n, word.p);
    }
    fputc('\n', out);
}

void config_help(FILE *out)
{
    struct buf text;

    for (unsigned i = 0; i < config_section_count; i++) {
        const struct config_section_row *s = &config_sections[i];

        fprintf(out, "%s[%s%s]\n", i ? "\n" : "", s->name, s->named ? " NAME" : "");
        put_wrapped(str_from(s->help), 2, out);
        for (unsigned k = 0; k < config_row_count; k++) {
            const struct config_row *row = &config_rows[k];

            if (strcmp(row->section, s->name) != 0)
                continue;
            fprintf(out, "  %s%s =%s%s\n", row->key, config_row_is_prefix(row) ? "NAME" : "",
                    row->fallback[0] ? " " : "", row->fallback);
            buf_init(&text, CONFIG_VALUE_MAX);
            config_row_describe(row, &text);
            put_wrapped(buf_str(&text), 6, out);
            buf_deinit(&text);
        }
    }
}

/* --- as a manual page ------------------------------------------------------------------------- */

static const char beginning[] =
    ".Dd " RETRYD_DATE "\n"
    ".Dt RETRYD.CONF 5\n"
    ".Os\n"
    ".Sh NAME\n"
    ".Nm retryd.conf\n"
    ".Nd configuration of retryd\n"
    ".Sh DESCRIPTION\n"
    ".Xr retryd 1\n"
    "reads this file if its option\n"
    ".Fl c\n"
    "names it; the service reads\n"
    ".Pa /etc/retryd/retryd.conf .\n"
    "Every key is optional.\n"
    ".Ic retryd \\-c Ar FILE Ic \\-\\-check\n"
    "prints every problem in a file.\n"
    ".Pp\n"
    "A section is\n"
    ".Bq Ar name\n"
    "on a line of its own; the settings below it are lines of the form\n"
    ".Ar key No = Ar value .\n"
    "A line that starts with # or ; is a comment, and so is what follows a space\n"
    "and a ; after a value.\n"
    "A list is separated by commas, and may continue on indented lines.\n"
    "A line may have up to 198 bytes.\n"
    ".Pp\n"
    "Durations are 250ms, 30s, 1.5s, 10m, 2h and 1d; sizes are 512, 64K, 512M and\n"
    "2G, in powers of 1024; percentages are 20%.\n"
    ".Pp\n"
    "The file holds no upstream's key.\n"
    "Keys come from files, systemd credentials or the environment.\n"
    ".Sh SETTINGS\n";

static const char tail[] =
    ".Sh ENVIRONMENT\n"
    "A variable\n"
    ".Ev RETRYD_SECTION_KEY\n"
    "sets any key, such as\n"
    ".Ev RETRYD_RETRY_MAX_ATTEMPTS ,\n"
    "and replaces what the file says.\n"
    "For the section server,\n"
    ".Ev RETRYD_KEY\n"
    "is enough:\n"
    ".Ev RETRYD_LISTEN .\n"
    "In a section with a name it is\n"
    ".Ev RETRYD_UPSTREAM_NAME_KEY ;\n"
    "without the name it sets the first upstream:\n"
    ".Ev RETRYD_UPSTREAM_URL .\n"
    "Characters other than letters and digits become underscores.\n"
    "With\n"
    ".Ev _FILE\n"
    "behind its name, a variable names a file that holds the value.\n"
    "A variable that begins with\n"
    ".Ev RETRYD_\n"
    "and sets nothing is an error.\n"
    ".Sh FILES\n"
    ".Bl -tag -width Ds\n"
    ".It Pa /etc/retryd/retryd.conf\n"
    "The configuration of the service.\n"
    ".It Pa /etc/retryd/openai-key\n"
    "The key that the service gets as the credential openai\\-key.\n"
    ".It Pa /usr/share/doc/retryd/examples/retryd.conf\n"
    "All keys with their defaults.\n"
    ".El\n"
    ".Sh EXAMPLES\n"
    "The service's own key, more attempts for one model, and a second upstream for\n"
    "all:\n"
    ".Bd -literal -offset indent\n"
    "[upstream openai]\n"
    "url = https://api.openai.com/v1\n"
    "api_key_file = openai-key\n"
    "\n"
    "[upstream other]\n"
    "url = https://llm.example/v1\n"
    "api_key_env = OTHER_API_KEY\n"
    "\n"
    "[route patient]\n"
    "model = o*\n"
    "retry.max_attempts = 8\n"
    "\n"
    "[route all]\n"
    "upstreams = openai, other\n"
    ".Ed\n"
    ".Sh SEE ALSO\n"
    ".Xr retryd 1 ,\n"
    ".Xr systemd.exec 5\n";

/* Writes words in lines of up to WIDTH, each sentence on lines of its own, as mdoc wants it. */
static void put_text(struct str text, FILE *out)
{
    size_t column = 0;
    bool sentence = false;
    struct str word;

    while (str_next(&text, ' ', &word)) {
        if (column && (sentence || column + 1 + word.n > WIDTH)) {
            fputc('\n', out);
            column = 0;
        }
        if (column)
            fputc(' ', out);
        else if (word.p[0] == '.' || word.p[0] == '\'')
            fputs("\\&", out); /* else it would be a macro */
        fprintf(out, "%.*s", (int)word.n, word.p);
        column += word.n + 1;
        sentence = word.p[word.n - 1] == '.';
    }
    fputc('\n', out);
}

static void put_row(const struct config_row *row, FILE *out)
{
    struct buf text;

    fprintf(out, ".It Cm %s%s\n", row->key, config_row_is_prefix(row) ? "NAME" : "");
    buf_init(&text, CONFIG_VALUE_MAX);
    config_row_describe(row, &text);
    buf_addc(&text, '.');
    if (row->fallback[0])
        buf_printf(&text, " Default: %s", row->fallback);
    put_text(buf_str(&text), out);
    buf_deinit(&text);
}

void config_manual(FILE *out)
{
    fputs(beginning, out);
    for (unsigned i = 0; i < config_section_count; i++) {
        const struct config_section_row *s = &config_sections[i];

        fprintf(out, ".Ss Section %s%s\n", s->name, s->named ? " NAME" : "");
        put_text(str_from(s->help), out);
        fputs(".Bl -tag -width Ds\n", out);
        for (unsigned k = 0; k < config_row_count; k++) {
            if (!strcmp(config_rows[k].section, s->name))
                put_row(&config_rows[k], out);
        }
        fputs(".El\n", out);
    }
    fputs(tail, out);
}
