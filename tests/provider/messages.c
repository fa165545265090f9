/* Anthropic's messages: one object, or the events that build it up. */
#include "scene.h"

static void put_message(struct scene *s, bool full)
{
    buf_printf(s->out,
               "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\","
               "\"content\":[",
               NUMBER_MARK, s->model);
    if (full) {
        buf_str(s->out, "{\"type\":\"text\",\"text\":");
        scene_text(s);
        buf_str(s->out, "}");
    }
    buf_printf(s->out,
               "],\"stop_reason\":%s,\"stop_sequence\":null,"
               "\"usage\":{\"input_tokens\":9,\"output_tokens\":%u}}",
               full ? "\"end_turn\"" : "null", full ? s->n : 1);
}

void messages_whole(struct scene *s)
{
    body_begin(s->body);
    put_message(s, true);
    buf_str(s->out, "\n");
    body_end(s->body);
}

static void typed(struct scene *s, const char *type, const char *rest)
{
    scene_begin(s, false, 0);
    buf_printf(s->out, "event: %s\ndata: {\"type\":\"%s\"%s}", type, type, rest);
    scene_end(s);
}

static void finish(struct scene *s)
{
    typed(s, "content_block_stop", ",\"index\":0");
    scene_begin(s, false, 0);
    buf_printf(s->out,
               "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
               "\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":%u}}",
               s->n);
    scene_end(s);
}

void messages_stream(struct scene *s)
{
    scene_begin(s, false, 0);
    buf_str(s->out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    put_message(s, false);
    buf_str(s->out, "}");
    scene_end(s);
    typed(s, "content_block_start",
          ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
    typed(s, "ping", "");
    for (uint32_t i = 0; i < s->n; i++) {
        scene_begin(s, true, i);
        buf_str(s->out,
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
                "\"delta\":{\"type\":\"text_delta\",\"text\":");
        scene_delta(s, i);
        buf_str(s->out, "}}");
        scene_end(s);
    }
    if (s->a->finish) {
        finish(s);
    }
    if (s->a->done) {
        typed(s, "message_stop", "");
    }
}
