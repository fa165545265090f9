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

void guard_words_find(struct str data, enum dialect dialect, struct guard_words *ret)
{
    const char *letters = kinds[dialect].letters;
    bytes16 a = bytes16_all(letters[0]), b = bytes16_all(letters[1]), c = bytes16_all(letters[2]);
    size_t i = 0;

    *ret = (struct guard_words){.found = 0};
    for (; i + 16 < data.n; i += 16) {
        bytes16 at = bytes16_load(data.p + i);
        bytes16 letter = (bytes16)(at == a) | (bytes16)(at == b) | (bytes16)(at == c);
        unsigned hits = bytes16_bits(letter & bytes16_are(bytes16_load(data.p + i + 1), '"'));

        for (; hits; hits &= hits - 1)
            look_at((struct str){data.p, i + (unsigned)__builtin_ctz(hits) + 2}, ret);
    }
    for (; i + 1 < data.n; i++)
        if (data.p[i + 1] == '"')
            look_at((struct str){data.p, i + 2}, ret);
    ret->found &= kinds[dialect].words;
}
