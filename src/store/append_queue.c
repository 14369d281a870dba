/* See append_queue.h. */
#include "store/append_queue.h"

#include "base/alloc.h"
#include "base/container_of.h"

#include <stdlib.h>
#include <uv.h>

void append_queue_init(struct append_queue *q, size_t max_events, size_t max_bytes,
                       struct store_metrics *metrics)
{
    *q =
        (struct append_queue){.max_events = max_events, .max_bytes = max_bytes, .metrics = metrics};
    list_init(&q->waiting);
}

static bool is_full(const struct append_queue *q, size_t events, size_t bytes)
{
    if (q->events == 0) {
        return false;
    }
    return (q->max_events && q->events + events > q->max_events) ||
           (q->max_bytes && q->bytes + bytes > q->max_bytes);
}

static void count_waiting(struct append_queue *q, size_t events)
{
    q->waiting_events = events;
    q->metrics->append_queue = events;
}

int append_queue_push(struct append_queue *q, struct event_list *events, store_append_cb cb,
                      void *ctx, uint64_t token)
{
    size_t bytes = 0;
    if (events->n == 0) {
        return UV_EINVAL;
    }
    for (size_t i = 0; i < events->n; i++) {
        bytes += event_cost(events->v[i]);
    }
    if (is_full(q, events->n, bytes)) {
        return UV_EAGAIN;
    }
    struct store_ack *acks = calloc(events->n, sizeof *acks);
    if (!acks) {
        return UV_ENOMEM;
    }
    struct append *a = xmalloc(sizeof *a);
    *a = (struct append){.events = *events,
                         .acks = acks,
                         .bytes = bytes,
                         .accepted_ns = uv_hrtime(),
                         .cb = cb,
                         .ctx = ctx,
                         .token = token};
    *events = (struct event_list){0};
    list_add_tail(&q->waiting, &a->node);
    q->events += a->events.n;
    q->bytes += bytes;
    count_waiting(q, q->waiting_events + a->events.n);
    return 0;
}

struct append *append_queue_first(const struct append_queue *q)
{
    return list_empty(&q->waiting) ? NULL : list_first(&q->waiting, struct append, node);
}

void append_queue_take(struct append_queue *q, struct list *list)
{
    struct append *a = list_first(&q->waiting, struct append, node);
    list_del(&a->node);
    list_add_tail(list, &a->node);
    count_waiting(q, q->waiting_events - a->events.n);
}

void append_queue_put_back(struct append_queue *q, struct append *a)
{
    list_del(&a->node);
    list_add_head(&q->waiting, &a->node);
    count_waiting(q, q->waiting_events + a->events.n);
}

void append_complete(struct append_queue *q, struct append *a, int rc)
{
    list_del(&a->node);
    q->events -= a->events.n;
    q->bytes -= a->bytes;
    q->metrics->latest_refused += rc == STORE_TOPICS_FULL;
    if (rc == 0) {
        latency_add(&q->metrics->store_append, (uv_hrtime() - a->accepted_ns) / 1000);
    }
    a->cb(a->ctx, a->token, rc, rc ? NULL : a->acks, rc ? 0 : a->events.n);
    event_list_clear(&a->events);
    free(a->acks);
    free(a);
}

void append_complete_all(struct append_queue *q, struct list *list, int rc)
{
    struct list all; /* what is asked from within a callback is not among them */
    if (list == &q->waiting) {
        count_waiting(q, 0);
    }
    list_init(&all);
    list_splice_tail(&all, list);
    while (!list_empty(&all)) {
        append_complete(q, list_first(&all, struct append, node), rc);
    }
}
