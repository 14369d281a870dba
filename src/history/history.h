/* Pages of the store for subscribers that are behind the event log: a small cache, and single
 * flight for equal reads. A page is shared; a subscriber keeps only its cursor. */
#ifndef HISTORY_HISTORY_H
#define HISTORY_HISTORY_H

#include "base/container/list.h"
#include "event/event.h"
#include "event/eventlog.h"
#include "net/loop.h"
#include "store/store.h"

#include <stdint.h>

struct audience;
struct history;

struct history_options {
    size_t page_events, page_bytes; /* most of one page */
    size_t page_cache_bytes;        /* of all that are kept */
    unsigned snapshot_ms;           /* snapshots that begin within that time end at the same id */
};

/* Where it counts. Borrowed. */
struct history_counts {
    uint64_t *pages_read, *pages_shared;
};

struct page {
    struct list node;     /* in the cache, most recently used last */
    uint64_t after, upto; /* what it covers */
    uint64_t trimmed;     /* of the store when it was read */
    uint64_t snapshot;    /* of a snapshot that ends there; 0: of the log */
    char *names; /* owned; NULL: events of all topics, else of these (audience->names, ->run) */
    size_t names_n;
    struct event_list events;
    size_t cost;
};

/* Borrows everything but the options. `ready` gets those who waited in history_request(). */
struct history *history_new(struct loop *loop, struct store *store, const struct eventlog *log,
                            const struct history_options *opt, struct history_counts counts,
                            void (*ready)(struct list *waiter));
void history_free(struct history *h); /* no read may be in flight: the store is closed */
/* Topics to read for a member of `a` at `cursor`: absent: all of them, so that many share a page.
 * Names where the store reads by topic and there is much between `cursor` and the head that would
 * be read for nothing. */
struct slice history_names(const struct history *h, const struct audience *a, uint64_t cursor);
/* Where a snapshot that begins now ends: above `after`, and not above the head. Those that begin
 * within a moment end at the same id, so that they share their pages: what came since is in the log. */
uint64_t history_snapshot(struct history *h, uint64_t after);
/* The cached page that continues after `cursor` and has at least those topics, or NULL. Borrowed
 * until the next loop turn. `snapshot`: of the one that ends there, and `names` is audience->run; 0: of
 * the log. */
const struct page *history_page(struct history *h, uint64_t snapshot, uint64_t cursor,
                                struct slice names);
/* Reads that page; `waiter` (a list node of the caller) is linked until it arrives or fails, and is
 * then handed to `ready`, which may ask again. */
void history_request(struct history *h, uint64_t snapshot, uint64_t cursor, struct slice names,
                     struct list *waiter);

/* Drops the cached pages that reach beyond `id`, or may hold what does. */
void history_forget(struct history *h, uint64_t id);
/* These events were erased, and any up to `trimmed` may have been: drops the cached pages that may have one, and leaves
 * them out of what is being read. */
void history_erase(struct history *h, const uint64_t *ids, size_t n, uint64_t trimmed);

#endif
