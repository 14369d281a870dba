/* GET: request -> policy -> store -> an open event stream. */
#ifndef BROKER_HTTP_SUBSCRIBE_H
#define BROKER_HTTP_SUBSCRIBE_H

#include "event/last_event_id.h"
#include "event/publish/public_route.h"
#include "event/window.h"
#include "net/http/stream.h"
#include "policy/policy.h"

struct broker;

/* Takes over `s`. `route`: NULL: http.events_path; borrowed for the broker's life. The rest is borrowed for the
 * call. */
void subscribe_request(struct broker *b, struct stream *s, const struct policy_request *prq,
                       const struct last_event_id *asked, const struct window *window,
                       const struct public_route *route);
/* The policy has granted a stream, or a page, that does not begin. What it does about grants it undoes in `disconnect`,
 * so that runs once for each, except while `subscribe` waits: then nothing was granted. */
void subscribe_give_back(struct broker *b, const struct verdict *v, enum close_reason why);

#endif
