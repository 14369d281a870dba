/* Pages of the store for subscribers that are behind the event log: a small cache, and single
 * flight for equal reads. A page is shared; a subscriber keeps only its cursor. */
#ifndef BROKER_HISTORY_H
#define BROKER_HISTORY_H

#include "base/list.h"
#include "broker/event.h"

#include <stdint.h>

struct broker;
struct history;

struct page {
    struct list node;     /* in the cache, most recently used last */
    uint64_t after, upto; /* what it covers */
    uint64_t trimmed;     /* of the store when it was read */
    struct event_list events;
    size_t cost;
};

struct history *history_new(struct broker *b);
void history_free(struct history *h); /* no read may be in flight: the store is closed */
/* The cached page that continues after `cursor`, or NULL. Borrowed until the next loop turn. */
const struct page *history_page(struct history *h, uint64_t cursor);
/* Reads that page; `waiter` (a list node of the caller) is linked until it arrives or fails, and is
 * then handed to subscriber_page_ready(), which may ask again. */
void history_request(struct history *h, uint64_t cursor, struct list *waiter);

/* Drops the cached pages that reach beyond `id`. */
void history_forget(struct history *h, uint64_t id);

#endif
