/* Open streams, reached by their tags, at a place in the log.
 *
 * observe of the policy is run for each event of its topics as it comes out of the tail, before any
 * event behind it is delivered; what it orders takes effect at once. So an application that takes
 * away a right inserts an event about it in the same transaction, and every broker acts between the
 * same two events. Streams that are asked about again are barred until the answer is there
 * (resubscribe.h), wherever they stand: live, slow, or in pages of the past. Those that are to end are barred
 * as well, and some end in each turn of the loop.
 *
 * Everything fails closed. Where observe fails, or events were lost that it would have been run for,
 * it is not known whose grants changed: all streams with tags are asked about again. */
#ifndef BROKER_REACH_H
#define BROKER_REACH_H

#include "base/slice.h"
#include "event/event.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker;

/* Over one batch of the tail; zeroed before. */
struct reach_batch {
    bool asked_all; /* no question is asked within a batch: all are barred still */
    size_t streams; /* so many */
};

/* From the tail, once for each event, in order; the event is in the log already. */
void reach_observe(struct broker *b, struct event *ev, struct reach_batch *batch);
/* False, too, where that is too long ago. */
bool reach_failed_on(const struct broker *b, uint64_t event);
/* From the tail: the store has leapt, or has passed rows that cannot be delivered. Events may be lost, and
 * with them what they were about may be as it was before. */
void reach_lost_events(struct broker *b);

/* These streams are barred and asked about again. `tag` (may be absent): so are those that are being opened
 * with it, where the policy was asked before this. */
void reach_ask_again(struct broker *b, struct slice tag, const uint64_t *ids, size_t n);
/* They are barred at once, and end with the revoked signal in the next turns; `reason` is for their clients. */
void reach_end_streams(struct broker *b, struct slice tag, const uint64_t *ids, size_t n,
                       struct slice reason);

#endif
