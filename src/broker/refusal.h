/* Answers other than what was asked for. Two kinds, because an EventSource gives up for good on
 * anything but 200 (WHATWG HTML 9.2.3): denials use their status; a transient refusal of an event
 * stream is a 200 that says when to come back. */
#ifndef BROKER_REFUSAL_H
#define BROKER_REFUSAL_H

#include "base/jitter.h"
#include "broker/broker_types.h"
#include "broker/metrics.h"
#include "net/http/http_server.h"
#include "net/loop.h"
#include "quota/quota_want.h"

/* What they take of the broker, and the streams that are held open after one. */
struct refusals;

/* Borrows everything, for its life. */
struct refusals *refusals_new(struct loop *loop, const struct broker_options *opt,
                              struct broker_metrics *metrics, struct jitter *jitter);
void refusals_set_server(struct refusals *r, const struct http_server *server);
void refusals_free(struct refusals *r); /* all streams are closed */

/* What goes wrong for now. */
enum refusal_cause {
    REFUSAL_POLICY,   /* it could not decide */
    REFUSAL_STORE,    /* it is not there */
    REFUSAL_OVERLOAD, /* too much waits, or memory is short */
    REFUSAL_DRAINING, /* the broker is shutting down */
};

/* What the policy denied: a problem document with that status. Counts and logs. */
void refuse_denied(struct refusals *r, struct stream *s, const struct verdict *v);
/* The key of a quota has its streams: 429. Counts and logs. */
void refuse_quota(struct refusals *r, struct stream *s, const struct quota_want *full);
/* The same for a request that asks for what is not served. Counts and logs. */
void refuse(struct refusals *r, struct stream *s, int status, struct slice detail);
/* 204: a client that comes back to what has come to its end. Counts. */
void refuse_nothing_more(struct refusals *r, struct stream *s);
/* 405 with Allow. */
void refuse_method(struct refusals *r, struct stream *s, const char *allow);
/* "try again": to an event stream (`sse`) 200, retry:, a comment, and the end some seconds later
 * (sse.refusal_hold_s); else 503 + Retry-After.
 * `why` is shown: a constant text without internals. Counts and logs. */
void refuse_transient(struct refusals *r, struct stream *s, bool sse, enum refusal_cause cause,
                      const char *why);
/* Browsers will hide the answer to that request from the page that asked: its origin is foreign. Counts and
 * logs. */
void refusal_note_origin(struct refusals *r, const struct stream *s, struct slice origin);
/* A sender of web hooks asks whether it may send, and is not in http.webhook_origins. `callback` (absent: none): with
 * which an operator can allow it. Counts and logs. */
void refusal_note_webhook(struct refusals *r, const struct stream *s, struct slice origin,
                          struct slice callback);
/* Ends the streams that are held open after a refusal. */
void refusals_end_held(struct refusals *r);

#endif
