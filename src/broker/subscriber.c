/* See subscriber.h. The life of one stream: start, heartbeat, pace, expiry, end. Delivery is in
 * delivery.c. */
#include "broker/subscriber.h"

#include "base/json_syntax.h"
#include "base/logging.h"
#include "broker/refusal.h"
#include "broker/sse_frame.h"
#include "broker/subscriber_state.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FIRST_MAX_BYTES = 8192,
    FIELDS_MAX_BYTES = 4096,
    PACE_TICK_MS = 50,
    HEARTBEAT_SLACK_MS = 100, /* re-armed at most this often: what silence is rounded to */
};

/* ---------------------------------------------------------------- states */

static bool is_behind(enum subscriber_state st)
{
    return st == SUB_RUNNABLE || st == SUB_BLOCKED || st == SUB_PAGING || st == SUB_PACED;
}

void subscriber_set_state(struct subscriber *sub, enum subscriber_state st)
{
    sub->b->metrics->behind += is_behind(st) ? 1 : 0;
    sub->b->metrics->behind -= is_behind(sub->state) ? 1 : 0;
    list_del(&sub->place);
    sub->state = st;
    switch (st) {
    case SUB_LIVE:
        sub->caught_up = true;
        list_add_tail(&sub->audience->live, &sub->place);
        break;
    case SUB_PARKED:
        sub->caught_up = true;
        list_add_tail(&sub->audience->parked, &sub->place);
        break;
    case SUB_RUNNABLE:
        list_add_tail(&sub->b->runnable, &sub->place);
        break;
    case SUB_PAGING: /* history_request() links it */
    case SUB_BLOCKED:
    case SUB_PACED:
    case SUB_STARTING:
        break;
    }
}

uint64_t subscriber_position(const struct subscriber *sub)
{
    if (sub->state != SUB_LIVE && sub->state != SUB_PARKED) {
        return sub->cursor;
    }
    const struct event_list *pending = &sub->audience->pending;
    return pending->n ? pending->v[0]->id - 1 : eventlog_head(sub->b->log);
}

uint64_t subscriber_lag(const struct subscriber *sub)
{
    const struct eventlog *log = sub->b->log;
    if (!is_behind(sub->state) || sub->cursor >= eventlog_floor(log)) {
        return eventlog_lag(log, subscriber_position(sub));
    }
    return eventlog_end(log) - sub->ordinal;
}

/* ---------------------------------------------------------------- pace: events_per_s */

struct pace {
    struct deadline tick;
    struct subscriber *sub;
    double per_s, tokens;
    uint64_t at_ms;
};

static void on_pace(struct deadline *d)
{
    struct pace *p = container_of(d, struct pace, tick);
    if (p->sub->state == SUB_PACED) {
        subscriber_set_state(p->sub, SUB_RUNNABLE);
    }
}

unsigned subscriber_allowance(struct subscriber *sub)
{
    struct pace *p = sub->pace;
    if (!p) {
        return UINT_MAX;
    }
    uint64_t now = loop_now(sub->b->loop);
    double most = p->per_s > 1 ? p->per_s : 1; /* a second's worth may come at once */
    p->tokens += p->per_s * (double)(now - p->at_ms) / 1000;
    p->tokens = p->tokens > most ? most : p->tokens;
    p->at_ms = now;
    return (unsigned)p->tokens;
}

void subscriber_spend(struct subscriber *sub, unsigned events)
{
    if (sub->pace) {
        sub->pace->tokens -= events;
    }
}

void subscriber_wait_for_pace(struct subscriber *sub)
{
    subscriber_set_state(sub, SUB_PACED);
    deadline_arm(loop_deadline_class(sub->b->loop, PACE_TICK_MS, on_pace), &sub->pace->tick);
}

static struct pace *pace_new(struct subscriber *sub, double per_s)
{
    struct pace *p = xcalloc(1, sizeof *p);
    deadline_init(&p->tick);
    p->sub = sub;
    p->per_s = per_s;
    p->tokens = 1;
    p->at_ms = loop_now(sub->b->loop);
    return p;
}

/* ---------------------------------------------------------------- expiry of the identity */

struct expiry {
    struct deadline due;
    struct subscriber *sub;
    int64_t at_ms; /* Unix */
};

static void on_expiry(struct deadline *d);

/* Deadlines are FIFOs per duration, so a moment far away is reached in steps of powers of two. */
static void expiry_arm(struct expiry *x)
{
    int64_t left = x->at_ms - loop_unix_ms(x->sub->b->loop);
    uint64_t step = 250;
    while (step * 2 <= (uint64_t)(left > 0 ? left : 0) && step < UINT64_C(1) << 40) {
        step *= 2;
    }
    deadline_arm(loop_deadline_class(x->sub->b->loop, step, on_expiry), &x->due);
}

static void on_expiry(struct deadline *d)
{
    struct expiry *x = container_of(d, struct expiry, due);
    if (loop_unix_ms(x->sub->b->loop) < x->at_ms || x->sub->state == SUB_STARTING) {
        expiry_arm(x);
        return;
    }
    subscriber_end(x->sub, CLOSE_GRANT_EXPIRED, x->sub->retry_ms);
}

/* ---------------------------------------------------------------- end */

static void subscriber_free(struct subscriber *sub, enum close_reason why)
{
    struct broker *b = sub->b;
    log_debug("broker", "unsubscribed",
              LOG_F(log_uint("stream", sub->id), log_str("reason", close_reason_name(why)),
                    log_uint("delivered", sub->delivered)));
    if (sub->identity) {
        struct disconnect_info info = {.reason = why,
                                       .seconds =
                                           (double)(loop_now(b->loop) - sub->opened_ms) / 1000,
                                       .delivered = sub->delivered};
        b->policy->ops->disconnected(b->policy, slice_str(sub->identity), &info);
    }
    b->metrics->behind -= is_behind(sub->state) ? 1 : 0;
    b->metrics->subscribers--;
    if (sub->max_lag && sub->on_lag == ON_LAG_CLOSE) {
        b->lag_rules--;
    }
    list_del(&sub->place);
    list_del(&sub->all);
    deadline_disarm(&sub->beat);
    if (sub->pace) {
        deadline_disarm(&sub->pace->tick);
    }
    if (sub->expiry) {
        deadline_disarm(&sub->expiry->due);
    }
    audience_unref(b, sub->audience);
    free(sub->pace);
    free(sub->expiry);
    free(sub->identity);
    free(sub);
}

void subscriber_end(struct subscriber *sub, enum close_reason why, unsigned retry_ms)
{
    struct sse_fields f = {.retry_ms = broker_jitter(sub->b, retry_ms)};
    bool writable = sub->state != SUB_BLOCKED && sub->state != SUB_STARTING;
    struct frame *frame = retry_ms && writable ? sse_frame(&f) : NULL;
    if (frame) {
        uv_buf_t buf = uv_buf_init(frame->bytes, frame->len);
        (void)stream_write(sub->stream, &buf, 1); /* advice: not worth waiting for */
        frame_unref(frame);
    }
    stream_close(sub->stream, why);
    subscriber_free(sub, why);
}

/* ---------------------------------------------------------------- stream events */

static void on_writable(struct stream *s)
{
    struct subscriber *sub = s->owner;
    if (sub->state == SUB_BLOCKED) {
        subscriber_set_state(sub, SUB_RUNNABLE);
        subscriber_sent(sub);
    }
}

static void on_closed(struct stream *s, enum close_reason why)
{
    subscriber_free(s->owner, why);
}

static const struct stream_events subscriber_events = {.writable = on_writable,
                                                       .closed = on_closed};

bool subscriber_send_frame(struct subscriber *sub, struct frame *f)
{
    uv_buf_t buf = uv_buf_init(f->bytes, f->len);
    ssize_t n = stream_write(sub->stream, &buf, 1);
    if (n >= 0 && (size_t)n < f->len) {
        int rc = stream_queue(sub->stream, f, (size_t)n);
        subscriber_set_state(sub, SUB_BLOCKED);
        n = rc ? rc : n;
    }
    if (n < 0) {
        subscriber_end(sub, CLOSE_CLIENT_ERROR, 0);
        return false;
    }
    if (sub->state != SUB_BLOCKED) {
        subscriber_sent(sub);
    }
    return true;
}

/* ---------------------------------------------------------------- heartbeat */

static void on_beat(struct deadline *d)
{
    struct subscriber *sub = container_of(d, struct subscriber, beat);
    if (sub->state == SUB_BLOCKED) {
        return; /* never behind an unfinished write: armed again when that has left */
    }
    if (!is_behind(sub->state)) { /* its place is implied until the write blocks */
        const struct audience *a = sub->audience;
        sub->cursor = subscriber_position(sub);
        sub->ordinal = a->pending.n ? a->pending_from : eventlog_end(sub->b->log);
    }
    subscriber_send_frame(sub, sub->b->heartbeat);
}

void subscriber_sent(struct subscriber *sub)
{
    uint64_t now = loop_now(sub->b->loop);
    if (list_linked(&sub->beat.node) && now - sub->beat_armed_ms < HEARTBEAT_SLACK_MS) {
        return;
    }
    sub->beat_armed_ms = now;
    deadline_arm(sub->beat_class, &sub->beat);
}

/* ---------------------------------------------------------------- start */

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

static struct start where_to_start(struct broker *b, const struct resume *r)
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
    for (size_t i = 0; i < bounds.leap_count; i++) {
        /* `upto` itself is a position this store gave out: that of a stream with no event yet */
        if (bounds.leaps[i].after < r->id && r->id < bounds.leaps[i].upto) {
            return (struct start){bounds.leaps[i].upto, "reset", r->text};
        }
    }
    return (struct start){.at = r->id};
}

/* retry, the position, and the gap if there is one: one frame, so that it leaves in one packet. */
static struct frame *first_frame(struct subscriber *sub, const struct start *st)
{
    struct sse_fields f = {.id = st->at, .retry_ms = broker_jitter(sub->b, sub->retry_ms)};
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
    sub->cursor = st->at;
    b->metrics->subscribed++;
    log_debug("broker", "subscribed",
              LOG_F(log_uint("stream", sub->id), log_uint("audience", sub->audience->id),
                    log_uint("from", st->at)));
    /* not live before this turn's events have gone to those who are */
    subscriber_set_state(sub, SUB_RUNNABLE);
    bool alive = subscriber_send_frame(sub, first);
    frame_unref(first);
    if (alive && b->draining) { /* began while the store was being asked */
        subscriber_end(sub, CLOSE_DRAINING, b->opt.drain_retry_ms);
    }
}

/* A subscriber whose policy bounds the age of what it may see waits for the store to say where that
 * begins. */
struct aged_start {
    struct broker *b;
    struct start st;
    struct strbuf cors, requested;
    uint64_t stream_id;
};

static void on_sought(void *ctx, uint64_t token, int rc, uint64_t id)
{
    struct aged_start *w = ctx;
    struct broker *b = w->b;
    struct stream *s = http_server_stream(b->server, token);
    struct subscriber *sub = s && s->events == &subscriber_events ? s->owner : NULL;
    if (sub && rc) {
        struct slice cors = strbuf_slice(&w->cors);
        stream_set_owner(s, NULL, NULL);
        refuse_transient(b, s, cors, true, CLOSE_TRANSIENT, "the event store is unavailable");
        subscriber_free(sub, CLOSE_TRANSIENT);
    } else if (sub) {
        uint64_t head = eventlog_head(b->log); /* the store may know events still to be tailed */
        id = id < head ? id : head;
        if (id > w->st.at) {
            w->st.gap = w->st.gap ? w->st.gap : "expired";
            w->st.at = id;
        }
        w->st.requested = strbuf_slice(&w->requested);
        begin(sub, &w->st, strbuf_slice(&w->cors));
    }
    strbuf_clear(&w->cors);
    strbuf_clear(&w->requested);
    free(w);
}

static int seek_start(struct subscriber *sub, const struct start *st, uint64_t max_age_ms,
                      struct slice cors)
{
    struct broker *b = sub->b;
    struct aged_start *w = xcalloc(1, sizeof *w);
    w->b = b;
    w->st = *st;
    strbuf_init(&w->cors, FIELDS_MAX_BYTES);
    strbuf_init(&w->requested, FIRST_MAX_BYTES);
    int rc = strbuf_append(&w->cors, cors.p ? cors.p : "", cors.n);
    rc = rc ? rc : strbuf_append(&w->requested, st->requested.p, st->requested.n);
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

static struct subscriber *subscriber_new(struct broker *b, struct stream *s, struct audience *a,
                                         const struct verdict *v)
{
    const struct subscription *want = &v->subscription;
    struct subscriber *sub = xcalloc(1, sizeof *sub);
    unsigned beat_s = want->heartbeat_s ? want->heartbeat_s : b->opt.heartbeat_s;
    sub->b = b;
    sub->stream = s;
    sub->id = s->id;
    sub->audience = a;
    sub->opened_ms = loop_now(b->loop);
    sub->retry_ms = want->retry_ms ? want->retry_ms : b->opt.retry_ms;
    sub->max_lag = want->max_lag ? want->max_lag : b->opt.max_lag;
    sub->on_lag = want->on_lag != ON_LAG_DEFAULT ? want->on_lag : b->opt.on_lag;
    list_init(&sub->place);
    list_init(&sub->all);
    list_add_tail(&b->subscribers, &sub->all);
    deadline_init(&sub->beat);
    sub->beat_class = loop_deadline_class(b->loop, (uint64_t)beat_s * 1000, on_beat);
    if (want->events_per_s > 0) {
        sub->pace = pace_new(sub, want->events_per_s);
    }
    if (v->expires_ms) {
        sub->expiry = xcalloc(1, sizeof *sub->expiry);
        deadline_init(&sub->expiry->due);
        sub->expiry->sub = sub;
        sub->expiry->at_ms = v->expires_ms;
        expiry_arm(sub->expiry);
    }
    if (b->policy->ops->wants_disconnect(b->policy)) {
        sub->identity =
            xstrndup(v->identity.p ? v->identity.p : "{}", v->identity.p ? v->identity.n : 2);
    }
    if (sub->max_lag && sub->on_lag == ON_LAG_CLOSE) {
        b->lag_rules++;
    }
    b->metrics->subscribers++;
    return sub;
}

void subscriber_start(struct broker *b, struct stream *s, const struct verdict *v,
                      const struct subscribe_start *from)
{
    struct audience *a = audience_intern(b, &v->subscription);
    if (!a) {
        refuse_transient(b, s, from->cors, true, CLOSE_TRANSIENT, "the policy failed");
        return;
    }
    struct subscriber *sub = subscriber_new(b, s, a, v);
    struct resume resume = from->resume;
    sub->client = from->client;
    stream_set_owner(s, &subscriber_events, sub);
    if (v->subscription.no_replay) {
        resume.kind = RESUME_NOW;
    }
    sub->earliest = resume.kind == RESUME_EARLIEST;
    struct start st = where_to_start(b, &resume);
    char requested[EVENT_ID_TEXT_MAX + 8];
    if (!st.requested.p) { /* should max_age move the start */
        int n = resume.kind == RESUME_EARLIEST
                    ? snprintf(requested, sizeof requested, "earliest")
                    : snprintf(requested, sizeof requested, "%" PRIu64, st.at);
        st.requested = slice_of(requested, (size_t)n);
    }
    if (v->subscription.replay_max_age_ms && resume.kind != RESUME_NOW) {
        int rc = seek_start(sub, &st, v->subscription.replay_max_age_ms, from->cors);
        if (rc) {
            stream_set_owner(s, NULL, NULL);
            refuse_transient(b, s, from->cors, true, CLOSE_TRANSIENT,
                             "the event store is unavailable");
            subscriber_free(sub, CLOSE_TRANSIENT);
        }
        return;
    }
    begin(sub, &st, from->cors);
}

/* ---------------------------------------------------------------- for operators */

void subscriber_describe(const struct subscriber *sub, struct broker_connection *out)
{
    const struct audience *a = sub->audience;
    uint64_t cursor = subscriber_position(sub);
    *out = (struct broker_connection){
        .id = sub->id,
        .topics = a->topics,
        .topic_count = a->topic_count,
        .filter = a->filter,
        .format = a->format,
        .params = a->params,
        .audience = a->id,
        .cursor = cursor,
        .lag = subscriber_lag(sub),
        .behind = is_behind(sub->state),
        .seconds = (double)(loop_now(sub->b->loop) - sub->opened_ms) / 1000,
        .delivered = sub->delivered,
    };
    peer_address_text(&sub->client, out->client);
}

struct subscriber *subscriber_of_node(struct list *all_node)
{
    return container_of(all_node, struct subscriber, all);
}

uint64_t subscriber_id(const struct subscriber *sub)
{
    return sub->id;
}

void subscriber_drain_all(struct broker *b)
{
    list_for_each_safe (it, next, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        if (sub->state != SUB_STARTING) {
            subscriber_end(sub, CLOSE_DRAINING, b->opt.drain_retry_ms);
        }
    }
}
