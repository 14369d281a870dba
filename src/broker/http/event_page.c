/* One page of history. It is made in pieces, so that nobody waits for it long:
 *
 *   event_page_request  asks the policy
 *   event_page_judged   refuses, or finds the audience, and where the page begins (start_place.h)
 *   event_page_found    knows where it begins
 *   event_page_run      takes events, out of the event log or out of pages of the store, for some time in each turn of
 *                       the loop, and answers, with 304 where the client has it
 *
 * The client may leave at each of these: then it is freed, or when the store has answered. */
#include "broker/http/event_page.h"

#include "audience/audience_set.h"
#include "audience/render.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/digest.h"
#include "base/logging.h"
#include "base/text/json_text.h"
#include "broker/http/start_place.h"
#include "broker/http/subscribe.h"
#include "broker/refusal.h"
#include "broker/stream_quotas.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LIMIT_DEFAULT = 100,
    BYTES_MAX =
        1 << 20, /* it ends behind the event that makes it longer; there is always a next one */
    LOOK_EVENTS_MAX =
        10000,      /* looked at for one page, so that it ends where few are for the client */
    PACE_MS = 1000, /* a second's worth of events_per_s at once; it leaves as much later */
    PACE_MAX_MS = 60 * 1000,
    TEXT_MAX = 512,
    TAG_DIGITS = 32,
    OUT_MAX_BYTES = 30 << 20, /* one event is always taken, whatever its format made of it */
};

struct event_page {
    struct broker *b;
    struct stream *stream; /* NULL: the client has left */
    struct start_place place;
    struct strbuf asked_text, asked_unknown, asked_since, if_none_match, identity;
    struct audience *audience; /* a reference; NULL: the policy has not decided */
    struct task task;
    struct deadline pace; /* before it leaves, where the subscription has events_per_s */
    double per_s;         /* 0: no bound */
    bool lines;           /* NDJSON */
    bool counted;         /* for quotas */
    bool asking;          /* the store has it */
    bool full;            /* it ends before `end` */
    struct broker_wait
        wait;       /* linked: for `pace`; it counts as unread then, and not as being made */
    uint32_t epoch; /* of the policy that granted it: that makes all of it */
    uint64_t hash;  /* see event_page_hash() */
    uint64_t
        asked_at; /* the head when the request came: what the policy grants may end right behind it */
    uint64_t cursor, end;
    struct event_list held; /* of the store */
    size_t held_at;
    uint64_t held_upto;
    unsigned count, looked;
    uint64_t spent_ns;
    struct strbuf out;
    char tag[TAG_DIGITS + 3]; /* in quotes */
    bool known;               /* the client has it */
};

static const struct stream_events event_page_events;
static const char unread_text[] =
    "too much of pages that were asked for has not been read by their clients";

/* Its time has come, or it ends. */
static void event_page_end_wait(struct event_page *p)
{
    deadline_disarm(&p->pace);
    if (list_linked(&p->wait.node)) {
        list_del(&p->wait.node);
        p->b->event_pages++;
        p->b->metrics->event_page_unread -= p->out.len;
    }
}

/* `why`: for the policy, where it has granted the page. */
static void event_page_free(struct event_page *p, enum close_reason why)
{
    struct broker *b = p->b;
    task_cancel(&p->task);
    event_page_end_wait(p);
    if (p->audience) {
        b->event_pages--;
        audience_set_unref(b->audiences, p->audience);
        if (p->counted) {
            stream_quotas_close(b->quotas, p->place.token);
        }
        if (b->policy->gates->wants_disconnect(b->policy)) {
            bool sent = why == CLOSE_ENDED;
            const struct disconnect_info info = {.reason = why, .delivered = sent ? p->count : 0};
            b->policy->gates->disconnected(b->policy, strbuf_slice(&p->identity), &info);
        }
    }
    event_list_clear(&p->held);
    struct strbuf *const texts[] = {&p->asked_text,    &p->asked_unknown, &p->asked_since,
                                    &p->if_none_match, &p->identity,      &p->out};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        strbuf_clear(texts[i]);
    }
    free(p);
}

/* How much of earlier pages has not been taken leaves room for so many bytes. One page always is there. */
static bool event_page_has_room(const struct broker *b, size_t bytes)
{
    uint64_t unread = b->metrics->event_page_unread;
    return unread == 0 || unread + bytes <= b->opt.unread_page_bytes;
}

static void event_page_refuse(struct event_page *p, enum refusal_cause cause, const char *why)
{
    stream_set_owner(p->stream, NULL, NULL);
    refuse_transient(p->b->refusals, p->stream, false, cause, why);
    event_page_free(p, CLOSE_TRANSIENT);
}

/* ---------------------------------------------------------------- the answer */

/* The tag of what is sent, and to whom: equal in all workers and brokers. Filters may ask sets, the time or a database,
 * and events expire and are erased, so whether a client has the page shows when it is made, and not before. */
static int event_page_make_tag(struct event_page *p)
{
    const struct slice parts[] = {slice_of(p->audience->key, p->audience->key_len),
                                  slice_str(p->b->policy->version), strbuf_slice(&p->out)};
    char hex[DIGEST_HEX_BYTES] = "";
    struct digest *d = digest_new();
    int rc = d ? 0 : UV_ENOMEM;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && rc == 0; i++) {
        rc = digest_add(d, &parts[i].n, sizeof parts[i].n);
        rc = rc || parts[i].n == 0 ? rc : digest_add(d, parts[i].p, parts[i].n);
    }
    rc = rc ? rc : digest_hex(d, hex);
    digest_free(d);
    snprintf(p->tag, sizeof p->tag, "\"%.*s\"", TAG_DIGITS, hex);
    return rc;
}

static int event_page_put_gap(struct event_page *p)
{
    if (!p->place.gap) {
        return strbuf_append_str(&p->out, "null");
    }
    int rc = strbuf_printf(&p->out, "{\"reason\":\"%s\",\"requested\":", p->place.gap);
    rc = rc ? rc : json_text_quote(&p->out, p->place.requested);
    return rc ? rc : strbuf_printf(&p->out, ",\"resumed_from\":\"%" PRIu64 "\"}", p->place.at);
}

/* The last bytes of the body. 0, UV_ENOMEM or UV_ENOBUFS. */
static int event_page_close(struct event_page *p)
{
    int rc = strbuf_printf(&p->out,
                           "%s\"next\":\"%" PRIu64 "\",\"more\":%s,\"gap\":", p->lines ? "{" : "],",
                           p->cursor, p->full ? "true" : "false");
    rc = rc ? rc : event_page_put_gap(p);
    return rc ? rc : strbuf_append_str(&p->out, "}\n");
}

static void event_page_answer(struct event_page *p)
{
    char fields[256];
    struct slice body = p->known ? slice_of(NULL, 0) : strbuf_slice(&p->out);
    if (!event_page_has_room(p->b, body.n)) {
        p->b->metrics->event_pages_refused++;
        event_page_refuse(p, REFUSAL_OVERLOAD, unread_text);
        return;
    }
    struct frame *frame = frame_copy_counted(body, &p->b->metrics->event_page_unread);
    if (!frame) {
        event_page_refuse(p, REFUSAL_OVERLOAD, "memory is short");
        return;
    }
    strbuf_clear(&p->out);
    snprintf(fields, sizeof fields,
             "Cache-Control: private, no-cache\r\nVary: Accept, Accept-Encoding\r\n"
             "X-Content-Type-Options: nosniff\r\nETag: %s\r\n",
             p->tag);
    struct http_response r = {.status = p->known ? 304 : 200,
                              .content_type = p->known   ? NULL
                                              : p->lines ? "application/x-ndjson"
                                                         : "application/json",
                              .body = slice_of(frame->bytes, frame->len),
                              .frame = frame,
                              .fields = slice_str(fields)};
    p->b->metrics->event_pages++;
    p->b->metrics->event_pages_known += p->known;
    p->b->metrics->event_page_events += p->count;
    latency_add_ns(&p->b->metrics->event_page, p->spent_ns);
    stream_set_owner(p->stream, NULL, NULL);
    (void)stream_respond(p->stream,
                         &r); /* on failure the connection is closed: nothing more to do */
    frame_unref(frame);
    event_page_free(p, CLOSE_ENDED);
}

static void event_page_leave(struct event_page *p)
{
    event_page_end_wait(p);
    if (p->epoch != p->b->policy_epoch) {
        event_page_refuse(p, REFUSAL_POLICY, "the policy has changed");
    } else {
        event_page_answer(p);
    }
}

static void event_page_on_pace(struct deadline *d)
{
    event_page_leave(container_of(d, struct event_page, pace));
}

static void event_page_on_wait_end(struct broker_wait *w)
{
    event_page_leave(container_of(w, struct event_page, wait));
}

/* It is made. Who asks for one page after the other gets no more than a stream would: what it has leaves when as much
 * may come again. */
static void event_page_made(struct event_page *p)
{
    struct broker *b = p->b;
    if (event_page_close(p) || event_page_make_tag(p)) {
        event_page_refuse(p, REFUSAL_OVERLOAD, "memory is short");
        return;
    }
    p->known = p->if_none_match.len && strstr(p->if_none_match.data, p->tag);
    double ms = p->per_s > 0 && !p->known ? (double)p->count * PACE_MS / p->per_s : 0;
    if (ms < 1) {
        event_page_answer(p);
        return;
    }
    list_add_tail(&b->waits, &p->wait.node);
    b->event_pages--;
    b->metrics->event_page_unread += p->out.len;
    deadline_arm_in(loop_deadline_class(b->loop, PACE_MS, event_page_on_pace), &p->pace,
                    ms < PACE_MAX_MS ? (uint64_t)ms : PACE_MAX_MS);
}

/* ---------------------------------------------------------------- events */

/* JSON without white space, so that it is one line, or a string. */
static int event_page_put_data(struct strbuf *out, struct slice data)
{
    if (!json_text_ok(data)) {
        return json_text_quote(out, data);
    }
    int rc = strbuf_reserve(out, data.n);
    if (rc == 0) {
        out->len += json_text_compact(out->data + out->len, data);
        out->data[out->len] = '\0';
    }
    return rc;
}

static int event_page_put_name(struct strbuf *out, const char *name, struct slice text)
{
    int rc = strbuf_printf(out, ",\"%s\":", name);
    return rc ? rc : json_text_quote(out, text);
}

static int event_page_put(struct event_page *p, const struct event *ev,
                          const struct rendering *what)
{
    struct strbuf *out = &p->out;
    int rc = p->lines || p->count == 0 ? 0 : strbuf_append(out, ",", 1);
    const struct policy_binding *binding = &p->audience->binding;
    if (binding->format <= POLICY_FORMAT_JSON || binding->envelope) {
        rc = rc ? rc : event_page_put_data(out, what->fields.data); /* it is all of this */
    } else {
        rc = rc ? rc : strbuf_printf(out, "{\"id\":\"%" PRIu64 "\"", ev->id);
        if (what->plain) { /* a format may be there to hide these */
            rc = rc ? rc : event_page_put_name(out, "topic", event_topic(ev));
        }
        /* what `sse.topic` makes of it is for streams */
        rc = rc ? rc
                : event_page_put_name(out, "type",
                                      what->renamed ? what->fields.event : event_type(ev));
        if (what->plain) {
            rc = rc ? rc : strbuf_printf(out, ",\"time\":%.3f", (double)ev->time_ms / 1000);
            rc = rc || !ev->expires_ms
                     ? rc
                     : strbuf_printf(out, ",\"expires\":%.3f", (double)ev->expires_ms / 1000);
        }
        rc = rc ? rc : strbuf_append_str(out, ",\"data\":");
        rc = rc ? rc : event_page_put_data(out, what->fields.data);
        rc = rc ? rc : strbuf_append(out, "}", 1);
    }
    return rc ? rc : p->lines ? strbuf_append(out, "\n", 1) : 0;
}

static int event_page_put_failed(struct event_page *p, const struct event *ev)
{
    return strbuf_printf(&p->out, "%s{\"id\":\"%" PRIu64 "\",\"skipped\":\"format-error\"}%s",
                         p->lines || p->count == 0 ? "" : ",", ev->id, p->lines ? "\n" : "");
}

/* False: it was refused. */
static bool event_page_take(struct event_page *p, struct event *ev)
{
    struct rendering what;
    const struct render_order order = {
        .mode = RENDER_DRY_RUN, .binding = &p->audience->binding, .event = ev};
    int rc = 0;
    p->cursor = ev->id;
    p->looked++;
    if (!audience_wants(p->audience, event_topic(ev))) {
        return true;
    }
    switch (render(p->b->renderer, &order, &what)) {
    case RENDER_EVENT:
        rc = event_page_put(p, ev, &what);
        p->count++;
        break;
    case RENDER_FAILED:
        rc = event_page_put_failed(p, ev);
        p->count++;
        break;
    case RENDER_NO_MEMORY:
        rc = UV_ENOMEM;
        break;
    case RENDER_EXPIRED:
        p->b->metrics->audience.expired++;
        break;
    case RENDER_FILTERED:
    case RENDER_LEFT_OUT:
        break;
    }
    if (rc) {
        event_page_refuse(p, REFUSAL_OVERLOAD, "memory is short, or the page is too long");
    }
    return rc == 0;
}

/* The events up to there are gone: it begins behind them. A client that had a position has missed some. */
static void event_page_pass_lost(struct event_page *p, uint64_t upto)
{
    struct start_place *place = &p->place;
    bool position = place->asked.kind == START_AFTER && !place->replay.no_gap;
    if (position && !place->gap) {
        place->gap = "expired";
        place->requested = place->asked.text;
    }
    place->at = p->cursor = upto;
    p->end = p->end > upto ? p->end : upto;
}

static void event_page_on_read(void *ctx, uint64_t token, int rc, const struct store_page *page);

static void event_page_read(struct event_page *p)
{
    struct broker *b = p->b;
    uint64_t floor = eventlog_floor(b->log);
    struct slice names[AUDIENCE_NAMES_MAX];
    bool few = b->store->ops->reads_by_topic && p->audience->names.p;
    const struct store_query q = {.after = p->cursor,
                                  .upto = p->end < floor ? p->end : floor,
                                  .max_events = b->opt.page_events,
                                  .max_bytes = b->opt.page_bytes,
                                  .topics = names,
                                  .topic_count =
                                      few ? audience_names_split(p->audience->names, names) : 0};
    p->asking = true;
    if (b->store->ops->read(b->store, &q, event_page_on_read, p, p->place.token)) {
        p->asking = false;
        event_page_refuse(p, REFUSAL_STORE, "the event store is unavailable");
    }
}

static void event_page_on_read(void *ctx, uint64_t token, int rc, const struct store_page *page)
{
    struct event_page *p = ctx;
    (void)token;
    p->asking = false;
    if (!p->stream) {
        event_page_free(p, CLOSE_CLIENT_CLOSED);
    } else if (rc || page->upto <= p->cursor) {
        event_page_refuse(p, REFUSAL_STORE, "the event store is unavailable");
    } else if (page->trimmed > p->cursor && p->count && !p->place.replay.no_gap) {
        p->full = true; /* the next one begins with the gap */
        event_page_made(p);
    } else {
        if (page->trimmed > p->cursor) {
            event_page_pass_lost(p, page->trimmed);
        }
        for (size_t i = 0; i < page->n; i++) {
            event_list_push(&p->held, event_ref(page->events[i]));
        }
        p->held_upto = page->upto;
        loop_defer(p->b->loop, &p->task);
    }
}

/* The next one; NULL: it has to be read, or there is none. */
static struct event *event_page_next(struct event_page *p)
{
    const struct eventlog *log = p->b->log;
    if (p->held_at < p->held.n) {
        return p->held.v[p->held_at++];
    }
    if (p->held_upto > p->cursor) {
        p->cursor = p->held_upto < p->end ? p->held_upto : p->end;
    }
    event_list_clear(&p->held);
    p->held_at = 0;
    if (p->cursor >= p->end || p->cursor < eventlog_floor(log)) {
        return NULL;
    }
    struct event *ev = NULL; /* also of those that were erased */
    for (uint64_t at = eventlog_index_after(log, p->cursor); at < eventlog_end(log) && !ev; at++) {
        ev = eventlog_at(log, at);
    }
    p->cursor = ev ? p->cursor : p->end;
    return ev;
}

static bool event_page_is_full(struct event_page *p)
{
    return p->count >= p->place.window.limit || p->looked >= LOOK_EVENTS_MAX ||
           p->out.len >= BYTES_MAX;
}

static void event_page_run(struct task *t)
{
    struct event_page *p = container_of(t, struct event_page, task);
    uint64_t from = uv_hrtime();
    if (p->audience->unbound || p->epoch != p->b->policy_epoch) {
        event_page_refuse(p, REFUSAL_POLICY, "the policy has changed");
        return;
    }
    for (unsigned n = 1;; n++) {
        struct event *ev = event_page_is_full(p) ? NULL : event_page_next(p);
        if (!ev || ev->id > p->end) {
            p->cursor = ev ? p->end : p->cursor;
            break;
        }
        if (!event_page_take(p, ev)) {
            return;
        }
        if (n % LOOK_TURN_EVENTS == 0 && uv_hrtime() - from > LOOK_TURN_US * UINT64_C(1000)) {
            p->spent_ns += uv_hrtime() - from;
            loop_defer(p->b->loop, &p->task);
            return;
        }
    }
    p->spent_ns += uv_hrtime() - from;
    if (p->cursor >= p->end || event_page_is_full(p)) {
        p->full = p->cursor < p->end;
        event_page_made(p);
    } else {
        event_page_read(p);
    }
}

/* ---------------------------------------------------------------- where it begins */

static void event_page_found(struct start_place *place, int rc)
{
    struct event_page *p = container_of(place, struct event_page, place);
    p->asking = false;
    if (!p->stream) {
        event_page_free(p, CLOSE_CLIENT_CLOSED);
        return;
    }
    if (p->epoch != p->b->policy_epoch) {
        event_page_refuse(p, REFUSAL_POLICY, "the policy has changed");
        return;
    }
    if (rc) {
        event_page_refuse(p, REFUSAL_STORE, "the event store is unavailable");
        return;
    }
    struct store_bounds bounds = p->b->store->ops->bounds(p->b->store);
    p->cursor = place->at;
    p->end = place->until < p->asked_at ? place->until : p->asked_at;
    p->end = p->end > p->cursor ? p->end : p->cursor;
    if (p->cursor < bounds.trimmed) {
        event_page_pass_lost(p, bounds.trimmed);
    }
    if (!p->lines && strbuf_append_str(&p->out, "{\"events\":[")) {
        event_page_refuse(p, REFUSAL_OVERLOAD, "memory is short");
        return;
    }
    loop_defer(p->b->loop, &p->task);
}

/* ---------------------------------------------------------------- asking the policy */

static void event_page_on_closed(struct stream *s, enum close_reason why)
{
    struct event_page *p = s->owner;
    (void)why;
    p->stream = NULL;
    if (!p->audience) {
        p->b->policy->gates->cancel(p->b->policy, s->id);
    }
    if (!p->asking) {
        event_page_free(p, CLOSE_CLIENT_CLOSED);
    }
}

static void event_page_on_writable(struct stream *s)
{
    (void)s; /* nothing is queued on a stream that is not open */
}

/* Nobody waits for the answer to a question that was withdrawn. */
static void event_page_on_half_closed(struct stream *s)
{
    struct event_page *p = s->owner;
    if (list_linked(&p->wait.node)) {
        stream_set_owner(s, NULL, NULL);
        stream_close(s, CLOSE_CLIENT_CLOSED);
        event_page_free(p, CLOSE_CLIENT_CLOSED);
    }
}

static const struct stream_events event_page_events = {.writable = event_page_on_writable,
                                                       .half_closed = event_page_on_half_closed,
                                                       .closed = event_page_on_closed};

/* While it is made it counts for the quotas that deny. Those that end the oldest stream would end one that is worth
 * more than a page. False: refused. */
static bool event_page_counts(struct event_page *p, const struct subscription *sn)
{
    struct quota_want wants[QUOTAS_PER_STREAM];
    struct subscription counted = *sn;
    size_t which = 0;
    counted.quotas = wants;
    counted.quota_count = 0;
    for (size_t i = 0; i < sn->quota_count; i++) {
        if (!sn->quotas[i].oldest) {
            wants[counted.quota_count++] = sn->quotas[i];
        }
    }
    if (counted.quota_count == 0) {
        return true;
    }
    enum quota_answer answer = stream_quotas_change(p->b->quotas, p->stream->id, &counted, &which);
    p->counted = answer == QUOTA_GRANTED;
    if (answer == QUOTA_DENIED) {
        refuse_quota(p->b->refusals, p->stream, &wants[which]);
    } else if (answer == QUOTA_NO_ROOM) {
        refuse_transient(p->b->refusals, p->stream, false, REFUSAL_OVERLOAD,
                         "too many streams are counted");
    }
    return p->counted;
}

static void event_page_allowed(struct event_page *p, const struct verdict *v)
{
    struct broker *b = p->b;
    bool rebound;
    struct stream *s = p->stream;
    if (!event_page_counts(p, &v->subscription)) {
        subscribe_give_back(b, v, CLOSE_DENIED);
        event_page_free(p, CLOSE_DENIED);
        return;
    }
    struct audience *a = audience_set_intern(b->audiences, &v->subscription, &rebound);
    if (!a || (v->identity.n && strbuf_append(&p->identity, v->identity.p, v->identity.n))) {
        if (a) {
            audience_set_unref(b->audiences, a);
        }
        stream_quotas_close(b->quotas, s->id);
        subscribe_give_back(b, v, CLOSE_TRANSIENT);
        refuse_transient(b->refusals, s, false, REFUSAL_POLICY, "the policy failed");
        event_page_free(p, CLOSE_DENIED);
        return;
    }
    p->audience = a;
    p->epoch = b->policy_epoch;
    p->per_s = v->subscription.events_per_s;
    if (p->per_s > 0 && p->per_s < (double)p->place.window.limit) {
        p->place.window.limit = p->per_s > 1 ? (uint64_t)p->per_s : 1;
    }
    b->event_pages++;
    stream_set_owner(s, &event_page_events, p);
    p->place.audience = a;
    p->place.replay = v->subscription.replay;
    p->place.token = s->id;
    p->asking = true;
    start_place_find(&p->place);
}

static void event_page_judged(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct stream *s = http_server_stream(b->server, token);
    if (!s || s->events != &event_page_events) {
        subscribe_give_back(b, v, CLOSE_CLIENT_CLOSED); /* it left when the policy had decided */
        return;
    }
    struct event_page *p = s->owner;
    stream_set_owner(s, NULL, NULL);
    if (b->draining) {
        subscribe_give_back(b, v, CLOSE_DRAINING);
        refuse_transient(b->refusals, s, false, REFUSAL_DRAINING, "the broker is shutting down");
    } else if (v->kind == VERDICT_DENY) {
        refuse_denied(b->refusals, s, v);
    } else if (v->kind == VERDICT_TRANSIENT) {
        refuse_transient(b->refusals, s, false, REFUSAL_POLICY, "the policy could not decide");
    } else if (b->event_pages >= b->opt.pages_at_once || !event_page_has_room(b, 0)) {
        subscribe_give_back(b, v, CLOSE_TRANSIENT);
        b->metrics->event_pages_refused++;
        refuse_transient(b->refusals, s, false, REFUSAL_OVERLOAD,
                         b->event_pages >= b->opt.pages_at_once ? "too many pages are being made"
                                                                : unread_text);
    } else {
        event_page_allowed(p, v);
        return;
    }
    event_page_free(p, CLOSE_DENIED);
}

/* Copies a text of the request, which ends before the policy has decided. */
static int event_page_keep(struct strbuf *out, struct slice *text)
{
    size_t n = text->n < TEXT_MAX ? text->n : TEXT_MAX;
    int rc = n ? strbuf_append(out, text->p, n) : 0;
    *text = n ? strbuf_slice(out) : slice_of(NULL, 0);
    return rc;
}

void event_page_request(struct broker *b, struct stream *s, const struct policy_request *prq,
                        const struct last_event_id *asked, const struct window *window, bool lines)
{
    struct slice known = http_request_header(prq->http, "If-None-Match");
    if (b->draining) {
        refuse_transient(b->refusals, s, false, REFUSAL_DRAINING, "the broker is shutting down");
        return;
    }
    struct event_page *p = xcalloc(1, sizeof *p);
    *p = (struct event_page){
        .b = b,
        .stream = s,
        .lines = lines,
        .asked_at = eventlog_head(b->log),
        .place = {.b = b, .asked = *asked, .window = *window, .done = event_page_found}};
    task_init(&p->task, event_page_run);
    deadline_init(&p->pace);
    list_init(&p->wait.node);
    p->wait.end = event_page_on_wait_end;
    strbuf_init(&p->asked_text, TEXT_MAX);
    strbuf_init(&p->asked_unknown, TEXT_MAX);
    strbuf_init(&p->asked_since, TEXT_MAX);
    strbuf_init(&p->if_none_match, TEXT_MAX);
    strbuf_init(&p->identity, 1 << 20);
    strbuf_init(&p->out, OUT_MAX_BYTES);
    if (asked->kind == START_NOW && !window->since) {
        p->place.asked.kind = START_EARLIEST; /* a page of what is new is empty */
    }
    if (window->limit == 0) {
        p->place.window.limit = LIMIT_DEFAULT;
    }
    if (event_page_keep(&p->asked_text, &p->place.asked.text) ||
        event_page_keep(&p->asked_unknown, &p->place.asked.unknown) ||
        event_page_keep(&p->asked_since, &p->place.window.field) ||
        event_page_keep(&p->if_none_match, &known)) {
        event_page_free(p, CLOSE_DENIED);
        refuse_transient(b->refusals, s, false, REFUSAL_OVERLOAD, "memory is short");
        return;
    }
    stream_set_owner(s, &event_page_events, p);
    b->policy->gates->subscribe(b->policy, prq, event_page_judged, b, s->id);
}
