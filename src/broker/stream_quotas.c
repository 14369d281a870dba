#include "broker/stream_quotas.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/log_pace.h"
#include "base/logging.h"
#include "base/require.h"
#include "broker/broker_parts.h"

#include <stdlib.h>
#include <uv.h>

enum { DISPLACED_AT_ONCE = 16 };

/* Of each turn of the loop: a `max` that was lowered ends thousands. */
static const uint64_t turn_ns = 1000000;

/* A stream that counts. */
struct stream_quota {
    struct map_entry entry;
    uint64_t stream; /* the key of the entry */
    struct quota_hold held;
    struct {
        uint32_t max;
        bool oldest;
    } terms[QUOTAS_PER_STREAM]; /* of each place */
};

struct stream_quotas {
    struct broker *b;
    stream_displace_cb displace;
    struct quota_user *user; /* NULL: nothing can be counted */
    struct quota_metrics *metrics;
    void (*tell)(void *ctx, uint64_t workers); /* may be NULL */
    void *ctx;
    struct map counted; /* struct stream_quota, by stream */
    struct task end;    /* some of ours are displaced */
    size_t left;        /* of these, those that it has not looked at */
    struct log_pace full_pace, ended_pace;
};

static void stream_quotas_on_end(struct task *t);

struct stream_quotas *stream_quotas_new(struct broker *b, stream_displace_cb displace)
{
    struct stream_quotas *q = xcalloc(1, sizeof *q);
    q->b = b;
    q->displace = displace;
    task_init(&q->end, stream_quotas_on_end);
    return q;
}

void stream_quotas_free(struct stream_quotas *q)
{
    REQUIRE(map_empty(&q->counted));
    task_cancel(&q->end);
    free(q);
}

void stream_quotas_set(struct stream_quotas *q, struct quota_user *user,
                       struct quota_metrics *metrics, void (*tell)(void *ctx, uint64_t workers),
                       void *ctx)
{
    q->user = user;
    q->metrics = metrics;
    q->tell = tell;
    q->ctx = ctx;
}

static struct slice stream_quotas_key(const uint64_t *stream)
{
    return slice_of((const char *)stream, sizeof *stream);
}

/* Our own ids: nobody chooses them. */
static unsigned stream_quotas_hash(uint64_t stream)
{
    return (unsigned)((stream * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

static struct stream_quota *stream_quotas_find(const struct stream_quotas *q, uint64_t stream)
{
    struct map_entry *e =
        map_find(&q->counted, stream_quotas_key(&stream), stream_quotas_hash(stream));
    return e ? container_of(e, struct stream_quota, entry) : NULL;
}

/* NULL: no memory. */
static struct stream_quota *stream_quotas_add(struct stream_quotas *q, uint64_t stream)
{
    struct stream_quota *sq = calloc(1, sizeof *sq);
    if (sq) {
        sq->stream = stream;
        if (!map_add(&q->counted, &sq->entry, stream_quotas_key(&sq->stream),
                     stream_quotas_hash(stream))) {
            free(sq);
            sq = NULL;
        }
    }
    return sq;
}

static void stream_quotas_drop(struct stream_quotas *q, struct stream_quota *sq)
{
    map_del(&q->counted, &sq->entry);
    free(sq);
}

static void stream_quotas_granted(struct stream_quotas *q, struct stream_quota *sq,
                                  const struct subscription *s, uint64_t tells)
{
    for (size_t i = 0; i < s->quota_count; i++) {
        sq->terms[i].max = s->quotas[i].max;
        sq->terms[i].oldest = s->quotas[i].oldest;
    }
    if (tells && q->tell) {
        q->tell(q->ctx, tells);
    }
    stream_quotas_end_displaced(q);
}

static enum quota_answer stream_quotas_no_room(struct stream_quotas *q)
{
    if (q->metrics) {
        q->metrics->quota_no_room++;
    }
    if (log_pace_take(&q->full_pace, loop_now(q->b->loop))) {
        log_warn(
            "broker",
            "a stream is refused: no more can be counted for quotas; raise policy.quota_streams",
            LOG_F(log_uint("counted", map_count(&q->counted))));
    }
    return QUOTA_NO_ROOM;
}

enum quota_answer stream_quotas_change(struct stream_quotas *q, uint64_t stream,
                                       const struct subscription *s, size_t *which)
{
    struct quota_outcome out = {0};
    struct stream_quota *sq = stream_quotas_find(q, stream);
    sq = sq ? sq : stream_quotas_add(q, stream);
    if (!sq || !q->user || !q->user->table) {
        if (sq) {
            stream_quotas_drop(q, sq);
        }
        return stream_quotas_no_room(q);
    }
    enum quota_answer answer =
        quota_change(q->user, stream, &sq->held, s->quotas, s->quota_count, &out);
    *which = out.which;
    if (answer == QUOTA_GRANTED) {
        stream_quotas_granted(q, sq, s, out.tells);
    } else if (answer == QUOTA_DENIED) {
        q->metrics->quota_denied++;
    } else {
        (void)stream_quotas_no_room(q);
    }
    if (sq->held.n == 0) {
        stream_quotas_drop(q, sq);
    }
    return answer;
}

void stream_quotas_close(struct stream_quotas *q, uint64_t stream)
{
    struct quota_outcome out;
    struct stream_quota *sq = stream_quotas_find(q, stream);
    if (sq) {
        (void)quota_change(q->user, stream, &sq->held, NULL, 0, &out); /* nothing can refuse it */
        stream_quotas_drop(q, sq);
    }
}

size_t stream_quotas_of(const struct stream_quotas *q, uint64_t stream,
                        struct quota_want out[QUOTAS_PER_STREAM])
{
    const struct stream_quota *sq = stream_quotas_find(q, stream);
    size_t n = sq ? sq->held.n : 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct quota_want){.key = quota_key_of(q->user, sq->held.places[i]),
                                     .max = sq->terms[i].max,
                                     .oldest = sq->terms[i].oldest};
    }
    return n;
}

/* Unless it cannot end yet. */
static void stream_quotas_displace(struct stream_quotas *q, const struct quota_ended *ended)
{
    if (!q->displace(q->b, ended->stream, ended->max)) {
        return;
    }
    q->metrics->quota_ended++;
    if (log_pace_take(&q->ended_pace, loop_now(q->b->loop))) {
        log_info("broker", "a stream ended: a newer one took its place in the quota",
                 LOG_F(log_uint("stream", ended->stream),
                       log_slice("key", slice_of(ended->key, ended->key_bytes)),
                       log_uint("max", ended->max)));
    }
}

static void stream_quotas_on_end(struct task *t)
{
    struct stream_quotas *q = container_of(t, struct stream_quotas, end);
    struct quota_ended ended[DISPLACED_AT_ONCE];
    uint64_t until = uv_hrtime() + turn_ns;
    size_t n = 1;
    /* each once: any number that cannot end yet may be before one that can */
    while (q->left && n) {
        n = quota_ended(q->user, ended, q->left < DISPLACED_AT_ONCE ? q->left : DISPLACED_AT_ONCE);
        q->left -= n;
        for (size_t i = 0; i < n; i++) {
            stream_quotas_displace(q, &ended[i]);
        }
        if (q->left && uv_hrtime() >= until) {
            loop_defer(q->b->loop, &q->end);
            return;
        }
    }
}

void stream_quotas_end_displaced(struct stream_quotas *q)
{
    q->left = q->user ? quota_to_end(q->user) : 0;
    if (q->left) {
        loop_defer(q->b->loop, &q->end);
    }
}

void stream_quotas_sweep(struct stream_quotas *q)
{
    if (q->user) {
        quota_sweep(q->user);
        stream_quotas_end_displaced(q);
    }
}
