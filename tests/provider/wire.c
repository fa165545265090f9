/* Compiles "wire": a response written byte by byte. */
#include "wire.h"
#include "answer.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool complain(char *error, const char *what)
{
    snprintf(error, ANSWER_ERROR_MAX, "wire: %s", what);
    return false;
}

static bool compile_list(struct program *p, const cJSON *list, unsigned depth, char *error);

static bool compile_b64(struct program *p, const char *text, char *error)
{
    size_t len = strlen(text);
    unsigned char *bytes = must_alloc(len + 4);
    int n = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len);

    for (size_t i = len; n > 0 && i > 0 && text[i - 1] == '='; i--) {
        n--;
    }
    if (n >= 0 && len % 4 == 0) {
        program_send(p, bytes, (size_t)n);
    }
    free(bytes);
    return (n >= 0 && len % 4 == 0) || complain(error, "send_b64 is not base64");
}

/* Whether steps from..end write or wait, so that an endless loop of them is not a busy one. */
static bool takes_time(const struct program *p, size_t from)
{
    for (size_t i = from; i < p->n_ops; i++) {
        if (p->ops[i].kind != OP_LOOP && p->ops[i].kind != OP_LOOP_END) {
            return true;
        }
    }
    return false;
}

static bool compile_repeat(struct program *p, const cJSON *v, unsigned depth, char *error)
{
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(v, "count");
    const cJSON *ops = cJSON_GetObjectItemCaseSensitive(v, "ops");
    size_t start = p->n_ops;
    struct op *end;

    if (depth >= PROGRAM_LOOPS_MAX || !cJSON_IsNumber(count) || count->valuedouble < 0 ||
        count->valuedouble > 1e12) {
        return complain(error, "repeat needs a count (0: for ever), and at most 8 levels");
    }
    program_op(p, OP_LOOP)->start = (uint64_t)count->valuedouble;
    if (!compile_list(p, ops, depth + 1, error)) {
        return false;
    }
    if (!takes_time(p, start)) {
        return complain(error, "repeat has nothing to repeat");
    }
    end = program_op(p, OP_LOOP_END);
    end->off = start;
    p->ops[start].off = p->n_ops - 1;
    return true;
}

static bool compile_op(struct program *p, const cJSON *op, unsigned depth, char *error)
{
    const cJSON *v = cJSON_IsObject(op) && cJSON_GetArraySize(op) == 1 ? op->child : NULL;
    const char *name = v != NULL ? v->string : "";

    program_barrier(p);
    if (strcmp(name, "send") == 0 && cJSON_IsString(v)) {
        program_send(p, v->valuestring, strlen(v->valuestring));
    } else if (strcmp(name, "send_b64") == 0 && cJSON_IsString(v)) {
        return compile_b64(p, v->valuestring, error);
    } else if (strcmp(name, "delay_ms") == 0 && cJSON_IsNumber(v) && v->valuedouble >= 0 &&
               v->valuedouble < 1e9) {
        program_delay(p, (uint32_t)v->valuedouble);
    } else if (strcmp(name, "repeat") == 0) {
        return compile_repeat(p, v, depth, error);
    } else if (strcmp(name, "reset") == 0 && cJSON_IsTrue(v)) {
        program_op(p, OP_RESET);
    } else if (strcmp(name, "fin") == 0 && cJSON_IsTrue(v)) {
        program_op(p, OP_FIN);
    } else if (strcmp(name, "close") == 0 && cJSON_IsTrue(v)) {
        program_op(p, OP_CLOSE);
    } else if (strcmp(name, "silence") == 0 && cJSON_IsTrue(v)) {
        program_op(p, OP_SILENCE);
    } else {
        return complain(error, "each step is one of send, send_b64, delay_ms, repeat, reset, fin, "
                               "close, silence");
    }
    return true;
}

static bool compile_list(struct program *p, const cJSON *list, unsigned depth, char *error)
{
    const cJSON *op;

    if (!cJSON_IsArray(list)) {
        return complain(error, "must be a list of steps");
    }
    cJSON_ArrayForEach(op, list)
    {
        if (!compile_op(p, op, depth, error)) {
            return false;
        }
    }
    return true;
}

struct program *wire_compile(const cJSON *list, char *error)
{
    struct program *p = program_new();

    if (!compile_list(p, list, 0, error)) {
        program_unref(p);
        return NULL;
    }
    program_op(p, OP_END);
    program_seal(p);
    return p;
}
