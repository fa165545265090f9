/* The environment as entries of the configuration: RETRYD_RETRY_MAX_ATTEMPTS = 7.
 *
 * A variable is named RETRYD_SECTION_KEY, and RETRYD_KEY for [server]. For a section with a name it
 * is RETRYD_UPSTREAM_NAME_KEY; without the name it sets the first upstream. Letters are in upper
 * case, and everything but letters and digits is an underscore. A variable that ends in _FILE, and
 * does not name a setting with that, names a file that holds the value.
 *
 * The entries are like those of the file and replace them. Their mistakes are found and reported in
 * the same way, with the variable's name instead of a line number. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config_private.h"

#define PREFIX "RETRYD_"
#define NAME_MAX_LEN 128 /* of the part after the prefix */

/* The setting that a variable sets. */
struct setting {
    const char *section;
    char name[NAME_MAX_LEN]; /* "": none */
    char key[NAME_MAX_LEN];
    bool from_file; /* the value is the name of a file that holds it */
    size_t weight;  /* how good a guess it is: the longest key is the best, except for headers */
};

#define HEADER_WEIGHT (2 * NAME_MAX_LEN) /* a header's name may end like a key */
#define EXACT_WEIGHT (3 * NAME_MAX_LEN)

struct environment {
    struct config_text *text;
    struct config_report *report;
    unsigned line; /* of the current variable */
};

/* --- names ------------------------------------------------------------------------------------ */

/* Writes a name in a variable's form: "max_attempts" as "MAX_ATTEMPTS". */
static void to_variable(const char *name, char out[NAME_MAX_LEN])
{
    size_t n = 0;

    for (; name[n] && n + 1 < NAME_MAX_LEN; n++)
        out[n] = isalnum((unsigned char)name[n]) ? (char)toupper((unsigned char)name[n]) : '_';
    out[n] = '\0';
}

/* Writes the name of a new section, or of a header, from a variable's form. */
static void from_variable(struct str name, char separator, char out[NAME_MAX_LEN])
{
    size_t n = 0;

    for (; n < name.n && n + 1 < NAME_MAX_LEN; n++)
        out[n] = name.p[n] == '_' ? separator : (char)tolower((unsigned char)name.p[n]);
    out[n] = '\0';
}

/* Returns the name of the existing section of that kind that a variable means, or NULL. */
static const char *known_name(const struct config_text *text, const char *kind, struct str name)
{
    for (unsigned i = 0; i < text->count; i++) {
        const struct config_section *s = &text->sections[i];
        char variable[NAME_MAX_LEN];

        to_variable(s->name, variable);
        if (!strcmp(s->kind, kind) && str_eq(str_from(variable), name))
            return s->name;
    }
    return NULL;
}

static const char *first_upstream(const struct config_text *text)
{
    for (unsigned i = 0; i < text->count; i++)
        if (!strcmp(text->sections[i].kind, "upstream"))
            return text->sections[i].name;
    return "openai";
}

/* --- the setting of a variable ---------------------------------------------------------------- */

/* Takes `rest`, "AZURE_URL" or "URL", as the key of a section with a name, if it fits better than
 * the earlier guesses. An existing section is better than a new one. */
static void try_named(const struct environment *e, const char *kind, const char *key,
                      struct str rest, struct setting *s)
{
    char variable[NAME_MAX_LEN];
    const char *known = NULL;
    struct str name = {rest.p, 0};
    size_t weight, n;

    to_variable(key, variable);
    n = strlen(variable);
    if (str_eq(rest, str_from(variable))) {
        weight = strcmp(kind, "upstream") != 0 ? 0 : EXACT_WEIGHT;
        known = first_upstream(e->text);
    } else if (rest.n > n + 1 && str_ends(rest, str_from(variable)) &&
               rest.p[rest.n - n - 1] == '_') {
        name.n = rest.n - n - 1;
        known = known_name(e->text, kind, name);
        weight = n + (known ? NAME_MAX_LEN : 0);
    } else {
        return;
    }
    if (weight <= s->weight)
        return;
    s->section = kind;
    s->weight = weight;
    snprintf(s->key, sizeof s->key, "%s", key);
    if (known)
        snprintf(s->name, sizeof s->name, "%s", known);
    else
        from_variable(name, '_', s->name);
}

/* Takes "HEADER_X_ORG" or "AZURE_HEADER_X_ORG" as the header X-Org of an upstream. */
static void try_header(const struct environment *e, struct str rest, struct setting *s)
{
    static const struct str word = STR("HEADER_");
    ptrdiff_t at = str_starts(rest, word) ? 0 : str_ifind(rest, STR("_HEADER_"));
    struct str name = {rest.p, at > 0 ? (size_t)at : 0}, header;
    char text[NAME_MAX_LEN];
    const char *known;

    if (at < 0 || s->weight > HEADER_WEIGHT)
        return;
    header.p = rest.p + at + word.n + (at > 0 ? 1 : 0);
    header.n = (size_t)(rest.p + rest.n - header.p);
    s->from_file = str_ends(header, STR("_FILE"));
    header.n -= s->from_file ? strlen("_FILE") : 0;
    known = name.n ? known_name(e->text, "upstream", name) : first_upstream(e->text);
    from_variable(name, '_', text);
    s->section = "upstream";
    s->weight = HEADER_WEIGHT;
    snprintf(s->name, sizeof s->name, "%s", known ? known : text);
    from_variable(header, '-', text);
    snprintf(s->key, sizeof s->key, "header.%.100s", text);
}

static void try_section(const struct environment *e, const struct config_section_row *section,
                        struct str rest, struct setting *s)
{
    char key[CONFIG_KEY_MAX], variable[NAME_MAX_LEN];

    for (unsigned i = 0; i < config_row_count; i++) {
        if (config_row_is_prefix(&config_rows[i]) ||
            !config_row_key(section->name, &config_rows[i], key))
            continue;
        to_variable(key, variable);
        if (section->named) {
            try_named(e, section->name, key, rest, s);
        } else if (str_eq(rest, str_from(variable))) {
            s->section = section->name;
            s->weight = 1;
            snprintf(s->key, sizeof s->key, "%s", key);
        }
    }
    if (!strcmp(section->name, "upstream")) {
        try_named(e, section->name, "models", rest, s);
        try_header(e, rest, s);
    }
}

/* Finds the meaning of a name after RETRYD_. */
static bool find_setting(const struct environment *e, struct str rest, struct setting *ret)
{
    char prefix[NAME_MAX_LEN];

    *ret = (struct setting){0};
    for (unsigned i = 0; i < config_section_count; i++) {
        to_variable(config_sections[i].name, prefix);
        if (rest.n > strlen(prefix) && str_starts(rest, str_from(prefix)) &&
            rest.p[strlen(prefix)] == '_')
            try_section(e, &config_sections[i], str_after(rest, strlen(prefix) + 1), ret);
    }
    if (!ret->section)
        try_section(e, config_section_find("server"), rest, ret);
    if (ret->section || !str_ends(rest, STR("_FILE")))
        return ret->section;
    if (!find_setting(e, (struct str){rest.p, rest.n - strlen("_FILE")}, ret))
        return false;
    ret->from_file = true;
    return true;
}

/* --- unknown variables ------------------------------------------------------------------------ */

static void try_hint(const char *typed, const char *prefix, const char *key, size_t *far,
                     char best[NAME_MAX_LEN])
{
    char name[NAME_MAX_LEN], variable[NAME_MAX_LEN];

    snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] ? "_" : "", key);
    to_variable(name, variable);
    if (config_name_nearer(typed, variable, key, far))
        memcpy(best, variable, NAME_MAX_LEN);
}

/* Finds the variable that is nearest to a misspelt one; "" if none is near. */
static void find_hint(const struct config_text *text, struct str rest, char best[NAME_MAX_LEN])
{
    char typed[NAME_MAX_LEN], spelt[NAME_MAX_LEN], prefix[NAME_MAX_LEN];
    size_t far = CONFIG_FAR;

    best[0] = '\0';
    snprintf(spelt, sizeof spelt, "%.*s", (int)rest.n, rest.p);
    to_variable(spelt, typed);
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (config_row_is_prefix(row))
            continue;
        if (strcmp(row->section, "route") != 0)
            try_hint(typed, row->section, row->key, &far, best);
        if (!strcmp(row->section, "server"))
            try_hint(typed, "", row->key, &far, best);
        for (unsigned k = 0; k < text->count; k++) {
            snprintf(prefix, sizeof prefix, "%s_%.60s", text->sections[k].kind,
                     text->sections[k].name);
            if (!strcmp(text->sections[k].kind, row->section) && text->sections[k].name[0])
                try_hint(typed, prefix, row->key, &far, best);
        }
    }
}

static void unknown(const struct environment *e, struct str rest)
{
    struct config_place place = {.line = e->line};
    char hint[NAME_MAX_LEN];

    find_hint(e->text, rest, hint);
    if (hint[0])
        config_problem(e->report, FAULT_VALUE, place,
                       "unknown variable; did you mean " PREFIX "%s?", hint);
    else
        config_problem(e->report, FAULT_VALUE, place,
                       "unknown variable; expected " PREFIX "SECTION_KEY, such as " PREFIX
                       "RETRY_MAX_ATTEMPTS, or another prefix if it is none of retryd's");
}

/* Whether Kubernetes or Docker set the variable for a service whose name begins with retryd:
 * RETRYD_SERVICE_HOST, RETRYD_PORT=tcp://10.0.0.1:80, RETRYD_PORT_80_TCP_ADDR, and the same with
 * more words before. */
static bool is_of_a_service(struct str rest, const char *value)
{
    ptrdiff_t at = str_ifind(rest, STR("PORT_"));

    if (str_ends(rest, STR("SERVICE_HOST")) || str_ifind(rest, STR("SERVICE_PORT")) >= 0)
        return true;
    if (str_ends(rest, STR("PORT")) && strstr(value, "://"))
        return true;
    return at >= 0 && (size_t)at + 5 < rest.n && isdigit((unsigned char)rest.p[at + 5]) &&
           (str_ifind(rest, STR("_TCP")) > at || str_ifind(rest, STR("_UDP")) > at);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Reads a value from a file: its only line. */
static bool read_value(const struct environment *e, const char *path, struct buf *out)
{
    int rc = config_read_file(path, out);
    char quoted[CONFIG_QUOTED_MAX];

    while (rc == 0 && out->len && isspace((unsigned char)out->p[out->len - 1]))
        out->len--;
    if (rc == -ENOMEM)
        config_no_memory(e->report);
    else if (rc < 0)
        config_problem(e->report, FAULT_VALUE, (struct config_place){.line = e->line},
                       "%s cannot be read: %s", config_quote(str_from(path), quoted),
                       rc == -EFBIG ? "it is too large" : strerror(-rc));
    return rc == 0;
}

/* Applies the variable, unless another variable has set the same. */
static void put(const struct environment *e, const struct setting *s, struct str value)
{
    unsigned before = config_text_line(e->text, s->section, s->name, s->key);
    char title[2 * NAME_MAX_LEN], *copy;
    struct config_place place = {.line = e->line, .title = title, .key = s->key};
    int section;

    snprintf(title, sizeof title, "%s%s%s", s->section, s->name[0] ? " " : "", s->name);
    if (s->name[0] && !config_is_name(str_from(s->name))) {
        config_problem(e->report, FAULT_VALUE, place,
                       "expected letters, digits and underscores in the name of a section");
        return;
    }
    if (before >= CONFIG_LINE_VARIABLES) {
        config_problem(e->report, FAULT_VALUE, place, "is set by %s too; expected only one of them",
                       e->text->variables[before - CONFIG_LINE_VARIABLES]);
        return;
    }
    if (config_has_control(value)) {
        config_problem(e->report, FAULT_VALUE, place, "the value contains a control character%s",
                       s->from_file ? "; expected a file with one line" : "");
        return;
    }
    section = config_text_section(e->text, s->section, s->name, e->line);
    copy = str_dup(value);
    if (section < 0 || !copy)
        config_no_memory(e->report);
    else
        config_text_set(e->text, (unsigned)section, s->key, copy, e->line, e->report);
    if (copy)
        explicit_bzero(copy, value.n);
    free(copy);
}

static void take(const struct environment *e, struct str rest, const char *value)
{
    struct setting s;
    struct buf content;

    if (rest.n >= NAME_MAX_LEN || !find_setting(e, rest, &s)) {
        unknown(e, rest);
        return;
    }
    if (!s.from_file) {
        put(e, &s, str_trim(str_from(value)));
        return;
    }
    buf_init(&content, CONFIG_VALUE_MAX);
    if (read_value(e, value, &content))
        put(e, &s, str_trim(buf_str(&content)));
    if (content.p)
        explicit_bzero(content.p, content.len);
    buf_deinit(&content);
}

/* Whether "NAME=value" may be a setting. A variable with an empty value counts as not set. */
static bool is_candidate(const char *variable)
{
    const char *equals = strchr(variable, '=');
    struct str rest;

    if (strncmp(variable, PREFIX, strlen(PREFIX)) != 0 || !equals || !equals[1])
        return false;
    rest = (struct str){variable + strlen(PREFIX), (size_t)(equals - variable) - strlen(PREFIX)};
    return rest.n > 0 && !is_of_a_service(rest, equals + 1);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Returns the settings among the variables, sorted; NULL if there are none, or out of memory. */
static const char **find_variables(unsigned *ret_count, struct config_report *r)
{
    const char **found;
    unsigned n = 0;

    for (char **v = environ; v && *v; v++)
        n += is_candidate(*v);
    *ret_count = 0;
    if (n == 0)
        return NULL;
    found = calloc(n, sizeof *found);
    if (!found) {
        config_no_memory(r);
        return NULL;
    }
    for (char **v = environ; *v && *ret_count < n; v++)
        if (is_candidate(*v))
            found[(*ret_count)++] = *v;
    qsort(found, *ret_count, sizeof *found, by_name);
    return found;
}

void config_environment(struct config_text *text, struct config_report *r)
{
    struct environment e = {.text = text, .report = r};
    unsigned count;
    const char **found = find_variables(&count, r);

    text->variables = found ? calloc(count + 1, sizeof *text->variables) : NULL;
    if (found && !text->variables)
        config_no_memory(r);
    for (unsigned i = 0; text->variables && i < count; i++) {
        struct str name = {found[i], strcspn(found[i], "=")};

        text->variables[i] = str_dup(name);
        if (!text->variables[i]) {
            config_no_memory(r);
            break;
        }
        text->variable_count++;
        e.line = CONFIG_LINE_VARIABLES + i;
        take(&e, str_after(name, strlen(PREFIX)), found[i] + name.n + 1);
    }
    free(found);
}
