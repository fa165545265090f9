/* Checks each quote that follows the last letter of a word. */
#include "stream/guard_words.h"

#include "base/bytes16.h"

/* The words of each kind of stream, and their last letters. There are always three letters, so that
 * one loop serves all kinds. */
static const struct {
    char letters[3];
    unsigned words;
} kinds[] = {
    [DIALECT_CHAT] = {{'r', 'p', 'n'}, GUARD_WORD_ERROR | GUARD_WORD_BASE_RESP},
    [DIALECT_COMPLETIONS] = {{'r', 'p', 'n'}, GUARD_WORD_ERROR | GUARD_WORD_BASE_RESP},
    [DIALECT_RESPONSES] = {{'r', 'd', 'd'}, GUARD_WORD_ERROR | GUARD_WORD_FAILED},
    [DIALECT_MESSAGES] = {{'r', 'r', 'r'}, GUARD_WORD_ERROR},
    [DIALECT_GEMINI] = {{'r', 'r', 'r'}, GUARD_WORD_ERROR},
    [DIALECT_OTHER] = {{'r', 'd', 'e'}, GUARD_WORD_ERROR | GUARD_WORD_END},
};

/* `text` ends in a quote and has at least one byte before it. */
static void look_at(struct str text, struct guard_words *words)
{
    switch (text.p[text.n - 2]) {
    case 'r':
        if (str_ends(text, STR("\"error\"")))
            words->found |= GUARD_WORD_ERROR;
        break;
    case 'p':
        if (str_ends(text, STR("\"base_resp\"")))
            words->found |= GUARD_WORD_BASE_RESP;
        break;
    case 'n':
        if (str_ends(text, STR("\"finish_reason\"")) && words->reasons++ == 0)
            words->reason = text.p + text.n;
        break;
    case 'd':
        if (str_ends(text, STR(".failed\"")))
            words->found |= GUARD_WORD_FAILED;
        else if (str_ends(text, STR(".completed\"")))
            words->found |= GUARD_WORD_END;
        break;
    case 'e':
        if (str_ends(text, STR(".done\"")))
            words->found |= GUARD_WORD_END;
        break;
    default:
        break;
    }
}

/* Returns a bit for each of sixteen bytes that is one of the letters and has a quote behind it. */
static unsigned quotes_behind(const char *p, const bytes16 letters[3])
{
    bytes16 b = bytes16_load(p), next = bytes16_load(p + 1);
    bytes16 letter =
        (bytes16)(b == letters[0]) | (bytes16)(b == letters[1]) | (bytes16)(b == letters[2]);

    return bytes16_bits(letter & bytes16_are(next, '"'));
}

/* `hits` has a bit for each letter from position `at` on. */
static void look_at_each(struct str data, size_t at, unsigned hits, struct guard_words *words)
{
    for (; hits; hits &= hits - 1)
        look_at((struct str){data.p, at + (unsigned)__builtin_ctz(hits) + 2}, words);
}

void guard_words_find(struct str data, enum dialect dialect, struct guard_words *ret)
{
    const char *last = kinds[dialect].letters;
    bytes16 letters[] = {bytes16_all(last[0]), bytes16_all(last[1]), bytes16_all(last[2])};
    size_t i = 0;

    *ret = (struct guard_words){.found = 0};
    for (; i + 16 < data.n; i += 16)
        look_at_each(data, i, quotes_behind(data.p + i, letters), ret);
    if (data.n > 16) { /* the rest is read together with bytes before it */
        unsigned hits = quotes_behind(data.p + data.n - 17, letters);

        look_at_each(data, i, hits >> (i + 17 - data.n), ret);
    } else {
        for (; i + 1 < data.n; i++)
            if (data.p[i + 1] == '"')
                look_at((struct str){data.p, i + 2}, ret);
    }
    ret->found &= kinds[dialect].words;
}
