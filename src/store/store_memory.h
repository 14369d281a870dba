/* A store that forgets, for specs and for tools that try a policy out: the contract of
 * store/store.h without a file. Answers come from a timer, one group per tick, so that nothing
 * completes inside the call that asked. */
#ifndef STORE_STORE_MEMORY_H
#define STORE_STORE_MEMORY_H

#include "store/metrics.h"
#include "store/store.h"

#include <uv.h>

struct store_memory_options {
    uint64_t first_id;                        /* ids start after it; 0: the floor of the clock */
    size_t max_queue_events, max_queue_bytes; /* 0: no bound */
    bool keys;                                /* are keys remembered? */
    unsigned delay_ms;                        /* until accepted work completes */
    struct store_latest latest;               /* `topics` 0: no bound */
};

struct store *store_memory_open(const struct store_memory_options *opt, uv_loop_t *loop,
                                struct store_metrics *metrics, store_tail_cb tail, void *tail_ctx);
/* Everything it was given is visible and answered. */
bool store_memory_idle(const struct store *base);
/* As another program would: visible with the next tick. Takes the reference. */
void store_memory_insert(struct store *base, struct event *ev);

#endif
