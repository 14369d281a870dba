/* GET: from a request to an open event stream.
 *
 *   subscribe_request  asks the policy, the stream is ours until it answers
 *   subscribe_judged   refuses, or makes a subscriber (SUB_STARTING), which owns the stream from then on
 *   start_place_find   finds the place to start at, and asks the store where only that knows it
 *   look back          the stream ends behind some event, which may be the one that its client had last
 *   subscribe_begin    sends the head and the first frame; the subscriber is SUB_RUNNABLE
 *
 * The client may leave at each of these, so the stream is found again by its id. */
#include "broker/http/subscribe.h"

#include "audience/audience_set.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "broker/delivery.h"
#include "broker/dry_run.h"
#include "broker/http/accept_field.h"
#include "broker/http/subscribe_state.h"
#include "broker/refusal.h"
#include "broker/stream_quotas.h"
#include "broker/subscriber_state.h"
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ASKED_TEXT_MAX = 256,
    HEAD_FIELDS_MAX_BYTES = 512 + 2 * POLICY_FIELDS_MAX_BYTES,
    SAVED_QUERY_MAX_BYTES = 1 << 20, /* limits.target_bytes bounds it */
    /* as JSON, where a byte may become \u00XX */
    PUBLISHED_MAX_BYTES = 6 * (EVENT_TOPIC_MAX_BYTES + EVENT_TYPE_MAX_BYTES + EVENT_KEY_MAX_BYTES) +
                          EVENT_ATTRS_MAX_BYTES + 64,
};

void subscribe_free(struct subscribe *w)
{
    strbuf_clear(&w->published);
    strbuf_clear(&w->fields);
    strbuf_clear(&w->asked_text);
    strbuf_clear(&w->asked_unknown);
    strbuf_clear(&w->asked_since);
    if (w->place.audience) {
        audience_set_unref(w->b->audiences, w->place.audience);
    }
    strbuf_clear(&w->saved_query);
    frame_unref(w->first);
    free(w);
}

/* ---------------------------------------------------------------- the place to start at */

/* retry, and the position, or the gap, which is at the same position: one frame, so that it leaves
 * in one packet. */
static struct frame *subscribe_first_frame(struct subscriber *sub, const struct start_place *place)
{
    struct sse_fields f = {.retry_ms = jitter_around(&sub->b->jitter, sub->retry_ms),
                           .mark = sub->audience->mark};
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
    struct frame *gap = subscriber_gap_frame(sub, place->gap, place->requested, place->at);
    struct frame *both = gap ? frame_new((size_t)first->len + gap->len) : NULL;
    if (both) {
        memcpy(both->bytes, first->bytes, first->len);
        memcpy(both->bytes + first->len, gap->bytes, gap->len);
    }
    frame_unref(first);
    frame_unref(gap);
    return both;
}

/* Those of other protocols may want the position in the head, where a page is to see it, too. A stream that begins with
 * a snapshot has none before its end. */
static int subscribe_head_fields(const struct subscribe *w, const struct subscriber *sub,
                                 bool latest, struct strbuf *out)
{
    int rc = strbuf_append_str(out, sub->gzip ? BROKER_GZIP_FIELDS : BROKER_STREAM_FIELDS);
    const char *name = w->route ? w->route->position_field : NULL;
    if (rc == 0 && name && !latest) {
        rc = strbuf_printf(out, "%s: %" PRIu64 "\r\nAccess-Control-Expose-Headers: %s\r\n", name,
                           w->place.at, name);
    }
    if (rc == 0 && w->fields.len) {
        rc = strbuf_append(out, w->fields.data, w->fields.len);
    }
    return rc;
}

/* `latest`: and with a snapshot. */
static void subscribe_begin(const struct subscribe *w, struct subscriber *sub, bool latest)
{
    const struct start_place *place = &w->place;
    struct broker *b = sub->b;
    struct strbuf fields;
    struct store_bounds bounds = b->store->ops->bounds(b->store);
    struct frame *first = subscribe_first_frame(sub, place);
    struct request_id id;
    stream_request_id(sub->stream, &id);
    strbuf_init(&fields, HEAD_FIELDS_MAX_BYTES);
    int rc = first ? subscribe_head_fields(w, sub, latest, &fields) : UV_ENOMEM;
    struct http_response head = {
        .status = 200, .content_type = b->opt.content_type, .fields = strbuf_slice(&fields)};
    rc = rc ? rc : stream_open(sub->stream, &head);
    strbuf_clear(&fields);
    if (rc) {
        frame_unref(first);
        subscriber_end(sub, rc == UV_EPIPE ? CLOSE_CLIENT_CLOSED : CLOSE_NO_MEMORY, 0);
        return;
    }
    sub->cursor = sub->start = sub->told = place->at;
    if (window_is_finite(&place->window)) {
        const struct window *window = &place->window;
        const struct subscriber_end_place end = {
            .until = place->until,
            .until_ms = window->until ? window->until_ms : INT64_MAX,
            .left = window->limit ? window->limit : UINT64_MAX,
        };
        subscriber_set_end(sub, &end);
    }
    sub->reset_to =
        start_place_leap_over(&bounds, place->at); /* leapt while the store was being asked */
    b->metrics->subscribed++;
    if (!b->draining) {
        subscriber_open_presence(sub);
    }
    log_debug("broker", "subscribed",
              LOG_F(log_uint("stream", sub->id), log_str("request", id.text),
                    log_uint("audience", sub->audience->id), log_uint("from", place->at),
                    log_str("policy_version", b->policy->version)));
    if (latest) {
        subscriber_snapshot_begin(sub);
        sub->start = subscriber_snapshot(sub);
    }
    /* not live before this turn's events have gone to those who are */
    subscriber_set_state(sub, SUB_RUNNABLE);
    bool alive = subscriber_send_frames(sub, first, w->first);
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

/* It comes back to a stream that has come to its end: asks for what is before that. */
static bool subscribe_is_over(const struct subscribe *w)
{
    const struct start_place *p = &w->place;
    return window_is_finite(&p->window) && p->asked.kind == START_AFTER &&
           (p->asked.ended || p->asked.id >= p->until);
}

/* Its client has had the event that ends the stream, and came back as an EventSource does: there is no
 * more to come. */
static void subscribe_end_again(struct subscribe *w, struct subscriber *sub)
{
    struct stream *s = sub->stream;
    stream_set_owner(s, NULL, NULL);
    refuse_nothing_more(w->b->refusals, s);
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
        subscribe_begin(w, sub, false);
        subscribe_free(w);
    }
}

/* Looks at the event that the client had last. True: `w` is the store's, or gone. */
static bool subscribe_look_back(struct subscribe *w, struct subscriber *sub)
{
    struct broker *b = w->b;
    uint64_t id = w->place.asked.id;
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

/* It has an event that ends it, and its client comes back behind one. */
static bool subscribe_may_have_ended(const struct subscribe *w, const struct subscriber *sub)
{
    const struct last_event_id *asked = &w->place.asked;
    return sub->audience->ends.p && w->published.len == 0 && asked->kind == START_AFTER &&
           asked->id > 0 && asked->id <= eventlog_head(w->b->log);
}

static void subscribe_on_found(struct start_place *p, int rc)
{
    struct subscribe *w = container_of(p, struct subscribe, place);
    struct subscriber *sub = subscriber_of_stream(w->b, p->token);
    if (sub && rc) {
        subscribe_abandon(sub, w->sse);
    } else if (sub && subscribe_is_over(w)) {
        struct stream *s = sub->stream;
        stream_set_owner(s, NULL, NULL);
        refuse_nothing_more(w->b->refusals, s);
        subscriber_free(sub, CLOSE_ENDED);
    } else if (sub && subscribe_may_have_ended(w, sub) && subscribe_look_back(w, sub)) {
        return; /* `w` is the store's, or gone */
    } else if (sub) {
        subscribe_begin(w, sub, false);
    }
    subscribe_free(w);
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

void subscribe_give_back(struct broker *b, const struct verdict *v, enum close_reason why)
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

/* The client asks for no position: the policy says where it begins. True: with a snapshot. */
static bool subscribe_start(struct subscribe *w, const struct subscription *s)
{
    struct start_place *p = &w->place;
    if (p->asked.kind != START_NOW || p->window.since) {
        return false;
    }
    switch (s->start) {
    case GRANT_NOW:
        break;
    case GRANT_EARLIEST:
        p->asked.kind = START_EARLIEST;
        break;
    case GRANT_LATEST:
        return !window_is_finite(&p->window); /* else a part of what is new */
    case GRANT_AFTER:
        p->asked.kind = START_AFTER;
        p->asked.id = s->start_after;
        if (strbuf_append_decimal(&w->asked_text, s->start_after) == 0) {
            p->asked.text = strbuf_slice(&w->asked_text);
        }
        break;
    }
    return false;
}

/* Newest events are wanted, and the store keeps none: a stream without them would be wrong, and not say so. */
static bool subscribe_lacks_latest(struct broker *b, const struct subscription *s)
{
    bool lacks = !b->opt.latest && (s->start == GRANT_LATEST || s->on_lag == ON_LAG_LATEST);
    if (lacks && log_pace_take(&b->latest_pace, loop_now(b->loop))) {
        log_error(
            "policy",
            s->start == GRANT_LATEST
                ? "subscribe: start = \"latest\" needs store.latest: name the topics there, and restart"
                : "subscribe: limits.on_lag = \"latest\" needs store.latest: name the topics there, and restart",
            NULL);
    }
    return lacks;
}

/* False: no memory. Pages of other origins see what is named as exposed. */
static bool subscribe_take_fields(struct subscribe *w, const struct subscription *s)
{
    return !s->fields.p || (strbuf_append(&w->fields, s->fields.p, s->fields.n) == 0 &&
                            strbuf_printf(&w->fields, "Access-Control-Expose-Headers: %.*s\r\n",
                                          (int)s->names.n, s->names.p) == 0);
}

/* False: the stream may not be for its member, and was refused. */
static bool subscribe_may_be_there(struct subscribe *w, struct stream *s, const struct verdict *v)
{
    struct broker *b = w->b;
    struct slice topic = v->subscription.presence;
    int rc = topic.p ? presence_may_join(b->presence, topic) : 0;
    if (rc) {
        subscribe_give_back(b, v, CLOSE_TRANSIENT);
        refuse_transient(b->refusals, s, w->sse,
                         rc == UV_ENOBUFS ? REFUSAL_OVERLOAD : REFUSAL_POLICY,
                         rc == UV_ENOBUFS ? "too many members are present" : "the policy failed");
    }
    return rc == 0;
}

struct subscriber *subscribe_grant(struct subscribe *w, struct stream *s, const struct verdict *v)
{
    struct broker *b = w->b;
    if (subscribe_lacks_latest(b, &v->subscription)) {
        subscribe_give_back(b, v, CLOSE_TRANSIENT);
        refuse_transient(b->refusals, s, w->sse, REFUSAL_POLICY, "the policy failed");
        subscribe_free(w);
        return NULL;
    }
    if (!subscribe_may_be_there(w, s, v)) {
        subscribe_free(w);
        return NULL;
    }
    bool counts = v->subscription.quota_count > 0;
    w->place.until = w->place.window.until_id ? w->place.window.until_id : UINT64_MAX;
    if (subscribe_is_over(w)) {
        subscribe_give_back(b, v, CLOSE_ENDED);
        refuse_nothing_more(b->refusals, s);
        subscribe_free(w);
        return NULL;
    }
    if (counts && !subscribe_counted(w, s, &v->subscription)) {
        subscribe_give_back(b, v, CLOSE_DENIED);
        subscribe_free(w);
        return NULL;
    }
    bool begins = subscribe_take_first(w, v->subscription.first) &&
                  subscribe_take_fields(w, &v->subscription);
    struct slice published = w->published.len ? strbuf_slice(&w->published) : slice_of(NULL, 0);
    struct subscriber *sub =
        !begins ? NULL
                : subscriber_new(b, s, v,
                                 saved_request_new(strbuf_slice(&w->saved_query), v->identity,
                                                   published, v->subscription.mark),
                                 &w->client, w->takes_gzip);
    if (!sub) {
        stream_quotas_close(b->quotas, s->id);
        subscribe_give_back(b, v, CLOSE_TRANSIENT);
        refuse_transient(b->refusals, s, w->sse, REFUSAL_POLICY, "the policy failed");
        subscribe_free(w);
        return NULL;
    }
    sub->counted = counts;
    dry_run_recents_add(b->recents, sub->saved, &sub->client); /* for dry runs to come */
    resubscribe_if_overtaken(sub, &w->moment, &v->subscription);
    return sub;
}

void subscribe_find(struct subscribe *w, struct subscriber *sub, const struct replay_rules *replay)
{
    const struct start_place *asked = &w->place;
    bool by_time = asked->window.since && asked->asked.kind != START_AFTER;
    sub->asked_after = asked->asked.kind == START_AFTER                 ? asked->asked.id
                       : asked->asked.kind == START_EARLIEST || by_time ? 0
                                                                        : UINT64_MAX;
    sub->no_replay = replay->none;
    sub->earliest = !replay->none && (asked->asked.kind == START_EARLIEST || by_time);
    sub->no_gap = replay->no_gap;
    w->place.replay = *replay;
    w->place.now = w->first ? w->asked_at : 0;
    w->place.token = sub->id;
    w->place.audience = audience_ref(sub->audience);
    start_place_find(&w->place);
}

static void subscribe_allowed(struct subscribe *w, struct stream *s, const struct verdict *v)
{
    struct subscriber *sub = subscribe_grant(w, s, v);
    if (!sub) {
        return;
    }
    if (subscribe_start(w, &v->subscription)) {
        sub->asked_after = UINT64_MAX;
        sub->no_gap = v->subscription.replay.no_gap;
        w->place.until = UINT64_MAX;
        subscribe_begin(w, sub, true);
        subscribe_free(w);
    } else {
        subscribe_find(w, sub, &v->subscription.replay);
    }
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

/* Is its end in the past? */
static bool subscribe_has_ended(const struct broker *b, const struct window *w)
{
    return (w->until && w->until_ms < loop_unix_ms(b->loop)) ||
           (w->until_id && w->until_id <= eventlog_head(b->log));
}

struct subscribe *subscribe_new(struct broker *b, const struct policy_request *prq,
                                const struct last_event_id *asked, const struct window *window,
                                const struct public_route *route)
{
    struct accept accept = accept_of(prq->http);
    struct subscribe *w = xcalloc(1, sizeof *w);
    *w = (struct subscribe){
        .b = b,
        .route = route,
        .asked_at = eventlog_head(b->log),
        .place = {.b = b, .asked = *asked, .window = *window, .done = subscribe_on_found},
        .moment = resubscribe_moment(b),
        .client = prq->client,
        .sse = accept.stream,
        .takes_gzip = accept.gzip};
    w->place.asked.mark = slice_of(NULL, 0); /* the policy has seen it */
    strbuf_init(&w->asked_text, ASKED_TEXT_MAX);
    strbuf_init(&w->asked_unknown, ASKED_TEXT_MAX);
    strbuf_init(&w->asked_since, ASKED_TEXT_MAX);
    strbuf_init(&w->saved_query, SAVED_QUERY_MAX_BYTES);
    strbuf_init(&w->published, PUBLISHED_MAX_BYTES);
    strbuf_init(&w->fields, HEAD_FIELDS_MAX_BYTES);
    const struct saved_request_rules rules = {b->opt.credential_params,
                                              b->opt.credential_param_count};
    if (subscribe_keep(&w->asked_text, &w->place.asked.text) ||
        subscribe_keep(&w->asked_unknown, &w->place.asked.unknown) ||
        subscribe_keep(&w->asked_since, &w->place.window.field) ||
        saved_request_pack(&w->saved_query, route ? prq->http->path : slice_of(NULL, 0), prq->query,
                           &rules)) {
        subscribe_free(w);
        return NULL;
    }
    return w;
}

void subscribe_request(struct broker *b, struct stream *s, const struct policy_request *prq,
                       const struct last_event_id *asked, const struct window *window,
                       const struct public_route *route)
{
    struct accept accept = accept_of(prq->http);
    bool sse = accept.stream;
    if (!accept_takes_stream(&accept)) {
        refuse(
            b->refusals, s, 406,
            slice_str(
                "this path answers text/event-stream, application/json and application/x-ndjson, "
                "all of which Accept excludes"));
        return;
    }
    if (asked->kind == START_NOW && !window->since && subscribe_has_ended(b, window)) {
        refuse(b->refusals, s, 400,
               slice_str("until is in the past, and nothing says where to begin: since= or "
                         "last_event_id= does (last_event_id=earliest: with the first event)"));
        return;
    }
    if (b->draining) {
        refuse_transient(b->refusals, s, sse, REFUSAL_DRAINING, "the broker is shutting down");
        return;
    }
    struct subscribe *w = subscribe_new(b, prq, asked, window, route);
    if (!w) {
        refuse_transient(b->refusals, s, sse, REFUSAL_OVERLOAD, "memory is short");
        return;
    }
    stream_set_owner(s, &subscribe_events, w);
    b->policy->gates->subscribe(b->policy, prq, subscribe_judged, b, s->id);
}
