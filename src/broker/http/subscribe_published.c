#include "broker/http/subscribe_published.h"

#include "base/text/json_text.h"
#include "broker/broker.h"
#include "broker/http/subscribe_state.h"
#include "broker/refusal.h"
#include "broker/subscriber_state.h"

struct subscribe *subscribe_published_new(struct broker *b, const struct policy_request *prq,
                                          const struct public_route *route)
{
    const struct last_event_id now = {.kind = START_NOW};
    const struct window all = {.since = false};
    struct subscribe *w = subscribe_new(b, prq, &now, &all, route);
    if (w) {
        w->sse = false; /* 503 says that it was not stored */
    }
    return w;
}

void subscribe_published_free(struct subscribe *w)
{
    if (w) {
        subscribe_free(w);
    }
}

static int subscribe_published_text(struct strbuf *out, const char *name, struct slice text)
{
    int rc = strbuf_printf(out, "%c\"%s\":", out->len ? ',' : '{', name);
    return rc ? rc : json_text_quote(out, text);
}

/* What the policy sees of the event. 0, or negative as strbuf_append(). */
static int subscribe_published_put(struct strbuf *out, const struct event *ev)
{
    struct slice key = event_key(ev), attrs = event_attrs(ev);
    strbuf_reset(out);
    int rc = subscribe_published_text(out, "topic", event_topic(ev));
    rc = rc ? rc : subscribe_published_text(out, "type", event_type(ev));
    rc = rc || !key.p ? rc : subscribe_published_text(out, "key", key);
    rc = rc ? rc : strbuf_append_str(out, ",\"attrs\":");
    rc = rc ? rc : strbuf_append(out, attrs.n ? attrs.p : "{}", attrs.n ? attrs.n : 2);
    return rc ? rc : strbuf_append_str(out, "}");
}

bool subscribe_published_ask(struct subscribe *w, const struct stream *s, const struct event *ev,
                             struct slice identity, policy_verdict_cb cb, void *ctx)
{
    struct broker *b = w->b;
    struct http_query query, params;
    struct request_id request;
    if (subscribe_published_put(&w->published, ev)) {
        return false;
    }
    struct saved_request *saved = saved_request_new(strbuf_slice(&w->saved_query), identity,
                                                    strbuf_slice(&w->published), slice_of(NULL, 0));
    saved_request_query(saved, &query);
    stream_request_id(s, &request);
    const struct policy_request rq = {.id = s->id,
                                      .request_id = slice_str(request.text),
                                      .path = broker_saved_path(&b->opt, saved, &params),
                                      .query = &query,
                                      .params = &params,
                                      .published = saved_request_published(saved),
                                      .unanswered = true,
                                      .client = w->client};
    w->moment = resubscribe_moment(b);
    b->policy->gates->resubscribe(b->policy, &rq, saved_request_identity(saved), cb, ctx, s->id);
    http_query_clear(&query);
    http_query_clear(&params);
    saved_request_unref(saved);
    return true;
}

bool subscribe_published_grant(struct subscribe *w, struct stream *s, const struct verdict *v)
{
    struct broker *b = w->b;
    if (b->draining) {
        subscribe_give_back(b, v, CLOSE_DRAINING);
        refuse_transient(b->refusals, s, false, REFUSAL_DRAINING, "the broker is shutting down");
        subscribe_free(w);
        return false;
    }
    w->place.replay = v->subscription.replay; /* until it is stored */
    return subscribe_grant(w, s, v) != NULL;
}

void subscribe_published_failed(struct subscribe *w, uint64_t id, int rc, const char *why)
{
    struct broker *b = w->b;
    struct subscriber *sub = subscriber_of_stream(b, id);
    if (sub) {
        struct stream *s = sub->stream;
        b->metrics->publish_failed++;
        stream_set_owner(s, NULL, NULL);
        if (rc == STORE_TOPICS_FULL) {
            refuse(b->refusals, s, 507, slice_str(why));
        } else {
            refuse_transient(b->refusals, s, false,
                             rc == UV_EAGAIN ? REFUSAL_OVERLOAD : REFUSAL_STORE, why);
        }
        subscriber_free(sub, CLOSE_TRANSIENT);
    }
    subscribe_free(w);
}

void subscribe_published_stored(struct subscribe *w, uint64_t id, const struct store_ack *ack)
{
    struct subscriber *sub = subscriber_of_stream(w->b, id);
    if (!sub) {
        subscribe_free(w);
        return;
    }
    /* What was published while the policy looked up the state that the stream begins with comes behind that state. */
    bool early = w->first && w->asked_at < ack->id;
    w->place.asked =
        (struct last_event_id){.kind = START_AFTER, .id = early ? w->asked_at : ack->id};
    if (strbuf_append_decimal(&w->asked_text, w->place.asked.id) == 0) {
        w->place.asked.text = strbuf_slice(&w->asked_text);
    }
    /* All of it is behind a new event. Behind one that was known already it is history. */
    const struct replay_rules all = {.none = false}, granted = w->place.replay;
    subscribe_find(w, sub, ack->duplicate ? &granted : &all);
}
