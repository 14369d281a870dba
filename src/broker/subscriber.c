/* See subscriber.h. The life of one stream: states, terms, end.
 *
 *   STARTING --subscribe_begin--> RUNNABLE
 *   RUNNABLE --delivery_catch_up, as far as it comes in one turn-->
 *       LIVE, PARKED   it is at the head; parked: it has a pace
 *       BLOCKED        delivery_send_segment, subscriber_send_frame: the socket took a part
 *       PAGING         delivery_next_segment: the next page of history has to be read
 *       PACED          subscriber_wait_for_pace: no events_per_s left
 *       HELD           the policy has no such filter or format (any more), or is to be asked first
 *   LIVE     --delivery_send_segment, subscriber_on_beat: short write--> BLOCKED
 *            --subscriber_unlive (another audience, or none), delivery_leap--> RUNNABLE
 *   PARKED   --delivery_live, and as LIVE--> RUNNABLE, BLOCKED
 *   BLOCKED  --subscriber_on_writable--> RUNNABLE, where it ends if it was to finish
 *   PAGING   --delivery_page_ready--> RUNNABLE
 *   PACED    --subscriber_on_pace, subscriber_regrant--> RUNNABLE
 *   HELD     --subscriber_resume_held, subscriber_regrant--> RUNNABLE
 *   any      --subscriber_end, subscriber_revoke, subscriber_on_closed--> subscriber_free
 *   PAGING, PACED, HELD --subscriber_on_beat: short write--> BLOCKED
 *
 * What holds between two calls:
 *   1. Each event up to the cursor was sent, or is not for this stream, or was announced as missing.
 *      No event behind it was sent.
 *   2. LIVE and PARKED have no cursor of their own: subscriber_position() is before the first event
 *      pending for the audience, else the head; in an interval (limits.every_s) where that began, or where
 *      it was parked beyond that. What leaves these states writes it down first.
 *   3. `place` is in one list at most: LIVE audience->live, PARKED audience->parked, RUNNABLE
 *      broker->runnable, PAGING what history.c waits with. In the other states it is in none.
 *   4. In STARTING the stream has no head, in BLOCKED an unfinished write: nothing is written.
 *   5. A frame arrives whole: the rest of the one that was cut is queued with the stream, and the
 *      cursor is at its event. That is all that is queued.
 *   6. A member of an unbound audience is sent no event.
 *   7. subscriber_set_state() alone changes states, subscriber_free() alone ends them. */
#include "broker/subscriber.h"

#include "audience/audience_set.h"
#include "audience/tag_index.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "base/strbuf.h"
#include "base/text/json_text.h"
#include "broker/stream_quotas.h"
#include "broker/subscriber_state.h"
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { REVOKED_MAX_BYTES = 8192, WHO_MAX_BYTES = 512, DISPLACED_RETRY_MS = 30000 };

/* ---------------------------------------------------------------- parts */

struct subscriber_part *subscriber_part_of(const struct subscriber *sub,
                                           void (*gone)(struct subscriber *sub,
                                                        struct subscriber_part *part))
{
    struct subscriber_part *p = sub->parts;
    while (p && p->gone != gone) {
        p = p->next;
    }
    return p;
}

void subscriber_part_add(struct subscriber *sub, struct subscriber_part *part)
{
    part->next = sub->parts;
    sub->parts = part;
}

void subscriber_part_remove(struct subscriber *sub, const struct subscriber_part *part)
{
    struct subscriber_part **at = &sub->parts;
    while (*at != part) {
        at = &(*at)->next;
    }
    *at = part->next;
}

/* The tags of those that have any. */
struct subscriber_tags {
    struct subscriber_part part;
    size_t n;
    struct tag_node v[];
};

static void subscriber_tags_gone(struct subscriber *sub, struct subscriber_part *part)
{
    struct subscriber_tags *t = container_of(part, struct subscriber_tags, part);
    while (t->n) {
        tag_index_leave(sub->b->tags, &t->v[--t->n]);
    }
    subscriber_part_remove(sub, part);
    free(t);
}

static struct subscriber_tags *subscriber_tags_of(const struct subscriber *sub)
{
    struct subscriber_part *part = subscriber_part_of(sub, subscriber_tags_gone);
    return part ? container_of(part, struct subscriber_tags, part) : NULL;
}

/* Those of `s` take the place of what it has. False: no memory, it has none now. */
static bool subscriber_set_tags(struct subscriber *sub, const struct subscription *s)
{
    struct subscriber_tags *t = subscriber_tags_of(sub);
    if (t) {
        subscriber_tags_gone(sub, &t->part);
    }
    if (s->tag_count == 0) {
        return true;
    }
    t = xcalloc(1, sizeof *t + s->tag_count * sizeof *t->v);
    t->part.gone = subscriber_tags_gone;
    subscriber_part_add(sub, &t->part);
    while (t->n < s->tag_count) {
        if (!tag_index_join(sub->b->tags, &t->v[t->n], s->tags[t->n], sub->id)) {
            subscriber_tags_gone(sub, &t->part);
            return false;
        }
        t->n++;
    }
    return true;
}

bool subscriber_has_tags(const struct subscriber *sub)
{
    return subscriber_tags_of(sub) != NULL;
}

size_t subscriber_tags(const struct subscriber *sub, struct slice out[POLICY_TAGS_MAX])
{
    const struct subscriber_tags *t = subscriber_tags_of(sub);
    size_t n = t ? t->n : 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = tag_node_text(&t->v[i]);
    }
    return n;
}

/* The member of those that are somebody's: it is there from when the stream opens. */
struct subscriber_presence {
    struct subscriber_part part;
    struct presence_member *member;
    struct strbuf data; /* until the stream opens */
    bool opened;
};

static void subscriber_presence_gone(struct subscriber *sub, struct subscriber_part *part)
{
    struct subscriber_presence *m = container_of(part, struct subscriber_presence, part);
    presence_leave(m->member, m->opened);
    subscriber_part_remove(sub, part);
    strbuf_clear(&m->data);
    free(m);
}

static struct subscriber_presence *subscriber_presence_of(const struct subscriber *sub)
{
    struct subscriber_part *part = subscriber_part_of(sub, subscriber_presence_gone);
    return part ? container_of(part, struct subscriber_presence, part) : NULL;
}

void subscriber_open_presence(struct subscriber *sub)
{
    struct subscriber_presence *m = subscriber_presence_of(sub);
    if (m) {
        m->opened = true;
        presence_open(m->member, strbuf_slice(&m->data));
        strbuf_clear(&m->data);
    }
}

/* The member may join. */
static void subscriber_set_presence(struct subscriber *sub, const struct subscription *s)
{
    struct subscriber_presence *was = subscriber_presence_of(sub);
    if (s->presence.p) {
        struct subscriber_presence *m = xcalloc(1, sizeof *m);
        m->part.gone = subscriber_presence_gone;
        m->member = presence_join(sub->b->presence, s->presence);
        strbuf_init(&m->data, SIZE_MAX);
        REQUIRE(strbuf_append(&m->data, s->presence_data.p, s->presence_data.n) == 0);
        subscriber_part_add(sub, &m->part);
        if (sub->state != SUB_STARTING) {
            subscriber_open_presence(sub);
        }
    }
    if (was) { /* only now: it may be of the same member */
        subscriber_presence_gone(sub, &was->part);
    }
}

struct slice subscriber_presence(const struct subscriber *sub)
{
    const struct subscriber_presence *m = subscriber_presence_of(sub);
    return m ? presence_topic(m->member) : slice_of(NULL, 0);
}

/* ---------------------------------------------------------------- states */

bool subscriber_is_behind(enum subscriber_state st)
{
    return st == SUB_RUNNABLE || st == SUB_BLOCKED || st == SUB_PAGING || st == SUB_PACED ||
           st == SUB_HELD;
}

void subscriber_set_state(struct subscriber *sub, enum subscriber_state st)
{
    if (subscriber_is_behind(sub->state) && (st == SUB_LIVE || st == SUB_PARKED)) {
        sub->b->metrics->caught_up_s = (uint64_t)loop_unix_ms(sub->b->loop) / 1000;
    }
    sub->b->metrics->behind += subscriber_is_behind(st) ? 1 : 0;
    sub->b->metrics->behind -= subscriber_is_behind(sub->state) ? 1 : 0;
    list_del(&sub->place);
    if (sub->state == SUB_LIVE && st != SUB_LIVE) {
        subscriber_leave_epoch(sub);
    }
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
    case SUB_HELD:
        sub->caught_up = false; /* what it misses while it is held is not its fault */
        subscriber_excuse(sub);
        break;
    }
}

void subscriber_note_position(struct subscriber *sub)
{
    const struct audience *a = sub->audience;
    const struct conflation *c = conflation_of(sub->audience);
    const struct eventlog *log = sub->b->log;
    sub->cursor = subscriber_position(sub);
    if (c && c->open) {
        bool held = sub->cursor >= eventlog_floor(log);
        sub->ordinal = held ? eventlog_index_after(log, sub->cursor) : c->edge_ordinal;
        return;
    }
    sub->ordinal = a->pending.n ? a->pending_from : eventlog_end(log);
}

/* It leaves the live list though it is at the head: its cursor becomes explicit. */
static void subscriber_unlive(struct subscriber *sub)
{
    if (sub->state == SUB_LIVE || sub->state == SUB_PARKED) {
        subscriber_note_position(sub);
        subscriber_set_state(sub, SUB_RUNNABLE);
    }
}

void subscriber_unlive_all(struct audience *a)
{
    list_for_each_safe (it, next, &a->live) {
        subscriber_unlive(container_of(it, struct subscriber, place));
    }
    list_for_each_safe (other, after, &a->parked) {
        subscriber_unlive(container_of(other, struct subscriber, place));
    }
}

void subscriber_bar(struct subscriber *sub)
{
    sub->barred = true;
    subscriber_unlive(sub); /* delivery_catch_up() holds it */
}

void subscriber_resume_held(struct broker *b)
{
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        if (sub->state == SUB_HELD && !sub->audience->unbound && !sub->barred) {
            subscriber_set_state(sub, SUB_RUNNABLE);
        }
    }
}

uint64_t subscriber_position(const struct subscriber *sub)
{
    if (sub->state != SUB_LIVE && sub->state != SUB_PARKED) {
        return sub->cursor;
    }
    const struct event_list *pending = &sub->audience->pending;
    const struct conflation *c = conflation_of(sub->audience);
    if (c && c->open) {
        return sub->cursor > c->edge ? sub->cursor : c->edge;
    }
    return pending->n ? pending->v[0]->id - 1 : eventlog_head(sub->b->log);
}

/* ---------------------------------------------------------------- terms */

static bool subscriber_has_lag_rule(const struct subscriber *sub)
{
    return sub->max_lag && sub->close_on_lag;
}

/* What is its own of a subscription: everything but the audience. */
static void subscriber_set_terms(struct subscriber *sub, const struct subscription *s)
{
    struct broker *b = sub->b;
    b->lag_rules -= subscriber_has_lag_rule(sub);
    sub->retry_ms = s->retry_ms ? s->retry_ms : b->opt.retry_ms;
    sub->max_lag = s->max_lag ? s->max_lag : b->opt.max_lag;
    enum on_lag on_lag = s->on_lag != ON_LAG_DEFAULT ? s->on_lag : b->opt.on_lag;
    sub->close_on_lag = on_lag == ON_LAG_CLOSE;
    subscriber_set_latest(sub, s);
    b->lag_rules += subscriber_has_lag_rule(sub);
    enum prime prime = s->prime != PRIME_DEFAULT ? s->prime : b->opt.prime;
    sub->prime = prime;
    sub->gzip_stored = s->no_gzip;
    if (sub->gzip_stored) {
        subscriber_leave_epoch(sub);
    }
    subscriber_set_heartbeat(sub, s->heartbeat_s ? s->heartbeat_s : b->opt.heartbeat_s);
    subscriber_set_pace(sub, s->events_per_s);
    subscriber_set_grant_end(sub, s->expires_ms);
}

/* Returns a new reference, or NULL. */
static struct audience *subscriber_audience(struct broker *b, const struct subscription *s)
{
    bool rebound;
    struct audience *a = audience_set_intern(b->audiences, s, &rebound);
    if (a && rebound) {
        subscriber_resume_held(b);
    }
    return a;
}

int subscriber_regrant(struct subscriber *sub, const struct subscription *s)
{
    if (s->presence.p && presence_may_join(sub->b->presence, s->presence)) {
        return UV_EAGAIN;
    }
    struct audience *a = subscriber_audience(sub->b, s);
    if (a && !subscriber_set_tags(sub, s)) {
        subscriber_bar(sub); /* without tags nobody could reach it: the next answer may do better */
        audience_set_unref(sub->b->audiences, a);
        a = NULL;
    }
    if (!a) {
        return UV_EAGAIN;
    }
    struct audience *was = sub->audience;
    bool moved = a != was;
    bool paced = sub->pace != NULL;
    if (moved || paced != (s->events_per_s > 0)) {
        subscriber_unlive(sub);
    }
    subscriber_set_presence(sub, s);
    subscriber_set_terms(sub, s);
    sub->audience = a;
    sub->barred = false;
    sub->ruled_from = moved ? subscriber_position(sub) : sub->ruled_from;
    if (sub->state == SUB_HELD || sub->state == SUB_PACED) {
        subscriber_set_state(sub, SUB_RUNNABLE);
    }
    audience_set_unref(sub->b->audiences, was);
    return moved;
}

/* ---------------------------------------------------------------- begin */

struct subscriber *subscriber_new(struct broker *b, struct stream *s, const struct verdict *v,
                                  struct saved_request *saved, const struct peer_address *client,
                                  bool takes_gzip)
{
    struct audience *a = subscriber_audience(b, &v->subscription);
    if (!a) {
        saved_request_unref(saved);
        return NULL;
    }
    bool gzip = takes_gzip && b->gzip && !v->subscription.no_gzip && subscriber_gzip_pays(a, b);
    struct subscriber *sub = xcalloc(1, gzip ? sizeof(struct subscriber_gzip) : sizeof *sub);
    sub->b = b;
    sub->stream = s;
    sub->id = s->id;
    if (!subscriber_set_tags(sub, &v->subscription)) {
        audience_set_unref(b->audiences, a);
        saved_request_unref(saved);
        free(sub);
        return NULL;
    }
    sub->gzip = gzip;
    b->metrics->audience.gzip_streams += gzip ? 1 : 0;
    sub->audience = a;
    sub->opened_ms = loop_now(b->loop);
    sub->saved = saved;
    sub->client = *client;
    list_init(&sub->place);
    list_init(&sub->all);
    deadline_init(&sub->beat);
    list_add_tail(&b->subscribers, &sub->all);
    subscriber_set_presence(sub, &v->subscription);
    subscriber_set_terms(sub, &v->subscription);
    if (v->expires_ms) {
        subscriber_set_expiry(sub, v->expires_ms);
    }
    b->metrics->subscribers++;
    stream_set_owner(s, &subscriber_stream_events, sub);
    return sub;
}

/* ---------------------------------------------------------------- end */

void subscriber_free(struct subscriber *sub, enum close_reason why)
{
    struct broker *b = sub->b;
    log_debug("broker", "unsubscribed",
              LOG_F(log_uint("stream", sub->id), log_str("reason", close_reason_name(why)),
                    log_uint("delivered", sub->delivered)));
    if (b->policy->gates->wants_disconnect(b->policy)) {
        struct disconnect_info info = {.reason = why,
                                       .seconds =
                                           (double)(loop_now(b->loop) - sub->opened_ms) / 1000,
                                       .delivered = sub->delivered};
        b->policy->gates->disconnected(b->policy, saved_request_identity(sub->saved), &info);
    }
    b->metrics->behind -= subscriber_is_behind(sub->state) ? 1 : 0;
    b->metrics->subscribers--;
    b->metrics->audience.gzip_streams -= sub->gzip ? 1 : 0;
    b->lag_rules -= subscriber_has_lag_rule(sub);
    list_del(&sub->place);
    list_del(&sub->all);
    deadline_disarm(&sub->beat);
    subscriber_clear_timing(sub);
    while (sub->parts) {
        sub->parts->gone(sub, sub->parts);
    }
    if (sub->counted) {
        stream_quotas_close(b->quotas, sub->id);
    }
    audience_set_unref(b->audiences, sub->audience);
    saved_request_unref(sub->saved);
    free(sub->gaps);
    free(sub);
}

static bool subscriber_may_write(const struct subscriber *sub)
{
    return sub->state != SUB_BLOCKED && sub->state != SUB_STARTING;
}

/* Of a frame in the form of its body. */
static struct stream_bytes subscriber_frame_bytes(const struct subscriber *sub, struct frame *f,
                                                  uv_buf_t *buf)
{
    return sub->gzip ? gzip_frame_bytes(f, buf) : stream_frame_bytes(f, buf);
}

/* `last` may be NULL. */
static void subscriber_end_with(struct subscriber *sub, enum close_reason why,
                                const struct sse_fields *last)
{
    bool may = subscriber_may_write(sub) && !close_reason_is_failure(why);
    struct frame *frame = last && may ? sse_frame(last) : NULL;
    if (may && sub->gzip) {
        struct slice bytes = frame ? slice_of(frame->bytes, frame->len) : slice_of(NULL, 0);
        struct frame *end = subscriber_gzip_frame(sub, bytes, true);
        frame_unref(frame);
        frame = end;
    }
    if (frame) {
        uv_buf_t buf;
        struct stream_bytes bytes = subscriber_frame_bytes(sub, frame, &buf);
        (void)stream_write(sub->stream, &bytes); /* advice: not worth waiting for */
        frame_unref(frame);
    }
    stream_close(sub->stream, why);
    subscriber_free(sub, why);
}

/* `at`, where its client is to be told of that; else 0. */
static uint64_t subscriber_untold(const struct subscriber *sub, uint64_t at)
{
    bool may = sub->prime != PRIME_NONE && sub->b->opt.position_s && !sub->reset_to;
    return may && at > sub->told ? at : 0;
}

/* How far it has come, where its client does not know that; 0: it does, or is not to. */
uint64_t subscriber_untold_position(const struct subscriber *sub)
{
    return subscriber_untold(sub, subscriber_position(sub));
}

/* `at`: the position that its client is told of; 0: none. */
static void subscriber_end_telling(struct subscriber *sub, enum close_reason why, unsigned retry_ms,
                                   uint64_t at)
{
    struct sse_fields f = {.retry_ms = jitter_around(&sub->b->jitter, retry_ms),
                           .mark = sub->audience->mark};
    struct position_text text;
    if (at) { /* it comes back: to where it is, not to its last event */
        position_fields(sub->b->opt.position_event, sub->prime, at, &text, &f);
        sub->b->metrics->positions++;
    }
    subscriber_end_with(sub, why, retry_ms || at ? &f : NULL);
}

void subscriber_end(struct subscriber *sub, enum close_reason why, unsigned retry_ms)
{
    bool tells = retry_ms && subscriber_may_write(sub);
    subscriber_end_telling(sub, why, retry_ms, tells ? subscriber_untold_position(sub) : 0);
}

void subscriber_end_at(struct subscriber *sub, enum close_reason why, uint64_t id)
{
    subscriber_end_telling(sub, why, 0, subscriber_may_write(sub) ? subscriber_untold(sub, id) : 0);
}

void subscriber_finish(struct subscriber *sub, enum close_reason why)
{
    if (sub->state == SUB_BLOCKED) {
        sub->finish = why; /* delivery_catch_up() ends it */
    } else {
        subscriber_end(sub, why, 0);
    }
}

/* The last event of its stream; retry_ms 0: says nothing about coming back. */
static void subscriber_end_revoked(struct subscriber *sub, enum close_reason why,
                                   struct slice reason, unsigned retry_ms)
{
    struct strbuf data;
    strbuf_init(&data, REVOKED_MAX_BYTES);
    int rc = strbuf_append_str(&data, "{\"reason\":");
    rc = rc ? rc : json_text_quote(&data, reason.p ? reason : slice_str(""));
    rc = rc ? rc : strbuf_append_str(&data, "}");
    struct sse_fields f = {.event = slice_str(sub->b->opt.revoked_event),
                           .data = strbuf_slice(&data),
                           .retry_ms = retry_ms};
    subscriber_end_with(sub, why, rc ? NULL : &f);
    strbuf_clear(&data);
}

void subscriber_revoke(struct subscriber *sub, struct slice reason)
{
    struct strbuf who;
    strbuf_init(&who, WHO_MAX_BYTES);
    identity_describe(saved_request_identity(sub->saved), &sub->b->opt.identity_shown, &who);
    log_info(
        "broker", "revoked",
        LOG_F(log_uint("stream", sub->id), log_slice("reason", reason),
              who.len ? log_slice("who", strbuf_slice(&who)) : (struct log_field){.key = NULL}));
    strbuf_clear(&who);
    subscriber_end_revoked(sub, CLOSE_REVOKED, reason, 0);
}

/* A client that takes no notice of the event comes back, and ends another stream of its key: not at
 * once. */
bool subscriber_displace(struct subscriber *sub, unsigned max)
{
    char reason[96];
    if (sub->state == SUB_STARTING) {
        return false;
    }
    int n = snprintf(reason, sizeof reason,
                     "a newer stream took the place of this one: at most %u may be open", max);
    unsigned retry_ms = jitter_around(&sub->b->jitter, DISPLACED_RETRY_MS);
    subscriber_end_revoked(sub, CLOSE_QUOTA, slice_of(reason, (size_t)n), retry_ms);
    return true;
}

/* ---------------------------------------------------------------- stream events */

static void subscriber_on_writable(struct stream *s)
{
    struct subscriber *sub = s->owner;
    if (sub->state == SUB_BLOCKED) {
        subscriber_set_state(sub, SUB_RUNNABLE);
        subscriber_sent(sub);
    }
}

static void subscriber_on_closed(struct stream *s, enum close_reason why)
{
    subscriber_free(s->owner, why);
}

const struct stream_events subscriber_stream_events = {.writable = subscriber_on_writable,
                                                       .closed = subscriber_on_closed};

/* What stream_write(), or behind it stream_queue(), said. False: the subscriber is gone. */
static bool subscriber_wrote(struct subscriber *sub, ssize_t n)
{
    if (n < 0) {
        subscriber_end(sub, close_reason_of(n), 0);
        return false;
    }
    if (sub->state != SUB_BLOCKED) {
        subscriber_sent(sub);
    }
    return true;
}

bool subscriber_write(struct subscriber *sub, struct frame *f)
{
    uv_buf_t buf;
    size_t from = sub->gzip ? GZIP_FRAME_HEAD : 0;
    struct stream_bytes bytes = subscriber_frame_bytes(sub, f, &buf);
    ssize_t n = stream_write(sub->stream, &bytes);
    if (n >= 0 && (size_t)n < bytes.total) {
        int rc = stream_queue(sub->stream, f, from + (size_t)n);
        subscriber_set_state(sub, SUB_BLOCKED);
        n = rc ? rc : n;
    }
    return subscriber_wrote(sub, n);
}

bool subscriber_send_frame(struct subscriber *sub, struct frame *f)
{
    if (!sub->gzip) {
        return subscriber_write(sub, f);
    }
    struct frame *stored = subscriber_gzip_frame(sub, slice_of(f->bytes, f->len), false);
    if (!stored) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        return false;
    }
    bool alive = subscriber_write(sub, stored);
    frame_unref(stored);
    return alive;
}

/* Of two frames, what begins at `from`, as a new reference; *offset: where in it. NULL: no memory. */
static struct frame *subscriber_rest_of(struct frame *f, struct frame *more, size_t from,
                                        size_t *offset)
{
    if (from >= f->len) {
        *offset = from - f->len;
        return frame_ref(more);
    }
    struct frame *both = frame_new((size_t)f->len + more->len);
    if (both) {
        memcpy(both->bytes, f->bytes, f->len);
        memcpy(both->bytes + f->len, more->bytes, more->len);
    }
    *offset = from;
    return both;
}

bool subscriber_send_frames(struct subscriber *sub, struct frame *f, struct frame *more)
{
    if (!more) {
        return subscriber_send_frame(sub, f);
    }
    size_t offset = 0;
    if (sub->gzip) {
        struct frame *both = subscriber_rest_of(f, more, 0, &offset);
        bool alive = both && subscriber_send_frame(sub, both);
        if (!both) {
            subscriber_end(sub, CLOSE_NO_MEMORY, 0);
        }
        frame_unref(both);
        return alive;
    }
    const uv_buf_t bufs[] = {uv_buf_init(f->bytes, f->len), uv_buf_init(more->bytes, more->len)};
    const struct stream_bytes bytes = {
        .bufs = bufs, .count = 2, .total = (size_t)f->len + more->len};
    ssize_t n = stream_write(sub->stream, &bytes);
    if (n >= 0 && (size_t)n < bytes.total) {
        struct frame *rest = subscriber_rest_of(f, more, (size_t)n, &offset);
        int rc = rest ? stream_queue(sub->stream, rest, offset) : UV_ENOMEM;
        frame_unref(rest);
        subscriber_set_state(sub, SUB_BLOCKED);
        n = rc ? rc : n;
    }
    return subscriber_wrote(sub, n);
}

void subscriber_finish_part(struct subscriber *sub, const char *reason)
{
    char data[96];
    uint64_t at = subscriber_position(sub);
    int n =
        snprintf(data, sizeof data, "{\"reason\":\"%s\",\"position\":\"%" PRIu64 "\"}", reason, at);
    struct sse_fields f = {.id = at,
                           .mark = sub->audience->mark,
                           .ends = true,
                           .event = slice_str(sub->b->opt.end_event),
                           .data = slice_of(data, (size_t)n)};
    struct frame *frame = sse_frame(&f);
    if (!frame) {
        subscriber_end(sub, CLOSE_NO_MEMORY, 0);
    } else if (subscriber_send_frame(sub, frame)) {
        sub->b->metrics->ended++;
        subscriber_finish(sub, CLOSE_ENDED);
    }
    frame_unref(frame);
}

/* ---------------------------------------------------------------- for operators */

const char *subscriber_state_name(const struct subscriber *sub)
{
    static const char *const names[] = {
        [SUB_STARTING] = "starting", [SUB_LIVE] = "live",       [SUB_PARKED] = "live",
        [SUB_RUNNABLE] = "behind",   [SUB_BLOCKED] = "blocked", [SUB_PAGING] = "reading",
        [SUB_PACED] = "paced",       [SUB_HELD] = "held",
    };
    return names[sub->state];
}

void subscriber_rules_change(struct broker *b)
{
    list_for_each (it, &b->subscribers) {
        struct subscriber *sub = subscriber_of_node(it);
        bool at_head = sub->state == SUB_LIVE || sub->state == SUB_PARKED;
        /* texts of filters have been asked about what is pending, too */
        sub->ruled_from = at_head ? eventlog_head(b->log) : sub->cursor;
    }
}

void subscriber_describe(const struct subscriber *sub, struct broker_connection *out)
{
    const struct audience *a = sub->audience;
    uint64_t cursor = subscriber_position(sub);
    *out = (struct broker_connection){
        .protocol = sub->stream->ops->protocol,
        .id = sub->id,
        .topics = a->topics,
        .topic_count = a->topic_count,
        .filter = a->filter,
        .format = a->format,
        .params = a->params,
        .ends = a->ends,
        .envelope = a->envelope,
        .every_ms = a->every_ms,
        .identity = saved_request_identity(sub->saved),
        .audience = a->id,
        .expires_ms = subscriber_grant_end(sub),
        .cursor = cursor,
        .lag = subscriber_lag(sub),
        .behind = subscriber_is_behind(sub->state),
        .seconds = (double)(loop_now(sub->b->loop) - sub->opened_ms) / 1000,
        .delivered = sub->delivered,
    };
    out->tag_count = subscriber_tags(sub, out->tags);
    out->presence = subscriber_presence(sub);
    peer_address_text(&sub->client, out->client);
    out->quota_count = sub->counted ? stream_quotas_of(sub->b->quotas, sub->id, out->quotas) : 0;
}

struct subscriber *subscriber_of_node(struct list *all_node)
{
    return container_of(all_node, struct subscriber, all);
}

struct subscriber *subscriber_of_stream(struct broker *b, uint64_t id)
{
    struct stream *s = b->server ? http_server_stream(b->server, id) : NULL;
    return s && s->events == &subscriber_stream_events ? s->owner : NULL;
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
