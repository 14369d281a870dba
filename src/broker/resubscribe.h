/* Asking the policy again about streams that are open: all of them when another policy takes over,
 * one when an operator or the end of a token wants it. `subscribe` is run on what was kept of the
 * request; the same answer changes nothing, another one moves the stream to another audience, where
 * its cursor goes on; a denial ends it with the `revoked` signal.
 *
 * After a reload no more than resubscribe_per_s a second. Those whose time has come, or whom an operator
 * names, come first, at a rate of their own: a stream goes on with its old grant until it is asked about.
 * A few questions are under way at a time, so that there is a loop turn for events between them. While the policy cannot say (an error, its database is away)
 * a stream keeps what it has and is asked about again, for resubscribe_timeout_ms from the first time,
 * however often others want it asked about meanwhile;
 * then it is closed, comes back, and is judged as a new one. Streams of an audience whose filter or
 * format is gone get nothing until they were asked about.
 *
 * Nor do those that are barred: what they were granted may not hold any more. They are asked about
 * first, as fast as the policy answers, and again where something was said of their tags
 * (tag_index.h) after the question was asked. Where a reload has them reconnect they are not asked
 * about: they end, at its rate. */
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

/* Is the policy asked about it, or about to be? */
bool resubscribe_waits(const struct subscriber *sub);
/* `replaced`: after `b->policy` was changed. */
void resubscribe_all(struct broker *b, enum reload_mode mode, bool replaced);
/* Soon, before those of a reload. */
void resubscribe_now(struct subscriber *sub);
/* At once. Until the policy has answered it is sent no event; where that takes longer than
 * resubscribe_timeout_ms it ends, and comes back. */
void resubscribe_barred(struct subscriber *sub);
/* It is sent no event from now on, and ends with the `revoked` signal and the reason: those that end
 * together do so in the next turns of the loop. It has a head. */
void resubscribe_end(struct subscriber *sub, struct slice reason);
/* Bars those that an earlier policy has granted what they get: the policy in force acts on its
 * streams, which it knows by tags that may have had other names before; they are asked about. */
void resubscribe_bar_stale(struct broker *b);

/* What was known when the policy was asked about a new stream. */
struct resubscribe_moment {
    uint32_t policy_epoch;
    uint64_t touched; /* in the index of tags */
};
struct resubscribe_moment resubscribe_moment(const struct broker *b);
/* The stream was opened with `s`: asks again where that was overtaken meanwhile, by another policy or by
 * what was said of its tags. */
void resubscribe_if_overtaken(struct subscriber *sub, const struct resubscribe_moment *asked,
                              const struct subscription *s);

#endif
