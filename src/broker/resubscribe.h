/* Asking the policy again about streams that are open: all of them when another policy takes over,
 * one when an operator or the end of a token wants it. `subscribe` is run on what was kept of the
 * request; the same answer changes nothing, another one moves the stream to another audience, where
 * its cursor goes on; a denial ends it with the `revoked` signal.
 *
 * No more than resubscribe_per_s a second. While the policy cannot say (an error, its database is away)
 * a stream keeps what it has and is asked about again, for resubscribe_timeout_ms from the first time;
 * then it is closed, comes back, and is judged as a new one. Streams of an audience whose filter or
 * format is gone get nothing until they were asked about. */
#ifndef BROKER_RESUBSCRIBE_H
#define BROKER_RESUBSCRIBE_H

#include "policy/policy.h"

#include <stdbool.h>

struct broker;
struct subscriber;

struct resubscribes;

struct resubscribes *resubscribes_new(struct broker *b);
void resubscribes_free(struct resubscribes *rs); /* all subscribers are gone */
/* Is the policy being asked, or about to be? */
bool resubscribes_pending(const struct resubscribes *rs);

/* After `b->policy` was changed. */
void resubscribe_all(struct broker *b, enum reload_mode mode);
/* Soon, before all others. */
void resubscribe_now(struct subscriber *sub);
#endif
