/* GET with Accept: application/json or application/x-ndjson: one page of history, through the policy, filter and
 * format of a stream. */
#ifndef BROKER_HTTP_EVENT_PAGE_H
#define BROKER_HTTP_EVENT_PAGE_H

#include "event/last_event_id.h"
#include "event/window.h"
#include "net/http/stream.h"
#include "policy/policy.h"

struct broker;

enum { EVENT_PAGE_LIMIT_MAX = 1000 };

/* Takes over `s`. The rest is borrowed for the call. */
void event_page_request(struct broker *b, struct stream *s, const struct policy_request *prq,
                        const struct last_event_id *asked, const struct window *window, bool lines);

#endif
