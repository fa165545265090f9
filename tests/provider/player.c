/* Plays a program on a link: writes, waits, and says when it comes to the end. */
#include "player.h"

#include <stdio.h>
#include <string.h>

enum {
    SLICE = PATTERN_SLICE,
    TURN = 4 * 1024 * 1024 /* bytes or steps until other connections get their turn */
};

void player_load(struct player *p, struct program *program, uint64_t serial)
{
    player_unload(p);
    p->program = program;
    p->op = 0;
    p->done = 0;
    p->depth = 0;
    program_digits(p->number, serial);
}

void player_unload(struct player *p)
{
    program_unref(p->program);
    p->program = NULL;
}

static void next_op(struct player *p)
{
    p->op++;
    p->done = 0;
}

static enum play wait_ms(struct player *p, uint64_t ms)
{
    uv_update_time(p->timer->loop);
    (void)uv_timer_start(p->timer, p->on_timer, ms, 0);
    return PLAY_WAIT;
}

/* Counts what was written, and moves on when the op is complete. */
static enum play wrote(struct player *p, const struct op *op, size_t n, size_t framing, int rc)
{
    if (rc < 0) {
        return PLAY_GONE;
    }
    if (p->record != NULL) {
        p->record->sent += n + framing;
    }
    p->done += n;
    if (p->done == op->len) {
        next_op(p);
    }
    return PLAY_END; /* go on */
}

static enum play play_send(struct player *p, const struct op *op)
{
    uint64_t left = op->len - p->done;
    size_t n = left < SLICE ? (size_t)left : SLICE;
    size_t off = op->off + (size_t)p->done;
    uv_buf_t b;

    record_mark(p->record, T_ANSWER_START); /* before the peer can see it */
    program_patch(p->program, off, n, p->number);
    b = uv_buf_init(p->program->bytes.data + off, (unsigned)n);
    return wrote(p, op, n, 0, link_write(p->link, &b, 1));
}

static enum play play_pattern(struct player *p, const struct op *op)
{
    uint64_t left = op->len - p->done;
    size_t most = op->piece > 0 ? op->piece : SLICE;
    size_t n = left < most ? (size_t)left : most;
    char line[32];
    size_t framing = 0;
    uv_buf_t b[3];

    record_mark(p->record, T_ANSWER_START);
    b[1] = uv_buf_init((char *)(uintptr_t)pattern_at(op->start + p->done), (unsigned)n);
    if (op->chunked) {
        int len = snprintf(line, sizeof(line), "%zx\r\n", n);

        b[0] = uv_buf_init(line, (unsigned)len);
        b[2] = uv_buf_init((char *)(uintptr_t) "\r\n", 2);
        framing = (size_t)len + 2;
        return wrote(p, op, n, framing, link_write(p->link, b, 3));
    }
    return wrote(p, op, n, framing, link_write(p->link, &b[1], 1));
}

static void play_loop(struct player *p, const struct op *op)
{
    p->loops[p->depth++] = op->start;
    next_op(p);
}

static void play_loop_end(struct player *p, const struct op *op)
{
    uint64_t *left = &p->loops[p->depth - 1];

    if (*left == 1) {
        p->depth--;
        next_op(p);
        return;
    }
    if (*left > 1) {
        (*left)--;
    }
    p->op = op->off + 1;
    p->done = 0;
}

static enum play play_delay(struct player *p, const struct op *op)
{
    if (p->done == 0) {
        p->done = 1;
        return wait_ms(p, op->ms);
    }
    next_op(p);
    return PLAY_END;
}

static enum play play_held(struct player *p)
{
    if (!*p->released) {
        return PLAY_WAIT;
    }
    next_op(p);
    return PLAY_END;
}

/* One step; PLAY_END means "go on" here, and OP_END is left to the caller. */
static enum play play_op(struct player *p, const struct op *op)
{
    switch (op->kind) {
    case OP_SEND:
        return play_send(p, op);
    case OP_PATTERN:
        return play_pattern(p, op);
    case OP_DELAY:
        return play_delay(p, op);
    case OP_HELD:
        return play_held(p);
    case OP_LOOP:
        play_loop(p, op);
        return PLAY_END;
    case OP_LOOP_END:
        play_loop_end(p, op);
        return PLAY_END;
    case OP_RESET:
        return link_unsent(p->link) ? wait_ms(p, 1) : PLAY_RESET;
    case OP_FIN:
        return PLAY_FIN;
    case OP_CLOSE:
        return PLAY_CLOSE;
    default:
        return PLAY_WAIT; /* silence */
    }
}

/* Whether the pattern is to rest before its next piece. */
static bool rests(const struct player *p, const struct op *op)
{
    return op->kind == OP_PATTERN && op->ms > 0 && p->done > 0 && p->done < op->len;
}

enum play player_play(struct player *p)
{
    uint64_t turn = 0;

    while (!link_busy(p->link)) {
        const struct op *op;
        enum play result;

        if (p->op == p->program->n_ops) {
            return PLAY_STOP;
        }
        op = &p->program->ops[p->op];
        if (op->kind == OP_END) {
            next_op(p);
            return PLAY_END;
        }
        if (turn > TURN) {
            return wait_ms(p, 1); /* with 0 libuv would run the timer again before it polls */
        }
        turn += op->kind == OP_PATTERN ? SLICE : 64 + (op->len < SLICE ? op->len : SLICE);
        result = play_op(p, op);
        if (result != PLAY_END) {
            return result;
        }
        if (rests(p, op)) {
            return wait_ms(p, op->ms);
        }
    }
    return PLAY_WAIT;
}
