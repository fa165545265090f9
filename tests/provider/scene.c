/* What the bodies of all presets are made of: a text, cut into deltas, and events. */
#include "scene.h"

#include <string.h>

static const char default_text[] = "Hello! This is the provider speaking.";

/* Ends every delta after a word. */
static void cut_words(struct scene *s)
{
    s->cuts = must_alloc((s->text.len + 1) * sizeof(*s->cuts));
    for (size_t i = 0; i < s->text.len; i++) {
        if (i + 1 == s->text.len || (s->text.data[i] == ' ' && s->text.data[i + 1] != ' ')) {
            s->cuts[s->n++] = i + 1;
        }
    }
}

/* Ends the deltas at even distances, never within a UTF-8 sequence. */
static void cut_evenly(struct scene *s, uint32_t events)
{
    s->n = events;
    s->cuts = must_alloc(events * sizeof(*s->cuts));
    for (uint32_t i = 0; i < events; i++) {
        size_t at = (size_t)((uint64_t)s->text.len * (i + 1) / events);

        while (at < s->text.len && ((unsigned char)s->text.data[at] & 0xc0) == 0x80) {
            at++;
        }
        s->cuts[i] = at;
    }
}

/* Without a text of its own, a stream of n events says "w1 w2 w3 ..." */
static void cut_numbered(struct scene *s, uint32_t events)
{
    s->n = events;
    s->cuts = must_alloc(events * sizeof(*s->cuts));
    for (uint32_t i = 0; i < events; i++) {
        buf_printf(&s->text, "w%u%s", i + 1, i + 1 < events ? " " : "");
        s->cuts[i] = s->text.len;
    }
}

void scene_init_text(struct scene *s)
{
    (void)buf_room(&s->text, 1); /* an empty text has an address too */
    if (s->a->text == NULL && s->a->events > 0) {
        cut_numbered(s, s->a->events);
        return;
    }
    buf_str(&s->text, s->a->text != NULL ? s->a->text : default_text);
    if (s->a->events > 0) {
        cut_evenly(s, s->a->events);
    } else {
        cut_words(s);
    }
}

void scene_delta(struct scene *s, uint32_t i)
{
    size_t from = i > 0 ? s->cuts[i - 1] : 0;

    if (s->a->clock) {
        buf_str(s->out, "\"" CLOCK_MARK "\"");
        return;
    }
    buf_json(s->out, s->text.data + from, s->cuts[i] - from);
}

void scene_text(struct scene *s)
{
    buf_json(s->out, s->text.data, s->text.len);
}

void scene_begin(struct scene *s, bool delta, uint32_t i)
{
    struct piece *piece = body_begin(s->body);

    piece->event = true;
    piece->delta = delta;
    if (delta) {
        piece->delay_ms = i == 0 ? s->a->first_delay_ms : s->a->interval_ms;
    }
}

void scene_end(struct scene *s)
{
    buf_str(s->out, "\n\n");
    body_end(s->body);
}

void scene_usage(struct scene *s, const char *in, const char *out)
{
    buf_printf(s->out, "{\"%s\":9,\"%s\":%u,\"total_tokens\":%u", in, out, s->n, s->n + 9);
    buf_printf(s->out,
               ",\"%s_details\":{\"cached_tokens\":0},\"%s_details\":"
               "{\"reasoning_tokens\":0}}",
               in, out);
}
