#include "broker/http/publish.h"

#include "base/alloc.h"
#include "base/require.h"
#include "base/text/json_text.h"
#include "broker/broker_parts.h"
#include "broker/http/subscribe.h"
#include "broker/http/subscribe_published.h"
#include "broker/refusal.h"

#include <stdlib.h>

/* As JSON. The texts of tg.drop() have no control characters: a quotation mark takes most. */
enum { ACK_MAX_BYTES = 64, DROP_BYTE_MAX = 2 };

/* A running publish: it owns its stream until the answer. Found again by the stream's id. */
struct publish {
    struct broker *b;
    struct stream *stream;
    const struct public_route *route; /* NULL: http.events_path */
    struct http_request http;         /* the complete one, until the events are made of it */
    struct http_query query;
    char *identity; /* owned; granted when only the head was there; NULL: not asked then */
    uint32_t epoch; /* of the policy that was asked then */
    char *refusal;  /* owned; what is wrong with the body; NULL: nothing */
    bool is_batch, judged;
    size_t asked;                  /* envelopes in the request */
    struct publication_made *made; /* of each; owned, as its texts are */
    uint32_t since_us;             /* event_since(): the request was complete */
    struct event_list held;        /* judged, but one before it on the connection is not */
    /* Its answer is a stream; owned. NULL: it is not, or the stream has begun to be made. */
    struct subscribe *wanted;
    bool asking; /* the policy, about that */
    int empty; /* the status of an answer without a body: what the policy wants instead, or of DELETE; 0: not so */
    char *granted;      /* owned; the identity, for that */
    int64_t expires_ms; /* when it ends */
};

static void publish_drop_request(struct publish *p)
{
    http_request_clear(&p->http);
    http_query_clear(&p->query);
}

static void publish_free(struct publish *p)
{
    publish_drop_request(p);
    event_list_clear(&p->held);
    subscribe_published_free(p->wanted);
    free(p->granted);
    free(p->identity);
    free(p->refusal);
    for (size_t i = 0; p->made && i < p->asked; i++) {
        free((char *)(uintptr_t)p->made[i].dropped);
    }
    free(p->made);
    free(p);
}

/* What was not judged yet is not stored. */
static void publish_on_closed(struct stream *s, enum close_reason why)
{
    struct publish *p = s->owner;
    (void)why;
    if (!p->judged || p->asking) {
        p->b->policy->gates->cancel(p->b->policy, s->id);
    }
    publish_free(p);
}

static void publish_on_writable(struct stream *s)
{
    (void)s; /* nothing is queued on a stream that is not open */
}

static const struct stream_events publish_events = {.writable = publish_on_writable,
                                                    .closed = publish_on_closed};

static struct publish *publish_of(const struct stream *s)
{
    return s && s->events == &publish_events ? s->owner : NULL;
}

static struct publish *publish_find(struct broker *b, uint64_t token)
{
    return publish_of(http_server_stream(b->server, token));
}

static void publish_answer_refused(struct publish *p, const struct verdict *v)
{
    stream_set_owner(p->stream, NULL, NULL);
    if (p->refusal) {
        refuse(p->b->refusals, p->stream, v->status, slice_str(p->refusal));
    } else {
        struct verdict denial = *v;
        denial.status = v->status == 204 ? 403 : v->status; /* it would say that this was stored */
        refuse_denied(p->b->refusals, p->stream, &denial);
    }
    publish_free(p);
}

static void publish_answer_later(struct publish *p, enum refusal_cause cause, const char *why)
{
    p->b->metrics->publish_failed++;
    stream_set_owner(p->stream, NULL, NULL);
    refuse_transient(p->b->refusals, p->stream, false, cause, why);
    publish_free(p);
}

static int publish_ack_json(struct strbuf *out, const struct store_ack *a)
{
    int rc = strbuf_append_str(out, "{\"id\":\"");
    rc = rc ? rc : strbuf_append_decimal(out, a->id);
    return rc ? rc : strbuf_append_str(out, a->duplicate ? "\",\"duplicate\":true}" : "\"}");
}

static int publish_drop_json(struct strbuf *out, const char *why)
{
    int rc = strbuf_append_str(out, "{\"dropped\":");
    rc = rc ? rc : json_text_quote(out, slice_str(why));
    return rc ? rc : strbuf_append_str(out, "}");
}

/* "[{...},{...}]" of a batch. */
static int publish_answer_json(struct strbuf *out, const struct publish *p,
                               const struct store_ack *acks)
{
    int rc = p->is_batch ? strbuf_append_str(out, "[") : 0;
    for (size_t i = 0; rc == 0 && i < p->asked; i++) {
        const struct publication_made *made = &p->made[i];
        REQUIRE(acks || made->dropped); /* nothing was stored where all were */
        rc = i ? strbuf_append_str(out, ",") : 0;
        rc = rc              ? rc
             : made->dropped ? publish_drop_json(out, made->dropped)
                             : publish_ack_json(out, &acks[made->first]);
    }
    return rc ? rc : strbuf_append_str(out, p->is_batch ? "]\n" : "\n");
}

/* A line for each event of a batch; nothing stands for one that was dropped. */
static int publish_answer_ids(struct strbuf *out, const struct publish *p,
                              const struct store_ack *acks)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->asked; i++) {
        const struct publication_made *made = &p->made[i];
        REQUIRE(acks || made->dropped);
        rc = i ? strbuf_append_str(out, "\n") : 0;
        rc = rc || made->dropped ? rc : strbuf_append_decimal(out, acks[made->first].id);
    }
    return rc;
}

static int publish_answer_status(const struct publish *p, const struct store_ack *acks)
{
    bool all_known = true;
    for (size_t i = 0; i < p->asked; i++) {
        const struct publication_made *made = &p->made[i];
        all_known = all_known && (made->dropped || acks[made->first].duplicate);
    }
    return p->empty                                       ? p->empty
           : p->route && p->route->status                 ? p->route->status
           : p->route && p->route->answer == ANSWER_EMPTY ? 204
           : all_known                                    ? 200
                                                          : 201;
}

/* `acks`: of the events that were stored, which may be none. */
static void publish_answer_stored(struct publish *p, const struct store_ack *acks)
{
    enum publish_answer kind = p->empty ? ANSWER_EMPTY : p->route ? p->route->answer : ANSWER_JSON;
    kind = kind == ANSWER_STREAM ? ANSWER_JSON : kind; /* all of it was dropped */
    struct strbuf body;
    int rc = 0;
    size_t most = 16;
    for (size_t i = 0; i < p->asked; i++) {
        most +=
            ACK_MAX_BYTES + (p->made[i].dropped ? DROP_BYTE_MAX * strlen(p->made[i].dropped) : 0);
    }
    strbuf_init(&body, most);
    rc = kind == ANSWER_JSON ? publish_answer_json(&body, p, acks)
         : kind == ANSWER_ID ? publish_answer_ids(&body, p, acks)
                             : 0;
    struct http_response r = {.status = publish_answer_status(p, acks),
                              .content_type = kind == ANSWER_JSON ? "application/json"
                                              : kind == ANSWER_ID ? "text/plain; charset=utf-8"
                                                                  : NULL,
                              .body = strbuf_slice(&body),
                              .fields = slice_str(HTTP_ANSWER_FIELDS)};
    stream_set_owner(p->stream, NULL, NULL);
    if (rc) {
        stream_close(p->stream, CLOSE_NO_MEMORY); /* stored, but it cannot be said */
    } else {
        (void)stream_respond(p->stream, &r);
    }
    strbuf_clear(&body);
    publish_free(p);
}

/* Why nothing was stored, or that it is not known: for the client. */
static const char *publish_failure(int rc)
{
    return rc == STORE_TOPICS_FULL
               ? "the topic would be one more than store.latest_topics; nothing was stored: "
                 "publish empty data to topics that are over, or raise that limit"
           : rc == UV_ECONNABORTED
               ? "the event store was lost; it is not known whether it has stored this"
           : rc == UV_EAGAIN ? "too many publishes are waiting; nothing was stored"
                             : "the event store is unavailable; nothing was stored";
}

static void publish_count(struct broker *b, int rc, const struct store_ack *acks, size_t n)
{
    b->appends--;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        b->metrics->published += acks[i].duplicate ? 0 : 1;
        b->metrics->publish_duplicates += acks[i].duplicate ? 1 : 0;
    }
}

static void publish_on_appended(void *ctx, uint64_t token, int rc, const struct store_ack *acks,
                                size_t n)
{
    struct broker *b = ctx;
    struct publish *p = publish_find(b, token);
    publish_count(b, rc, acks, n);
    if (!p) {
        return; /* the publisher left; what it sent is stored */
    }
    if (rc == STORE_TOPICS_FULL) {
        p->refusal = xstrdup(publish_failure(rc));
        publish_answer_refused(p, &(struct verdict){.kind = VERDICT_DENY, .status = 507});
    } else if (rc) {
        publish_answer_later(p, REFUSAL_STORE, publish_failure(rc));
    } else {
        publish_answer_stored(p, acks);
    }
}

/* ---- storing, in the order of the connection's requests, whichever hook is faster */

static bool publish_must_hold(const struct publish *p)
{
    const struct stream *s = p->stream;
    while ((s = stream_earlier(s)) != NULL) {
        const struct publish *earlier = publish_of(s);
        if (earlier && (!earlier->judged || earlier->held.n)) {
            return true;
        }
    }
    return false;
}

static uint64_t publish_later_id(const struct stream *s)
{
    const struct stream *later = stream_later(s);
    return later ? later->id : 0;
}

/* 0: the answer comes. */
static int publish_hand_over(struct publish *p, store_append_cb cb, void *ctx, uint64_t id)
{
    struct broker *b = p->b;
    for (size_t i = 0; i < p->held.n; i++) {
        p->held.v[i]->since_us = p->since_us;
    }
    int rc = b->store->ops->append(b->store, &p->held, cb, ctx, id);
    event_list_clear(&p->held);
    b->appends += rc == 0;
    return rc;
}

static void publish_want_stream(struct publish *p);

/* `p` is gone afterwards if that fails. */
static void publish_append(struct publish *p)
{
    if (p->wanted) {
        publish_want_stream(p);
        return;
    }
    int rc = publish_hand_over(p, publish_on_appended, p->b, p->stream->id);
    if (rc) {
        publish_answer_later(p, rc == UV_EAGAIN ? REFUSAL_OVERLOAD : REFUSAL_STORE,
                             publish_failure(rc));
    }
}

/* From the stream `id` on: what was held for one before it. */
static void publish_release(struct broker *b, uint64_t id)
{
    const struct stream *s;
    while ((s = http_server_stream(b->server, id)) != NULL) {
        struct publish *p = publish_of(s);
        id = publish_later_id(s);
        if (p && !p->judged) {
            return;
        }
        if (p && p->held.n) {
            publish_append(p);
        }
    }
}

/* ---- those that are answered with a stream: no other request of their connection is under way */

/* The publisher may have left. */
static void publish_on_stream_appended(void *ctx, uint64_t token, int rc,
                                       const struct store_ack *acks, size_t n)
{
    struct publish *p = ctx;
    publish_count(p->b, rc, acks, n);
    if (rc) {
        subscribe_published_failed(p->wanted, token, rc, publish_failure(rc));
    } else {
        subscribe_published_stored(p->wanted, token, acks);
    }
    p->wanted = NULL;
    publish_free(p);
}

/* The stream is its subscriber's already. */
static void publish_append_for_stream(struct publish *p, uint64_t id)
{
    int rc = publish_hand_over(p, publish_on_stream_appended, p, id);
    if (rc) {
        subscribe_published_failed(p->wanted, id, rc, publish_failure(rc));
        p->wanted = NULL;
        publish_free(p);
    }
}

static void publish_on_stream_verdict(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct publish *p = publish_find(b, token);
    if (!p) {
        subscribe_give_back(b, v, CLOSE_CLIENT_CLOSED);
        return;
    }
    p->asking = false;
    if (v->kind == VERDICT_DENY) {
        publish_answer_refused(p, v);
    } else if (v->kind == VERDICT_TRANSIENT) {
        publish_answer_later(p, REFUSAL_POLICY, "the policy could not decide; nothing was stored");
    } else if (v->subscription.without_stream) {
        p->empty = v->subscription.without_stream;
        subscribe_published_free(p->wanted);
        p->wanted = NULL;
        publish_append(p);
    } else {
        struct verdict granted = *v;
        granted.expires_ms = p->expires_ms;
        struct stream *s = p->stream;
        stream_set_owner(s, NULL, NULL);
        if (subscribe_published_grant(p->wanted, s, &granted)) {
            publish_append_for_stream(p, token);
        } else {
            p->wanted = NULL;
            publish_free(p);
        }
    }
}

/* `p` is gone afterwards if that fails. */
static void publish_want_stream(struct publish *p)
{
    struct broker *b = p->b;
    p->asking = subscribe_published_ask(p->wanted, p->stream, p->held.v[0], slice_str(p->granted),
                                        publish_on_stream_verdict, b);
    if (!p->asking) {
        publish_answer_later(p, REFUSAL_OVERLOAD, "memory is short; nothing was stored");
    }
}

static void publish_take_made(struct publish *p, const struct publication_made *made)
{
    for (size_t i = 0; i < p->asked; i++) {
        p->made[i] = made[i];
        if (made[i].dropped) {
            p->made[i].dropped = xstrdup(made[i].dropped);
            p->b->metrics->publish_dropped++;
        }
    }
}

static void publish_on_verdict(void *ctx, uint64_t token, const struct verdict *v,
                               struct event_list *events, const struct publication_made *made)
{
    struct broker *b = ctx;
    struct publish *p = publish_find(b, token);
    if (!p) {
        return;
    }
    uint64_t later = publish_later_id(p->stream);
    bool hold = publish_must_hold(p); /* then what is held behind it is held for that one, too */
    p->judged = true;
    switch (v->kind) {
    case VERDICT_DENY:
        publish_answer_refused(p, v);
        break;
    case VERDICT_TRANSIENT:
        publish_answer_later(p, REFUSAL_POLICY, "the policy could not decide; nothing was stored");
        break;
    case VERDICT_ALLOW:
        publish_take_made(p, made);
        p->held = *events;
        *events = (struct event_list){0};
        if (p->held.n == 0) {
            publish_answer_stored(p, NULL);
            break;
        }
        if (p->wanted) {
            p->granted =
                xstrndup(v->identity.n ? v->identity.p : "{}", v->identity.n ? v->identity.n : 2);
            p->expires_ms = v->expires_ms ? v->expires_ms : p->expires_ms;
        }
        if (!hold) {
            publish_append(p);
        }
        break;
    }
    if (!hold) {
        publish_release(b, later);
    }
}

/* ---- the request: its head, its body, what the policy says */

static struct publish *publish_new(struct broker *b, struct stream *s)
{
    struct publish *p = xcalloc(1, sizeof *p);
    p->b = b;
    p->stream = s;
    return p;
}

static void publish_on_authenticated(void *ctx, uint64_t token, const struct verdict *v)
{
    struct broker *b = ctx;
    struct publish *p = publish_find(b, token);
    if (!p) {
        return;
    }
    switch (v->kind) {
    case VERDICT_DENY:
        publish_answer_refused(p, v);
        break;
    case VERDICT_TRANSIENT:
        publish_answer_later(p, REFUSAL_POLICY, "the policy could not decide; nothing was stored");
        break;
    case VERDICT_ALLOW:
        p->expires_ms = v->expires_ms;
        p->identity =
            xstrndup(v->identity.n ? v->identity.p : "{}", v->identity.n ? v->identity.n : 2);
        stream_take_body(p->stream);
        break;
    }
}

void publish_head(struct broker *b, struct stream *s, const struct policy_request *prq)
{
    struct publish *p = publish_new(b, s);
    p->epoch = b->policy_epoch; /* another policy may be in force when this one answers */
    stream_set_owner(s, &publish_events, p);
    b->policy->gates->authenticate(b->policy, prq, publish_on_authenticated, b, s->id);
}

/* Makes the events of the body; the request is not needed any more. */
static int publish_make_events(void *ctx, uint64_t token, struct event_list *out)
{
    struct broker *b = ctx;
    struct publish *p = publish_find(b, token);
    struct err e = {0};
    REQUIRE(p != NULL); /* one that left has cancelled its question */
    const struct publish_terms terms = {.query = &p->query,
                                        .route = p->route,
                                        .limits = &b->opt.publish,
                                        .theirs = b->opt.query_params,
                                        .their_count = b->opt.query_param_count};
    int status = publish_body_parse(&p->http, &terms, loop_unix_ms(b->loop), out, &p->is_batch, &e);
    if (status == 0 && p->wanted && (p->is_batch || out->n != 1)) {
        (void)err_set(&e, UV_EINVAL, "a list of events: a stream answers one event");
        status = 400;
        event_list_clear(out);
    }
    if (status) {
        p->refusal = xstrdup(e.text);
    }
    p->asked = out->n;
    p->made = xcalloc(out->n, sizeof *p->made);
    publish_drop_request(p);
    return status;
}

void publish_request(struct broker *b, struct stream *s, struct http_request *rq,
                     struct http_query *query, const struct publish_path *path,
                     const struct peer_address *client)
{
    struct publish *p = publish_of(s);
    struct event_list events = {0};
    struct request_id request;
    p = p ? p : publish_new(b, s);
    p->since_us = event_since(uv_hrtime(), 0);
    p->route = path->route;
    http_request_move(&p->http, rq);
    p->query = *query;
    *query = (struct http_query){0};
    stream_request_id(s, &request);
    struct policy_request prq = {.id = s->id,
                                 .request_id = slice_str(request.text),
                                 .http = &p->http,
                                 .query = &p->query,
                                 .params = path->params,
                                 .client = *client};
    stream_set_owner(s, &publish_events, p);
    if (p->http.method == HTTP_DELETE) {
        bool own = path->route->status && path->route->answer == ANSWER_EMPTY;
        p->empty = own ? path->route->status : 204;
    } else if (path->route && path->route->answer == ANSWER_STREAM) {
        p->wanted = subscribe_published_new(b, &prq, path->route);
        if (!p->wanted) {
            publish_answer_later(p, REFUSAL_OVERLOAD, "memory is short; nothing was stored");
            return;
        }
    }
    if (p->identity && p->epoch == b->policy_epoch) {
        prq.identity = slice_str(p->identity);
        int status = publish_make_events(b, s->id, &events);
        if (status) {
            publish_answer_refused(p, &(struct verdict){.kind = VERDICT_DENY, .status = status});
            return;
        }
    } else {
        p->expires_ms = 0;
        prq.events = publish_make_events; /* once authenticate has been asked, or asked again */
    }
    uint64_t id = s->id;
    b->policy->gates->publish(b->policy, &prq, &events, publish_on_verdict, b, id);
    p = publish_find(b, id);
    if (p) {
        p->http.tls = NULL; /* the connection may end before the request is decided */
    }
}
