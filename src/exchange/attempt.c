/* One upstream attempt: what came back and has not been taken yet. */
#include "exchange/attempt.h"

#include <string.h>

/* What an attempt's buffer may keep between attempts: most answers fit, big ones are given back. */
#define KEEP_BYTES (64 * 1024)
#define INTERIM_BYTES_MAX (8 * 1024) /* beyond it they are left out */

void attempt_init(struct attempt *a)
{
    memset(a, 0, sizeof(*a));
    headers_init(&a->headers);
    buf_init(&a->body, SIZE_MAX / 2);
    buf_init(&a->interim, INTERIM_BYTES_MAX);
    body_edit_init(&a->edit);
}

void attempt_deinit(struct attempt *a)
{
    headers_deinit(&a->headers);
    buf_deinit(&a->body);
    buf_deinit(&a->interim);
    body_edit_deinit(&a->edit);
}

void attempt_reset(struct attempt *a)
{
    headers_reset(&a->headers);
    buf_reset(&a->body, KEEP_BYTES);
    buf_reset(&a->interim, 0);
    a->headers_done = false;
    a->status = 0;
    a->done = false;
    a->transport = TRANSPORT_WHOLE;
    a->detail[0] = '\0';
    a->paused = false;
    a->received = 0;
    a->running = false;
    a->fresh = false;
    a->anew = false;
    a->connection.serial = 0;
    a->upload_whole = false;
}
