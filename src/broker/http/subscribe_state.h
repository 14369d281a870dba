/* Private to subscribe*.c: a request on its way to an open event stream. */
#ifndef BROKER_HTTP_SUBSCRIBE_STATE_H
#define BROKER_HTTP_SUBSCRIBE_STATE_H

#include "broker/broker_parts.h"
#include "broker/http/start_place.h"
#include "broker/http/subscribe.h"
#include "broker/resubscribe.h"
#include "policy/saved_request.h"

struct subscribe {
    struct broker *b;
    const struct public_route *route; /* NULL: http.events_path */
    struct start_place place;         /* what the client asked for; its texts are the next three */
    struct strbuf asked_text, asked_unknown, asked_since;
    struct strbuf saved_query;
    struct strbuf published;          /* as in policy_request; empty: nothing */
    struct strbuf fields;             /* of the head, as the policy wants them */
    struct resubscribe_moment moment; /* when the policy was asked */
    struct peer_address client;
    bool sse; /* the client says it is an EventSource: a refusal must not be final */
    bool takes_gzip;
    uint64_t asked_at;   /* the head when it came: nothing that the policy has looked up is older */
    struct frame *first; /* a reference: what the stream begins with; NULL: nothing */
};

/* Keeps what is needed of the request. NULL: no memory. */
struct subscribe *subscribe_new(struct broker *b, const struct policy_request *prq,
                                const struct last_event_id *asked, const struct window *window,
                                const struct public_route *route);
void subscribe_free(struct subscribe *w);
/* The policy has granted the stream: makes its subscriber, which is SUB_STARTING and owns it from then on. NULL: it
 * was refused all the same, and answered; `w` is gone. */
struct subscriber *subscribe_grant(struct subscribe *w, struct stream *s, const struct verdict *v);
/* Finds where it begins, and begins. Takes `w`. */
void subscribe_find(struct subscribe *w, struct subscriber *sub, const struct replay_rules *replay);

#endif
