/* One open event stream: a stream, its audience, its cursor. That cursor is all the queue it has.
 *
 * Live subscribers have considered everything and are written to as events become visible; the
 * others are behind (resuming, slow, or rate limited) and pull from the event log, or from pages of
 * the store, a bounded number of bytes per turn. */
#ifndef BROKER_SUBSCRIBER_H
#define BROKER_SUBSCRIBER_H

#include "base/container/list.h"
#include "broker/broker_types.h"
#include "net/close_reason.h"

struct audience;
struct broker;
struct subscriber;

/* Ends it with a reason. `retry_ms` > 0: tells the client when to come back. */
void subscriber_end(struct subscriber *sub, enum close_reason why, unsigned retry_ms);

/* A newer stream took its place in a quota of that many: says so, and ends it. False: it has not begun. */
bool subscriber_displace(struct subscriber *sub, unsigned max);

/* Ends everyone: come back soon, to another broker or to this one's successor. */
void subscriber_drain_all(struct broker *b);
/* The wall clock was set: what is due by it happens now. May end the stream. */
void subscriber_clock_moved(struct subscriber *sub);
void subscriber_describe(const struct subscriber *sub, struct broker_connection *out);
struct subscriber *subscriber_of_node(struct list *all_node); /* in broker->subscribers */
/* NULL: no stream of that id is open. */
struct subscriber *subscriber_of_stream(struct broker *b, uint64_t id);
/* Those members who are at the head are behind from now on, where they are. */
void subscriber_unlive_all(struct audience *a);
/* Another policy takes over: what they have considered so far was by the rules before. */
void subscriber_rules_change(struct broker *b);
/* Once a second: ends those that are further behind than their max_lag and take nothing. */
void subscriber_lag_sweep(struct broker *b);
/* Those that were held because their audience was not bound, where it is again. */
void subscriber_resume_held(struct broker *b);

#endif
