/* From a verdict to an open stream: where it starts, what it is told first. */
#include "base/decimal.h"
#include "base/json_syntax.h"
#include "base/logging.h"
#include "broker/refusal.h"
#include "broker/subscriber_state.h"
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_MAX_BYTES = 8192, FIELDS_MAX_BYTES = 4096 };

struct frame *subscriber_gap_frame(struct broker *b, const char *reason, struct slice requested,
                                   uint64_t resumed_from)
{
    struct strbuf data;
    strbuf_init(&data, FIRST_MAX_BYTES);
    int rc = strbuf_printf(&data, "{\"reason\":\"%s\",\"requested\":", reason);
    rc = rc ? rc : json_syntax_quote(&data, requested);
    rc = rc ? rc : strbuf_printf(&data, ",\"resumed_from\":\"%" PRIu64 "\"}", resumed_from);
    struct frame *frame = NULL;
    if (rc == 0) {
        struct sse_fields f = {
            .id = resumed_from, .event = slice_str(b->opt.gap_event), .data = strbuf_slice(&data)};
        frame = sse_frame(&f);
        b->metrics->gaps++;
    }
    strbuf_clear(&data);
    return frame;
}

/* Where the stream starts, and why not where it was asked to (NULL: it does). */
struct start {
    uint64_t at;
    const char *gap;
    struct slice requested;
};

/* The position before the first event there ever was: a store begins with a leap to it. 0 when that
 * is not known any more, because retention has passed it. */
static uint64_t origin(const struct store_bounds *bounds)
{
    bool known = bounds->leap_count && bounds->leaps[0].after == 0 && bounds->trimmed == 0;
    return known ? bounds->leaps[0].upto : 0;
}

/* The end of the leap that `id` was lost in; 0: none. `upto` itself is a position this store gave
 * out: that of a stream with no event yet. */
static uint64_t leap_over(const struct store_bounds *bounds, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < bounds->leap_count; i++) {
        if (bounds->leaps[i].after < id && id < bounds->leaps[i].upto) {
            return bounds->leaps[i].upto;
        }
    }
    return 0;
}

static struct start place_of(struct broker *b, const struct resume *r)
{
    uint64_t head = eventlog_head(b->log);
    struct store_bounds bounds = b->store->ops->bounds(b->store);
    switch (r->kind) {
    case RESUME_NOW:
        return (struct start){.at = head};
    case RESUME_EARLIEST:
        return (struct start){.at = bounds.trimmed ? bounds.trimmed : origin(&bounds)};
    case RESUME_UNKNOWN:
        return (struct start){head, "unknown", r->text};
    case RESUME_AFTER:
        break;
    }
    if (r->id > head) {
        return (struct start){head, "reset", r->text};
    }
    if (r->id == 0) {
        return (struct start){.at = origin(&bounds)};
    }
    uint64_t over = leap_over(&bounds, r->id);
    return over ? (struct start){over, "reset", r->text} : (struct start){.at = r->id};
}

/* Beside a good position there may be one that is none of ours: that is not passed over in silence.
 */
static struct start where_to_start(struct broker *b, const struct resume *r)
{
    struct start st = place_of(b, r);
    if (!st.gap && r->unknown.p && r->kind != RESUME_NOW) {
        st.gap = "unknown";
        st.requested = r->unknown;
    }
    return st;
}

/* retry, and the position, or the gap, which is at the same position: one frame, so that it leaves
 * in one packet. */
static struct frame *first_frame(struct subscriber *sub, const struct start *st)
{
    struct sse_fields f = {.retry_ms = broker_jitter(sub->b, sub->retry_ms)};
    struct position_text position;
    char comment[40];
    if (!st->gap) {
        position_fields(sub->b->opt.position_event, sub->prime, st->at, &position, &f);
    }
    if (sub->b->opt.show_policy) {
        int n = snprintf(comment, sizeof comment, "policy %.12s", sub->b->policy->version);
        f.comment = slice_of(comment, (size_t)n);
    }
    struct frame *first = sse_frame(&f);
    if (!first || !st->gap) {
        return first;
    }
    struct frame *gap = subscriber_gap_frame(sub->b, st->gap, st->requested, st->at);
    struct frame *both = gap ? frame_new((size_t)first->len + gap->len) : NULL;
    if (both) {
        memcpy(both->bytes, first->bytes, first->len);
        memcpy(both->bytes + first->len, gap->bytes, gap->len);
    }
    frame_unref(first);
    frame_unref(gap);
    return both;
}

static void begin(struct subscriber *sub, const struct start *st, struct slice cors)
{
    struct broker *b = sub->b;
    struct strbuf fields;
    struct store_bounds bounds = b->store->ops->bounds(b->store);
    struct frame *first = first_frame(sub, st);
    strbuf_init(&fields, FIELDS_MAX_BYTES);
    int rc = first ? broker_stream_fields(&fields, cors) : UV_ENOMEM;
    struct http_response head = {
        .status = 200, .content_type = b->opt.content_type, .fields = strbuf_slice(&fields)};
    rc = rc ? rc : stream_open(sub->stream, &head);
    strbuf_clear(&fields);
    if (rc) {
        frame_unref(first);
        subscriber_end(sub, rc == UV_EPIPE ? CLOSE_CLIENT_CLOSED : CLOSE_NO_MEMORY, 0);
        return;
    }
    sub->cursor = sub->start = sub->told = st->at;
    sub->reset_to = leap_over(&bounds, st->at); /* leapt while the store was being asked */
    b->metrics->subscribed++;
    log_debug("broker", "subscribed",
              LOG_F(log_uint("stream", sub->id), log_uint("audience", sub->audience->id),
                    log_uint("from", st->at), log_str("policy_version", b->policy->version)));
    /* not live before this turn's events have gone to those who are */
    subscriber_set_state(sub, SUB_RUNNABLE);
    bool alive = subscriber_send_frame(sub, first);
    frame_unref(first);
    if (alive && b->draining) { /* began while the store was being asked */
        subscriber_end(sub, CLOSE_DRAINING, b->opt.drain_retry_ms);
    }
}

/* How it asked, for the time the store takes to answer. */
struct asked {
    struct slice cors;
    bool sse;
};

/* The store cannot say where the stream begins. */
static void abandon(struct subscriber *sub, const struct asked *how)
{
    struct stream *s = sub->stream;
    stream_set_owner(s, NULL, NULL);
    refuse_transient(sub->b, s, how->cors, how->sse, CLOSE_TRANSIENT,
                     "the event store is unavailable");
    subscriber_free(sub, CLOSE_TRANSIENT);
}

/* A subscriber whose policy bounds the age of what it may see waits for the store to say where that
 * begins. */
struct aged_start {
    struct broker *b;
    struct start st;
    struct strbuf cors, requested;
    bool sse;
    uint64_t stream_id;
};

static void on_sought(void *ctx, uint64_t token, int rc, uint64_t id)
{
    struct aged_start *w = ctx;
    struct broker *b = w->b;
    struct stream *s = http_server_stream(b->server, token);
    struct subscriber *sub = s && s->events == &subscriber_stream_events ? s->owner : NULL;
    if (sub && rc) {
        struct asked how = {strbuf_slice(&w->cors), w->sse};
        abandon(sub, &how);
    } else if (sub) {
        uint64_t head = eventlog_head(b->log); /* the store may know events still to be tailed */
        id = id < head ? id : head;
        w->st.at = id > w->st.at ? id : w->st.at; /* hidden on purpose: no gap */
        w->st.requested = strbuf_slice(&w->requested);
        begin(sub, &w->st, strbuf_slice(&w->cors));
    }
    strbuf_clear(&w->cors);
    strbuf_clear(&w->requested);
    free(w);
}

static int seek_start(struct subscriber *sub, const struct start *st, uint64_t max_age_ms,
                      const struct asked *how)
{
    struct broker *b = sub->b;
    struct aged_start *w = xcalloc(1, sizeof *w);
    w->b = b;
    w->st = *st;
    w->sse = how->sse;
    strbuf_init(&w->cors, FIELDS_MAX_BYTES);
    strbuf_init(&w->requested, FIRST_MAX_BYTES);
    int rc = strbuf_append(&w->cors, how->cors.p ? how->cors.p : "", how->cors.n);
    rc = rc || !st->gap ? rc : strbuf_append(&w->requested, st->requested.p, st->requested.n);
    if (rc == 0) {
        int64_t since = loop_unix_ms(b->loop) - (int64_t)max_age_ms;
        rc = b->store->ops->seek(b->store, since, on_sought, w, sub->id);
    }
    if (rc) {
        strbuf_clear(&w->cors);
        strbuf_clear(&w->requested);
        free(w);
    }
    return rc;
}

static void locate(struct subscriber *sub, const struct resume *resume, uint64_t max_age_ms,
                   const struct asked *how)
{
    struct start st = where_to_start(sub->b, resume);
    if (!max_age_ms || resume->kind == RESUME_NOW) {
        begin(sub, &st, how->cors);
    } else if (seek_start(sub, &st, max_age_ms, how)) {
        abandon(sub, how);
    }
}

/* A client that resumes beyond our newest event has seen it at another broker of the same store, a
 * moment before we do, or knows a store that is gone: the store tells. */
struct synced_start {
    struct broker *b;
    uint64_t id, max_age_ms;
    struct strbuf cors, unknown;
    bool sse;
};

static void on_synced(void *ctx, uint64_t token, int rc)
{
    struct synced_start *w = ctx;
    struct stream *s = http_server_stream(w->b->server, token);
    struct subscriber *sub = s && s->events == &subscriber_stream_events ? s->owner : NULL;
    struct asked how = {strbuf_slice(&w->cors), w->sse};
    char text[DECIMAL_MAX];
    struct resume r = {.kind = RESUME_AFTER,
                       .id = w->id,
                       .text = slice_of(text, decimal_put(text, w->id)),
                       .unknown = w->unknown.len ? strbuf_slice(&w->unknown) : slice_of(NULL, 0)};
    if (sub && rc) {
        abandon(sub, &how);
    } else if (sub) {
        locate(sub, &r, w->max_age_ms, &how);
    }
    strbuf_clear(&w->cors);
    strbuf_clear(&w->unknown);
    free(w);
}

static int sync_start(struct subscriber *sub, const struct resume *r, uint64_t max_age_ms,
                      const struct asked *how)
{
    struct broker *b = sub->b;
    struct synced_start *w = xcalloc(1, sizeof *w);
    *w = (struct synced_start){.b = b, .id = r->id, .max_age_ms = max_age_ms, .sse = how->sse};
    strbuf_init(&w->cors, FIELDS_MAX_BYTES);
    strbuf_init(&w->unknown, FIRST_MAX_BYTES);
    int rc = strbuf_append(&w->cors, how->cors.p ? how->cors.p : "", how->cors.n);
    rc = rc ? rc : strbuf_append(&w->unknown, r->unknown.p ? r->unknown.p : "", r->unknown.n);
    rc = rc ? rc : b->store->ops->sync(b->store, on_synced, w, sub->id);
    if (rc) {
        strbuf_clear(&w->cors);
        strbuf_clear(&w->unknown);
        free(w);
    }
    return rc;
}

static bool has_lag_rule(const struct subscriber *sub)
{
    return sub->max_lag && sub->close_on_lag;
}

void subscriber_set_terms(struct subscriber *sub, const struct subscription *s)
{
    struct broker *b = sub->b;
    b->lag_rules -= has_lag_rule(sub);
    sub->retry_ms = s->retry_ms ? s->retry_ms : b->opt.retry_ms;
    sub->max_lag = s->max_lag ? s->max_lag : b->opt.max_lag;
    enum on_lag on_lag = s->on_lag != ON_LAG_DEFAULT ? s->on_lag : b->opt.on_lag;
    sub->close_on_lag = on_lag == ON_LAG_CLOSE;
    b->lag_rules += has_lag_rule(sub);
    enum prime prime = s->prime != PRIME_DEFAULT ? s->prime : b->opt.prime;
    sub->prime = prime;
    subscriber_set_heartbeat(sub, s->heartbeat_s ? s->heartbeat_s : b->opt.heartbeat_s);
    subscriber_set_pace(sub, s->events_per_s);
    subscriber_set_grant_end(sub, s->expires_ms);
}

int subscriber_regrant(struct subscriber *sub, const struct subscription *s)
{
    struct audience *a = audience_intern(sub->b, s);
    if (!a) {
        return UV_EAGAIN;
    }
    struct audience *was = sub->audience;
    bool moved = a != was;
    bool paced = sub->pace != NULL;
    if (moved || paced != (s->events_per_s > 0)) {
        subscriber_unlive(sub);
    }
    subscriber_set_terms(sub, s);
    sub->audience = a;
    sub->ruled_from = moved ? subscriber_position(sub) : sub->ruled_from;
    if (sub->state == SUB_HELD || sub->state == SUB_PACED) {
        subscriber_set_state(sub, SUB_RUNNABLE);
    }
    audience_unref(sub->b, was);
    return moved;
}

static struct subscriber *subscriber_new(struct broker *b, struct stream *s, struct audience *a,
                                         const struct verdict *v,
                                         const struct subscribe_start *from)
{
    struct subscriber *sub = xcalloc(1, sizeof *sub);
    sub->b = b;
    sub->stream = s;
    sub->id = s->id;
    sub->audience = a;
    sub->opened_ms = loop_now(b->loop);
    sub->kept = kept_new(from->kept_query, v->identity);
    list_init(&sub->place);
    list_init(&sub->all);
    deadline_init(&sub->beat);
    list_add_tail(&b->subscribers, &sub->all);
    subscriber_set_terms(sub, &v->subscription);
    if (v->expires_ms) {
        subscriber_set_expiry(sub, v->expires_ms);
    }
    b->metrics->subscribers++;
    return sub;
}

/* For trials of policies to come. */
static void remember(const struct subscriber *sub)
{
    struct trial_recent *r = &sub->b->recent[sub->b->recent_next];
    kept_unref(r->kept);
    *r = (struct trial_recent){kept_ref(sub->kept), sub->client};
    sub->b->recent_next = (sub->b->recent_next + 1) % TRIAL_CONNECTS;
}

void subscriber_start(struct broker *b, struct stream *s, const struct verdict *v,
                      const struct subscribe_start *from)
{
    struct audience *a = audience_intern(b, &v->subscription);
    if (!a) {
        refuse_transient(b, s, from->cors, from->sse, CLOSE_TRANSIENT, "the policy failed");
        return;
    }
    struct subscriber *sub = subscriber_new(b, s, a, v, from);
    struct resume resume = from->resume;
    sub->client = from->client;
    remember(sub);
    stream_set_owner(s, &subscriber_stream_events, sub);
    if (from->policy_epoch != b->policy_epoch) {
        review_now(sub); /* another policy took over while the one that was asked decided */
    }
    sub->asked_after = resume.kind == RESUME_AFTER      ? resume.id
                       : resume.kind == RESUME_EARLIEST ? 0
                                                        : UINT64_MAX;
    sub->no_replay = v->subscription.no_replay;
    if (sub->no_replay) {
        resume.kind = RESUME_NOW;
    }
    sub->earliest = resume.kind == RESUME_EARLIEST;
    uint64_t max_age_ms = v->subscription.replay_max_age_ms;
    bool ahead = resume.kind == RESUME_AFTER && resume.id > eventlog_head(b->log);
    struct asked how = {from->cors, from->sse};
    if (!ahead || !b->store->ops->sync) {
        locate(sub, &resume, max_age_ms, &how);
    } else if (sync_start(sub, &resume, max_age_ms, &how)) {
        abandon(sub, &how);
    }
}
