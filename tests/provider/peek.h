/* Reads "model", "stream" and "encoding_format" out of a JSON body as it flows by. */
#ifndef PROVIDER_PEEK_H
#define PROVIDER_PEEK_H

#include <stdbool.h>
#include <stddef.h>

enum { PEEK_VALUE_MAX = 128, PEEK_KEY_MAX = 24 };

enum peek_state {
    PEEK_START,         /* before the opening brace */
    PEEK_KEY_WAIT,      /* at the top level, a key comes next */
    PEEK_KEY,           /* inside a top-level key */
    PEEK_COLON,         /* between the key and its value */
    PEEK_STRING,        /* inside a top-level string value */
    PEEK_SCALAR,        /* inside a top-level number, true, false or null */
    PEEK_NESTED,        /* inside an object or array that is a top-level value */
    PEEK_NESTED_STRING, /* inside a string of such a value */
    PEEK_DONE           /* the object has ended, or this is no JSON object */
};

/* Takes constant memory for a body of any size. model is the JSON string's text, escapes kept. */
struct peek {
    enum peek_state state;
    bool escape;
    unsigned depth;
    size_t key_len;
    size_t value_len;
    char key[PEEK_KEY_MAX];
    char value[PEEK_VALUE_MAX];
    char model[PEEK_VALUE_MAX];
    bool stream;
    bool base64;
};

void peek_reset(struct peek *peek);
void peek_feed(struct peek *peek, const char *data, size_t len);

#endif
