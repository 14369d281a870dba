/* What became visible goes to those it is for: the flush step of the broker. */
#ifndef BROKER_DELIVERY_H
#define BROKER_DELIVERY_H

#include "base/container/list.h"
#include "store/store.h"

struct broker;
struct event;
struct subscriber;

/* The flush step: delivers pending events to live members, then gives everyone behind a turn. True
 * when work is left. */
bool delivery_flush(struct broker *b);
/* The store's ids leap: see store_leap_cb. All streams read on from the store. A stream that has
 * seen lost events gets a gap. Call it before the event log is restarted. */
void delivery_leap(struct broker *b, const struct store_leap *leap);
/* These events were erased. What an audience has collected of them is not sent: its streams read the log instead. */
void delivery_erase(struct broker *b, const uint64_t *ids, size_t n);
/* Has a stream of that subscription ended behind this event? */
bool delivery_ended(const struct subscriber *sub, struct event *ev);
/* For history.h: the page a subscriber asked for has arrived, or may be asked for again. */
void delivery_page_ready(struct list *waiter);

#endif
