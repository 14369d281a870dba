/* The stream that answers a POST (http.routes, answer = "stream"): asked for before the event is stored, so that
 * a denial publishes nothing; begun behind that event's id, so that nothing of the answer is lost.
 *
 *   new      keeps what is needed of the request
 *   ask      the policy's `subscribe`, which sees what will be stored
 *   grant    makes the subscriber, which owns the stream from then on
 *   stored   begins, or says that nothing was stored */
#ifndef BROKER_HTTP_SUBSCRIBE_PUBLISHED_H
#define BROKER_HTTP_SUBSCRIBE_PUBLISHED_H

#include "event/event.h"
#include "event/publish/public_route.h"
#include "net/http/stream.h"
#include "policy/policy.h"

struct broker;
struct store_ack;
struct subscribe;

/* NULL: no memory. `route` is borrowed for the broker's life. */
struct subscribe *subscribe_published_new(struct broker *b, const struct policy_request *prq,
                                          const struct public_route *route);
void subscribe_published_free(struct subscribe *w); /* NULL is fine */
/* The token is the stream's id. False: no memory. */
bool subscribe_published_ask(struct subscribe *w, const struct stream *s, const struct event *ev,
                             struct slice identity, policy_verdict_cb cb, void *ctx);
/* False: it was refused, and answered; `w` is gone. */
bool subscribe_published_grant(struct subscribe *w, struct stream *s, const struct verdict *v);
/* Takes `w`. It is stored: `ack`. The client may have left. */
void subscribe_published_stored(struct subscribe *w, uint64_t id, const struct store_ack *ack);
/* Takes `w`. It is not: rc as of store->append, and what the client is told. */
void subscribe_published_failed(struct subscribe *w, uint64_t id, int rc, const char *why);

#endif
