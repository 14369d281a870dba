/* GET: from a request to an open event stream.
 *
 *   subscribe_request  asks the policy, the stream is ours until it answers
 *   subscribe_judged   refuses, or makes a subscriber (SUB_STARTING), which owns the stream from then on
 *   subscribe_go_on    finds the place to start at; asks the store where only that knows it:
 *     sync             the client is ahead of us: it has seen our newest event at another broker of
 *                      the same store, or knows a store that is gone
 *     seek             the policy bounds the age of what may be seen
 *     read             the stream ends behind some event, which may be the one that its client had last
 *   subscribe_begin    sends the head and the first frame; the subscriber is SUB_RUNNABLE
 *
 * The client may leave at each of these, so the stream is found again by its id. */
#include "broker/http/subscribe.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "broker/delivery.h"
#include "broker/dry_run.h"
#include "broker/http/accept_field.h"
#include "broker/refusal.h"
#include "broker/resubscribe.h"
#include "broker/stream_quotas.h"
#include "broker/subscriber_state.h"
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ASKED_TEXT_MAX = 256,
    SAVED_QUERY_MAX_BYTES = 1 << 20, /* limits.target_bytes bounds it */
};

/* Where the stream starts, and why not where it was asked to (NULL: it does). */
struct place {
    uint64_t at;
    const char *gap;
    struct slice requested;
};

struct subscribe {
    struct broker *b;
    struct last_event_id asked; /* what the client asked for; its texts are the next two */
    struct strbuf asked_text, asked_unknown;
    struct strbuf saved_query;
    struct resubscribe_moment moment; /* when the policy was asked */
    struct peer_address client;
    bool sse; /* the client says it is an EventSource: a refusal must not be final */
    bool takes_gzip;
    uint64_t asked_at;   /* the head when it came: nothing that the policy has looked up is older */
    struct frame *first; /* a reference: what the stream begins with; NULL: nothing */
    /* while the store is asked */
    uint64_t max_age_ms; /* 0: the policy sets no bound */
    bool synced, looked_back;
    struct place place;
};

static void subscribe_free(struct subscribe *w)
{
    strbuf_clear(&w->asked_text);
    strbuf_clear(&w->asked_unknown);
    strbuf_clear(&w->saved_query);
    frame_unref(w->first);
    free(w);
}

/* ---------------------------------------------------------------- the place to start at */

/* The position before the first event there ever was: a store begins with a leap to it. 0 when that
 * is not known any more, because retention has passed it. */
static uint64_t subscribe_origin(const struct store_bounds *bounds)
{
    bool known = bounds->leap_count && bounds->leaps[0].after == 0 && bounds->trimmed == 0;
    return known ? bounds->leaps[0].upto : 0;
}

/* The end of the leap that `id` was lost in; 0: none. `upto` itself is a position this store gave
 * out: that of a stream with no event yet. */
static uint64_t subscribe_leap_over(const struct store_bounds *bounds, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < bounds->leap_count; i++) {
        if (bounds->leaps[i].after < id && id < bounds->leaps[i].upto) {
            return bounds->leaps[i].upto;
        }
    }
    return 0;
}

/* `now`: where those begin that want what is new. */
static struct place subscribe_place_of(struct broker *b, const struct last_event_id *r,
                                       uint64_t now)
{
    uint64_t head = eventlog_head(b->log);
    struct store_bounds bounds = b->store->ops->bounds(b->store);
    switch (r->kind) {
    case START_NOW:
        return (struct place){.at = now};
    case START_EARLIEST:
        return (struct place){.at = bounds.trimmed ? bounds.trimmed : subscribe_origin(&bounds)};
    case START_UNKNOWN:
        return (struct place){now, "unknown", r->text};
    case START_AFTER:
        break;
    }
    if (r->id > head) {
        return (struct place){now, "reset", r->text};
    }
    if (r->id == 0) {
        return (struct place){.at = subscribe_origin(&bounds)};
    }
    uint64_t over = subscribe_leap_over(&bounds, r->id);
    return over ? (struct place){over, "reset", r->text} : (struct place){.at = r->id};
}

/* A request may have a valid and an unknown position: the unknown one is reported, too. A stream with
 * `first` begins where it was asked for: what was published while the policy looked up the state
 * that it begins with comes behind that state. */
static struct place subscribe_where_to_start(const struct subscribe *w)
{
    const struct last_event_id *r = &w->asked;
    uint64_t now = w->first ? w->asked_at : eventlog_head(w->b->log);
    struct place place = subscribe_place_of(w->b, r, now);
    if (!place.gap && r->unknown.p && r->kind != START_NOW) {
        place.gap = "unknown";
        place.requested = r->unknown;
    }
    return place;
}

/* retry, and the position, or the gap, which is at the same position: one frame, so that it leaves
 * in one packet. */
static struct frame *subscribe_first_frame(struct subscriber *sub, const struct place *place)
{
    struct sse_fields f = {.retry_ms = jitter_around(&sub->b->jitter, sub->retry_ms)};
    struct position_text position;
    char comment[40];
    if (!place->gap) {
        position_fields(sub->b->opt.position_event, sub->prime, place->at, &position, &f);
    }
    if (sub->b->opt.show_policy) {
        int n = snprintf(comment, sizeof comment, "policy %s", sub->b->policy->version);
        f.comment = slice_of(comment, (size_t)n);
    }
    struct frame *first = sse_frame(&f);
    if (!first || !place->gap) {
        return first;
    }
    struct frame *gap = subscriber_gap_frame(sub->b, place->gap, place->requested, place->at);
    struct frame *both = gap ? frame_new((size_t)first->len + gap->len) : NULL;
    if (both) {
        memcpy(both->bytes, first->bytes, first->len);
        memcpy(both->bytes + first->len, gap->bytes, gap->len);
    }
    frame_unref(first);
    frame_unref(gap);
    return both;
}

/* `own`: what it begins with besides; NULL: nothing. */
static void subscribe_begin(struct subscriber *sub, const struct place *place, struct frame *own)
{
    struct broker *b = sub->b;
    struct store_bounds bounds = b->store->ops->bounds(b->store);
    struct frame *first = subscribe_first_frame(sub, place);
    struct http_response head = {
        .status = 200,
        .content_type = b->opt.content_type,
        .fields = slice_str(sub->gzip ? BROKER_GZIP_FIELDS : BROKER_STREAM_FIELDS)};
    struct request_id id;
    stream_request_id(sub->stream, &id);
    int rc = first ? stream_open(sub->stream, &head) : UV_ENOMEM;
    if (rc) {
        frame_unref(first);
        subscriber_end(sub, rc == UV_EPIPE ? CLOSE_CLIENT_CLOSED : CLOSE_NO_MEMORY, 0);
        return;
    }
    sub->cursor = sub->start = sub->told = place->at;
    sub->reset_to =
        subscribe_leap_over(&bounds, place->at); /* leapt while the store was being asked */
    b->metrics->subscribed++;
    log_debug("broker", "subscribed",
              LOG_F(log_uint("stream", sub->id), log_str("request", id.text),
                    log_uint("audience", sub->audience->id), log_uint("from", place->at),
                    log_str("policy_version", b->policy->version)));
    /* not live before this turn's events have gone to those who are */
    subscriber_set_state(sub, SUB_RUNNABLE);
    bool alive = subscriber_send_frames(sub, first, own);
    frame_unref(first);
    if (alive && b->draining) { /* began while the store was being asked */
        subscriber_end(sub, CLOSE_DRAINING, b->opt.drain_retry_ms);
    }
}

/* ---------------------------------------------------------------- asking the store */

/* The store cannot say where the stream begins. */
static void subscribe_abandon(struct subscriber *sub, bool sse)
{
    struct stream *s = sub->stream;
    /* while draining nothing is held open: the drain would wait for it */
    bool draining = sub->b->draining;
    enum close_reason reason = draining ? CLOSE_DRAINING : CLOSE_TRANSIENT;
    stream_set_owner(s, NULL, NULL);
    refuse_transient(sub->b->refusals, s, sse, draining ? REFUSAL_DRAINING : REFUSAL_STORE,
                     draining ? "the broker is shutting down" : "the event store is unavailable");
    subscriber_free(sub, reason);
}

static void subscribe_go_on(struct subscribe *w, struct subscriber *sub);

static void subscribe_on_synced(void *ctx, uint64_t token, int rc)
{
    struct subscribe *w = ctx;
    struct subscriber *sub = subscriber_of_stream(w->b, token);
    if (sub && rc == 0) {
        subscribe_go_on(w, sub);
        return;
    }
    if (sub) {
        subscribe_abandon(sub, w->sse);
    }
    subscribe_free(w);
}

static void subscribe_on_sought(void *ctx, uint64_t token, int rc, uint64_t id)
{
    struct subscribe *w = ctx;
    struct subscriber *sub = subscriber_of_stream(w->b, token);
    if (sub && rc) {
        subscribe_abandon(sub, w->sse);
    } else if (sub) {
        uint64_t head = eventlog_head(w->b->log); /* the store may know events still to be tailed */
        id = id < head ? id : head;
        w->place.at = id > w->place.at ? id : w->place.at; /* hidden on purpose: no gap */
        subscribe_begin(sub, &w->place, w->first);
    }
    subscribe_free(w);
}

/* Its client has had the event that ends the stream, and came back as an EventSource does: there is no
 * more to come. */
static void subscribe_end_again(struct subscribe *w, struct subscriber *sub)
{
    struct stream *s = sub->stream;
    const struct verdict over = {.kind = VERDICT_DENY,
                                 .status = 204,
                                 .hook = "subscribe",
                                 .reason = slice_str("the stream has ended (`ends`)"),
                                 .identity = saved_request_identity(sub->saved)};
    stream_set_owner(s, NULL, NULL);
    refuse_denied(w->b->refusals, s, &over);
    subscriber_free(sub, CLOSE_ENDED);
    subscribe_free(w);
}

static void subscribe_on_looked_back(void *ctx, uint64_t token, int rc,
                                     const struct store_page *page)
{
    struct subscribe *w = ctx;
    struct subscriber *sub = subscriber_of_stream(w->b, token);
    if (!sub) {
        subscribe_free(w);
    } else if (rc) {
        subscribe_abandon(sub, w->sse);
        subscribe_free(w);
    } else if (page->n && delivery_ended(sub, page->events[0])) {
        subscribe_end_again(w, sub);
    } else {
        subscribe_go_on(w, sub);
    }
}

/* Looks at the event that the client had last. True: `w` is the store's, or gone. */
static bool subscribe_look_back(struct subscribe *w, struct subscriber *sub)
{
    struct broker *b = w->b;
    uint64_t id = w->asked.id;
    w->looked_back = true;
    if (id > eventlog_floor(b->log)) {
        struct event *ev = eventlog_at(b->log, eventlog_index_after(b->log, id - 1));
        bool over = ev && ev->id == id && delivery_ended(sub, ev);
        if (over) {
            subscribe_end_again(w, sub);
        }
        return over;
    }
    const struct store_query q = {.after = id - 1, .upto = id, .max_events = 1, .max_bytes = 1};
    if (b->store->ops->read(b->store, &q, subscribe_on_looked_back, w, sub->id)) {
        subscribe_abandon(sub, w->sse);
        subscribe_free(w);
    }
    return true;
}

/* `w` is the store's, or gone, afterwards. */
static void subscribe_go_on(struct subscribe *w, struct subscriber *sub)
{
    struct broker *b = w->b;
    const struct store_ops *store = b->store->ops;
    int rc = 0;
    bool back = w->asked.kind == START_AFTER && w->asked.id > 0;
    if (back && !w->looked_back && sub->audience->ends.p && w->asked.id <= eventlog_head(b->log) &&
        subscribe_look_back(w, sub)) {
        return;
    }
    if (!w->synced && store->sync && w->asked.kind == START_AFTER &&
        w->asked.id > eventlog_head(b->log)) {
        w->synced = true;
        rc = store->sync(b->store, subscribe_on_synced, w, sub->id);
    } else {
        w->place = subscribe_where_to_start(w);
        if (!w->max_age_ms || w->asked.kind == START_NOW) {
            subscribe_begin(sub, &w->place, w->first);
            subscribe_free(w);
            return;
        }
        int64_t since = loop_unix_ms(b->loop) - (int64_t)w->max_age_ms;
        rc = store->seek(b->store, since, subscribe_on_sought, w, sub->id);
    }
    if (rc) {
        subscribe_abandon(sub, w->sse);
        subscribe_free(w);
    }
}

/* ---------------------------------------------------------------- asking the policy */

static void subscribe_on_closed(struct stream *s, enum close_reason why)
{
    struct subscribe *w = s->owner;
    (void)why;
    w->b->policy->gates->cancel(w->b->policy, s->id);
    subscribe_free(w);
}

static void subscribe_on_writable(struct stream *s)
{
    (void)s; /* nothing is queued on a stream that is not open */
}

/* stream_open() would refuse it, too: who wants to read a stream keeps its connection open. */
static void subscribe_on_half_closed(struct stream *s)
{
    subscribe_on_closed(s, CLOSE_CLIENT_CLOSED);
    stream_set_owner(s, NULL, NULL);
    stream_close(s, CLOSE_CLIENT_CLOSED);
}

static const struct stream_events subscribe_events = {.writable = subscribe_on_writable,
                                                      .half_closed = subscribe_on_half_closed,
                                                      .closed = subscribe_on_closed};

/* False: it may not count for what the policy says, and was refused. */
static bool subscribe_counted(struct subscribe *w, struct stream *s, const struct subscription *sn)
{
    size_t which = 0;
    struct broker *b = w->b;
    switch (stream_quotas_change(b->quotas, s->id, sn, &which)) {
    case QUOTA_GRANTED:
        return true;
    case QUOTA_DENIED:
        refuse_quota(b->refusals, s, &sn->quotas[which]);
        return false;
    case QUOTA_NO_ROOM:
        break;
    }
    refuse_transient(b->refusals, s, w->sse, REFUSAL_OVERLOAD, "too many streams are counted");
    return false;
}

/* The policy has granted a stream that does not begin. What it does about grants it undoes in `disconnect`, so
 * that runs once for each, except while `subscribe` waits: then nothing was granted. */
static void subscribe_give_back(struct broker *b, const struct verdict *v, enum close_reason why)
{
    const struct policy_gates *gates = b->policy->gates;
    if (v->kind == VERDICT_ALLOW && gates->wants_disconnect(b->policy)) {
        const struct disconnect_info info = {.reason = why};
        gates->disconnected(b->policy, v->identity, &info);
    }
}

/* False: no memory. */
static bool subscribe_take_first(struct subscribe *w, struct slice bytes)
{
    struct broker *b = w->b;
    bool shared = false;
    if (bytes.n == 0) {
        return true;
    }
    w->first = frame_cache_get(&b->firsts, bytes, &shared);
    b->metrics->firsts++;
    b->metrics->firsts_shared += shared;
    return w->first != NULL;
}

static void subscribe_allowed(struct subscribe *w, struct stream *s, const struct verdict *v)
{
    struct broker *b = w->b;
    bool counts = v->subscription.quota_count > 0;
    if (counts && !subscribe_counted(w, s, &v->subscription)) {
        subscribe_give_back(b, v, CLOSE_DENIED);
        subscribe_free(w);
        return;
    }
    bool begins = subscribe_take_first(w, v->subscription.first);
    struct subscriber *sub =
        !begins
            ? NULL
            : subscriber_new(b, s, v, saved_request_new(strbuf_slice(&w->saved_query), v->identity),
                             &w->client, w->takes_gzip);
    if (!sub) {
        stream_quotas_close(b->quotas, s->id);
        subscribe_give_back(b, v, CLOSE_TRANSIENT);
        refuse_transient(b->refusals, s, w->sse, REFUSAL_POLICY, "the policy failed");
        subscribe_free(w);
        return;
    }
    sub->counted = counts;
    dry_run_recents_add(b->recents, sub->saved, &sub->client); /* for dry runs to come */
    resubscribe_if_overtaken(sub, &w->moment, &v->subscription);
    sub->asked_after = w->asked.kind == START_AFTER      ? w->asked.id
                       : w->asked.kind == START_EARLIEST ? 0
                                                         : UINT64_MAX;
    sub->no_replay = v->subscription.no_replay;
    if (sub->no_replay) {
        w->asked.kind = START_NOW;
    }
    sub->earliest = w->asked.kind == START_EARLIEST;
    w->max_age_ms = v->subscription.replay_max_age_ms;
    subscribe_go_on(w, sub);
}

static void subscribe_judged(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct stream *s = http_server_stream(b->server, token);
    if (!s || s->events != &subscribe_events) {
        subscribe_give_back(b, v, CLOSE_CLIENT_CLOSED); /* it left when the policy had decided */
        return;
    }
    struct subscribe *w = s->owner;
    stream_set_owner(s, NULL, NULL);
    if (b->draining) {
        subscribe_give_back(b, v, CLOSE_DRAINING);
        refuse_transient(b->refusals, s, w->sse, REFUSAL_DRAINING, "the broker is shutting down");
    } else if (v->kind == VERDICT_DENY) {
        refuse_denied(b->refusals, s, v);
    } else if (v->kind == VERDICT_TRANSIENT) {
        refuse_transient(b->refusals, s, w->sse, REFUSAL_POLICY, "the policy could not decide");
    } else {
        subscribe_allowed(w, s, v);
        return;
    }
    subscribe_free(w);
}

/* Copies a text of the request, which ends before the policy has decided. */
static int subscribe_keep(struct strbuf *out, struct slice *text)
{
    size_t n = text->n < ASKED_TEXT_MAX ? text->n : ASKED_TEXT_MAX;
    int rc = n ? strbuf_append(out, text->p, n) : 0;
    *text = n ? strbuf_slice(out) : slice_of(NULL, 0);
    return rc;
}

void subscribe_request(struct broker *b, struct stream *s, const struct policy_request *prq,
                       const struct last_event_id *asked)
{
    struct accept accept = accept_of(prq->http);
    bool sse = accept.stream;
    if (accept.given && (accept.no_stream || !(sse || accept.text || accept.any))) {
        refuse(b->refusals, s, 406,
               slice_str("this path answers text/event-stream, which Accept excludes"));
        return;
    }
    if (b->draining) {
        refuse_transient(b->refusals, s, sse, REFUSAL_DRAINING, "the broker is shutting down");
        return;
    }
    struct subscribe *w = xcalloc(1, sizeof *w);
    *w = (struct subscribe){.b = b,
                            .asked = *asked,
                            .asked_at = eventlog_head(b->log),
                            .moment = resubscribe_moment(b),
                            .client = prq->client,
                            .sse = sse,
                            .takes_gzip = accept.gzip};
    strbuf_init(&w->asked_text, ASKED_TEXT_MAX);
    strbuf_init(&w->asked_unknown, ASKED_TEXT_MAX);
    strbuf_init(&w->saved_query, SAVED_QUERY_MAX_BYTES);
    const struct saved_request_rules rules = {b->opt.credential_params,
                                              b->opt.credential_param_count};
    if (subscribe_keep(&w->asked_text, &w->asked.text) ||
        subscribe_keep(&w->asked_unknown, &w->asked.unknown) ||
        saved_request_pack(&w->saved_query, prq->query, &rules)) {
        subscribe_free(w);
        refuse_transient(b->refusals, s, sse, REFUSAL_OVERLOAD, "memory is short");
        return;
    }
    stream_set_owner(s, &subscribe_events, w);
    b->policy->gates->subscribe(b->policy, prq, subscribe_judged, b, s->id);
}
