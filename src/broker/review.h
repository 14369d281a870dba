/* Asking the policy again about streams that are open: all of them when another policy takes over,
 * one when an operator or the end of a token wants it. `subscribe` is run on what was kept of the
 * request; the same answer changes nothing, another one moves the stream to another audience, where
 * its cursor goes on; a denial ends it with the `revoked` signal.
 *
 * No more than review_per_s a second. While the policy cannot say (an error, its database is away)
 * a stream keeps what it has and is asked about again, for review_timeout_ms from the first time;
 * then it is told to come back, to be judged as a new one. Streams of an audience whose filter or
 * format is gone get nothing until they were asked about. */
#ifndef BROKER_REVIEW_H
#define BROKER_REVIEW_H

#include "base/list.h"
#include "base/slots.h"
#include "broker/policy.h"
#include "net/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct subscriber;

struct reviews {
    struct list queue;    /* struct review: to be asked about, in this order */
    struct deadline tick; /* the next few */
    uint64_t at_ms;       /* when `allowed` was reckoned */
    double allowed;
    struct slots asked; /* question -> struct review */
    unsigned under_way; /* questions */
};

/* One stream that is, or is going to be, asked about. */
struct review;

void reviews_init(struct broker *b);
void reviews_clear(struct broker *b);

/* After `b->policy` was changed. */
void review_all(struct broker *b, enum reload_mode mode);
/* Soon, before all others. */
void review_now(struct subscriber *sub);
/* The stream ends. */
void review_forget(struct subscriber *sub);

#endif
