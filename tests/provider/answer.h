/* One response of a script, as its JSON describes it. */
#ifndef PROVIDER_ANSWER_H
#define PROVIDER_ANSWER_H

#include "peek.h"
#include "program.h"

#include <cjson/cJSON.h>

enum preset {
    PRESET_NONE, /* explicit or wire */
    PRESET_AUTO,
    PRESET_CHAT,
    PRESET_CHAT_STREAM,
    PRESET_RESPONSES,
    PRESET_RESPONSES_STREAM,
    PRESET_COMPLETIONS,
    PRESET_COMPLETIONS_STREAM,
    PRESET_MESSAGES,
    PRESET_MESSAGES_STREAM,
    PRESET_GEMINI,
    PRESET_GEMINI_STREAM,
    PRESET_EMBEDDINGS,
    PRESET_MODELS,
    PRESET_MODEL,
    PRESET_ERROR,
    PRESET_OK
};

enum framing { FRAMING_AUTO, FRAMING_CHUNKED, FRAMING_LENGTH, FRAMING_CLOSE };
enum encoding { ENCODING_NONE, ENCODING_GZIP, ENCODING_DEFLATE };
enum limit_at { LIMIT_NONE, BEFORE_HEAD, AFTER_HEAD, AFTER_BYTES, AFTER_EVENTS, AFTER_DELTAS };
enum limit_how { LIMIT_RESET, LIMIT_FIN, LIMIT_SILENCE, LIMIT_PAUSE };

/* "cut" or "stall": where the response stops being what it should be, and how. */
struct limit {
    enum limit_at at;
    enum limit_how how;
    uint64_t count;
    uint32_t ms; /* before the cut, or how long the pause lasts */
};

enum { ANSWER_CACHE = 8, ANSWER_ERROR_MAX = 256 };

/* All of a request that can change the bytes of a response, so it is also the key of the cache. */
struct answer_key {
    enum preset preset; /* never PRESET_AUTO */
    bool head;          /* a HEAD request: no body */
    bool http10;
    bool keep_alive;
    bool base64;
    char model[PEEK_VALUE_MAX];
};

struct answer_slot {
    struct answer_key key;
    struct program *program;
};

/* The strings and lists belong to the script's JSON, which lives as long as the response. */
struct answer {
    enum preset preset;
    const char *text;
    const char *model;
    uint32_t events;
    uint32_t interval_ms;
    uint32_t first_delay_ms;
    bool usage;
    bool usage_set;
    bool done;
    bool finish;
    bool clock;
    const char *error_code;
    const char *error_message;
    const char *error_type;

    int status;
    const char *reason;
    const cJSON *headers;
    const cJSON *json;
    const cJSON *sse;
    const char *body;
    char *body_binary; /* from body_b64; owned */
    size_t body_len;
    uint64_t body_bytes;

    uint32_t delay_ms;
    uint32_t head_delay_ms;
    enum encoding encoding;
    enum framing framing;
    bool close;
    bool held;
    bool on_head;
    bool drain;
    bool early_hints;
    uint32_t pace_bytes;
    uint32_t pace_ms;
    struct limit limit;
    bool after;
    bool after_close;
    uint32_t after_ms;
    const char *after_send;
    const cJSON *trailers;

    struct program *wire;
    struct answer_slot cache[ANSWER_CACHE];
    unsigned next_slot;
};

/* Fills ret_answer from json, which must outlive it. On a mistake returns -1 with a message in
 * error and ret_answer released. */
int answer_parse(struct answer *ret_answer, const cJSON *json, char error[ANSWER_ERROR_MAX]);
/* The preset "auto" and nothing else. */
void answer_init_auto(struct answer *a);
void answer_deinit(struct answer *a);
/* The program for a request, composed at the first use. The caller unrefs it. key is completed. */
struct program *answer_program(struct answer *a, struct answer_key *key);

#endif
