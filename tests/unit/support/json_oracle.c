/* Walks over a text, however broken, and looks for what cJSON reads in its own way. */
#include "json_oracle.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdlib.h>

#include "http/json.h"

static size_t digits(struct str s, size_t i)
{
    size_t n = 0;

    while (i + n < s.n && isdigit((unsigned char)s.p[i + n]))
        n++;
    return n;
}

/* Whether the run of `n` characters at `i`, of which numbers are made, is one by RFC 8259. */
static bool plain_number(struct str s, size_t i, size_t n)
{
    size_t end = i + n, some;

    if (n > 63)
        return false;
    if (i < end && s.p[i] == '-')
        i++;
    some = digits(s, i);
    if (some == 0 || (some > 1 && s.p[i] == '0'))
        return false;
    i += some;
    if (i < end && s.p[i] == '.') {
        some = digits(s, i + 1);
        if (some == 0)
            return false;
        i += 1 + some;
    }
    if (i < end && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < end && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        some = digits(s, i);
        if (some == 0)
            return false;
        i += some;
    }
    return i == end;
}

/* \u at `i`: four digits, and no half of a pair. */
static bool plain_escape(struct str s, size_t i)
{
    char hex[5] = {0};

    if (s.n - i < 6)
        return false;
    memcpy(hex, s.p + i + 2, 4);
    if (strspn(hex, "0123456789abcdefABCDEF") != 4)
        return false;
    unsigned long code = strtoul(hex, NULL, 16);
    return code < 0xd800 || code > 0xdfff;
}

/* From behind the opening quote to behind the closing one; false where something is special. */
static bool plain_string(struct str s, size_t *i)
{
    for (; *i < s.n; (*i)++) {
        char c = s.p[*i];
        if (c == '"') {
            (*i)++;
            return true;
        }
        if ((unsigned char)c < 0x20)
            return false;
        if (c == '\\' && *i + 1 < s.n) {
            if (s.p[*i + 1] == 'u' && !plain_escape(s, *i))
                return false;
            if ((unsigned char)s.p[*i + 1] < 0x20)
                return false;
            (*i)++;
        }
    }
    return true;
}

bool json_oracle_comparable(struct str s)
{
    static const char number[] = "0123456789+-.eE";
    size_t depth = 0;

    for (size_t i = 0; i < s.n;) {
        char c = s.p[i];
        size_t n = 0;
        if (c == '"') {
            i++;
            if (!plain_string(s, &i))
                return false;
            continue;
        }
        if (((unsigned char)c < 0x20 && (!c || !strchr("\t\r\n", c))) || c == 'N' || c == 'I')
            return false;
        depth += c == '[' || c == '{';
        if (depth > JSON_STREAM_DEPTH)
            return false;
        if (c == '-' || isdigit((unsigned char)c)) {
            while (i + n < s.n && s.p[i + n] && strchr(number, s.p[i + n]))
                n++;
            if (!plain_number(s, i, n))
                return false;
        }
        i += n ? n : 1;
    }
    return true;
}

bool json_oracle_valid(struct str text)
{
    char *copy = malloc(text.n + 1);

    if (!copy)
        abort();
    if (text.n > 0)
        memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    cJSON *tree = cJSON_ParseWithLengthOpts(copy, text.n + 1, NULL, 1);
    cJSON_Delete(tree);
    free(copy);
    return tree != NULL;
}

static void turn(cJSON *tree)
{
    cJSON *turned = cJSON_CreateArray(), *child;

    while (cJSON_IsObject(tree) && (child = tree->child) != NULL)
        cJSON_InsertItemInArray(turned, 0, cJSON_DetachItemViaPointer(tree, child));
    if (turned->child) {
        tree->child = turned->child;
        turned->child = NULL;
    }
    cJSON_Delete(turned);
    cJSON_ArrayForEach(child, tree) turn(child);
}

bool json_oracle_turned(struct str text, char **ret_straight, char **ret_turned)
{
    cJSON *tree = cJSON_ParseWithLength(text.p, text.n);

    if (!tree)
        return false;
    *ret_straight = cJSON_PrintUnformatted(tree);
    turn(tree);
    *ret_turned = cJSON_Print(tree);
    cJSON_Delete(tree);
    return true;
}
