/* Gemini's answers: one object, or the same shape again and again, each with a piece of the text. */
#include "scene.h"

static void put_candidate(struct scene *s, const char *finish)
{
    buf_str(s->out, "}],\"role\":\"model\"}");
    if (finish != NULL) {
        buf_printf(s->out, ",\"finishReason\":\"%s\"", finish);
    }
    buf_str(s->out, ",\"index\":0}],");
    if (s->a->usage) {
        buf_printf(s->out,
                   "\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":%u,"
                   "\"totalTokenCount\":%u},",
                   s->n, s->n + 9);
    }
    buf_printf(s->out, "\"modelVersion\":\"%s\",\"responseId\":\"gemini-%s\"}", s->model,
               NUMBER_MARK);
}

static void open_candidate(struct scene *s)
{
    buf_str(s->out, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":");
}

void gemini_whole(struct scene *s)
{
    body_begin(s->body);
    open_candidate(s);
    scene_text(s);
    put_candidate(s, "STOP");
    buf_str(s->out, "\n");
    body_end(s->body);
}

void gemini_stream(struct scene *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        scene_begin(s, true, i);
        buf_str(s->out, "data: ");
        open_candidate(s);
        scene_delta(s, i);
        put_candidate(s, NULL);
        scene_end(s);
    }
    if (s->a->finish) {
        scene_begin(s, false, 0);
        buf_str(s->out, "data: ");
        open_candidate(s);
        buf_str(s->out, "\"\"");
        put_candidate(s, "STOP");
        scene_end(s);
    }
}
