/* Reads a PEM text line by line. */
#include "base/pem.h"

#include <ctype.h>

static const struct str dashes = STR("-----"), encrypted = STR("ENCRYPTED");

/* Reads the label X of a line "-----BEGIN X-----", where `word` is "BEGIN ". Returns false for any
 * other line. */
static bool boundary(struct str line, struct str word, struct str *ret_label)
{
    size_t around = 2 * dashes.n + word.n;

    if (line.n < around || !str_starts(line, dashes) || !str_ends(line, dashes))
        return false;
    if (!str_starts((struct str){line.p + dashes.n, line.n - dashes.n}, word))
        return false;
    *ret_label = (struct str){line.p + dashes.n + word.n, line.n - around};
    return true;
}

/* Whether a line is base64, or one of the header fields in front of it (RFC 1421, 4.6). */
static bool is_body(struct str line)
{
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];

        if (c == ':')
            return true;
        if (!isalnum(c) && c != '+' && c != '/' && c != '=' && c != '-')
            return false;
    }
    return true;
}

struct pem pem_look(struct str text)
{
    struct pem p = {.broken = false};
    struct str line, label, open = {NULL, 0};
    bool inside = false;

    while (str_next(&text, '\n', &line)) {
        if (boundary(line, STR("BEGIN "), &label)) {
            p.broken |= inside;
            inside = true;
            open = label;
            if (str_ends(label, STR("CERTIFICATE")))
                p.certificates++;
            if (str_ends(label, STR("PRIVATE KEY"))) {
                p.keys++;
                p.encrypted |= str_starts(label, encrypted);
            }
        } else if (boundary(line, STR("END "), &label)) {
            p.broken |= !inside || !str_eq(label, open);
            inside = false;
        } else if (inside) {
            p.broken |= !is_body(line);
            p.encrypted |= str_istarts(line, STR("Proc-Type:")) && str_ifind(line, encrypted) >= 0;
        }
    }
    p.broken |= inside;
    return p;
}
