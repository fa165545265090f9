/* The Responses API's answers: one object, or the events that build it up. */
#include "scene.h"

static void put_part(struct scene *s, bool full)
{
    buf_str(s->out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    if (full) {
        scene_text(s);
    } else {
        buf_str(s->out, "\"\"");
    }
    buf_str(s->out, "}");
}

static void put_item(struct scene *s, bool full)
{
    buf_printf(s->out,
               "{\"id\":\"msg_%s\",\"type\":\"message\",\"status\":\"%s\","
               "\"role\":\"assistant\",\"content\":[",
               NUMBER_MARK, full ? "completed" : "in_progress");
    if (full) {
        put_part(s, true);
    }
    buf_str(s->out, "]}");
}

static void put_response(struct scene *s, bool full)
{
    buf_printf(s->out,
               "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%lld,"
               "\"status\":\"%s\",\"background\":false,\"error\":null,"
               "\"incomplete_details\":null,\"instructions\":null,"
               "\"max_output_tokens\":null,\"model\":\"%s\",\"output\":[",
               NUMBER_MARK, s->created, full ? "completed" : "in_progress", s->model);
    if (full) {
        put_item(s, true);
    }
    buf_str(s->out, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,"
                    "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,"
                    "\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},"
                    "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
                    "\"truncation\":\"disabled\",\"usage\":");
    if (full && s->a->usage) {
        scene_usage(s, "input_tokens", "output_tokens");
    } else {
        buf_str(s->out, "null");
    }
    buf_str(s->out, ",\"user\":null,\"metadata\":{}}");
}

void responses_whole(struct scene *s)
{
    body_begin(s->body);
    put_response(s, true);
    buf_str(s->out, "\n");
    body_end(s->body);
}

static void typed_open(struct scene *s, const char *type)
{
    buf_printf(s->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u", type, type,
               s->sequence++);
}

static void typed_close(struct scene *s)
{
    buf_str(s->out, "}");
    scene_end(s);
}

static void response_event(struct scene *s, const char *type, bool full)
{
    scene_begin(s, false, 0);
    typed_open(s, type);
    buf_str(s->out, ",\"response\":");
    put_response(s, full);
    typed_close(s);
}

static void item_event(struct scene *s, const char *type, bool full)
{
    scene_begin(s, false, 0);
    typed_open(s, type);
    buf_str(s->out, ",\"output_index\":0,\"item\":");
    put_item(s, full);
    typed_close(s);
}

static void open_content(struct scene *s, const char *type, bool delta, uint32_t i)
{
    scene_begin(s, delta, i);
    typed_open(s, type);
    buf_printf(s->out, ",\"item_id\":\"msg_%s\",\"output_index\":0,\"content_index\":0,",
               NUMBER_MARK);
}

static void part_event(struct scene *s, const char *type, bool full)
{
    open_content(s, type, false, 0);
    buf_str(s->out, "\"part\":");
    put_part(s, full);
    typed_close(s);
}

void responses_stream(struct scene *s)
{
    response_event(s, "response.created", false);
    response_event(s, "response.in_progress", false);
    item_event(s, "response.output_item.added", false);
    part_event(s, "response.content_part.added", false);
    for (uint32_t i = 0; i < s->n; i++) {
        open_content(s, "response.output_text.delta", true, i);
        buf_str(s->out, "\"logprobs\":[],\"delta\":");
        scene_delta(s, i);
        typed_close(s);
    }
    if (!s->a->finish) {
        return;
    }
    open_content(s, "response.output_text.done", false, 0);
    buf_str(s->out, "\"logprobs\":[],\"text\":");
    scene_text(s);
    typed_close(s);
    part_event(s, "response.content_part.done", true);
    item_event(s, "response.output_item.done", true);
    if (s->a->done) {
        response_event(s, "response.completed", true);
    }
}
