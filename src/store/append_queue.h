/* What a store has accepted to append and not yet answered: bounded, counted, first come first
 * served. SQLite and PostgreSQL stores group what is waiting into their transactions. */
#ifndef STORE_APPEND_QUEUE_H
#define STORE_APPEND_QUEUE_H

#include "base/container/list.h"
#include "store/metrics.h"
#include "store/store.h"

/* One accepted call of append(). Owned by the queue, then by the list it was moved to. */
struct append {
    struct list node;
    struct event_list events;
    struct store_ack *acks; /* owned; one per event */
    size_t bytes;
    uint64_t accepted_ns;
    store_append_cb cb;
    void *ctx;
    uint64_t token;

    /* SQLite */
    bool settled; /* `rc` is the answer; else it waits for the next job */
    int rc;
    /* PostgreSQL */
    uint64_t need; /* committed; to be acknowledged when the tail has come this far */
    bool alone;    /* not together with others: something in its batch was refused */
};

struct append_queue {
    struct list waiting;   /* append */
    size_t waiting_events; /* of those */
    size_t events, bytes;  /* of everything accepted and not answered */
    size_t max_events, max_bytes;
    struct store_metrics *metrics; /* borrowed */
};

/* 0: no bound. */
void append_queue_init(struct append_queue *q, size_t max_events, size_t max_bytes,
                       struct store_metrics *metrics);
/* As append() of store/store.h. A single call larger than the bounds is accepted when nothing else
 * is held: else it could never be stored. */
int append_queue_push(struct append_queue *q, struct event_list *events, store_append_cb cb,
                      void *ctx, uint64_t token);
struct append *append_queue_first(const struct append_queue *q); /* NULL: none waits */
/* The first one moves to the end of `list`. */
void append_queue_take(struct append_queue *q, struct list *list);
/* Waits again, before all others. */
void append_queue_put_back(struct append_queue *q, struct append *a);
/* Answers it, wherever it is, and frees it. */
void append_complete(struct append_queue *q, struct append *a, int rc);
/* The same for all of `list`. */
void append_complete_all(struct append_queue *q, struct list *list, int rc);

#endif
