/* The store of specs and tools: see store_memory.h. One array of events; nothing is clever in here.
 */
#include "store/store_memory.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/container/list.h"
#include "base/container_of.h"
#include "base/require.h"
#include "base/strbuf.h"
#include "event/topic.h"

#include <stdlib.h>
#include <time.h>

enum op_kind { OP_APPEND, OP_READ, OP_SEEK, OP_ERASE, OP_PRESENCE };

struct op {
    struct list node;
    enum op_kind kind;
    struct event_list events;
    size_t bytes;
    uint64_t accepted_ns;
    struct store_query query;
    struct strbuf
        topics; /* of `query`, where it asks for the newest: each with a zero byte behind */
    int rc;     /* of an append */
    int64_t unix_ms;
    store_append_cb append_cb;
    store_page_cb page_cb;
    store_seek_cb seek_cb;
    store_erase_cb erase_cb;
    struct store_presence *presence;
    uint64_t *ids; /* owned; to be erased */
    size_t id_count;
    void *ctx;
    uint64_t token;
    struct store_ack *acks;
};

struct memory {
    struct store base; /* first */
    uv_loop_t *loop;
    struct store_memory_options opt;
    struct store_metrics *metrics;
    store_tail_cb tail;
    void *tail_ctx;
    struct event_list held;     /* by id */
    struct event_list inserted; /* by others, not visible yet */
    struct store_leap leap;     /* before the first id */
    uint64_t head;
    struct list ops;
    size_t queued_events, queued_bytes;
    uv_timer_t tick;
    bool closing;
    void (*done)(void *ctx);
    void *done_ctx;
};

static struct memory *from_base(struct store *base)
{
    return container_of(base, struct memory, base);
}

static void schedule(struct memory *m);

/* ------------------------------------------------------------------ the work */

static const struct event *find_key(const struct memory *m, struct slice key)
{
    for (size_t i = 0; m->opt.keys && key.p && i < m->held.n; i++) {
        struct slice other = event_key(m->held.v[i]);
        if (other.p && slice_eq(other, key)) {
            return m->held.v[i];
        }
    }
    return NULL;
}

static void hold(struct memory *m, struct event *ev, struct event_list *visible)
{
    ev->id = ++m->head;
    event_list_push(&m->held, event_ref(ev));
    event_list_push(visible, event_ref(ev));
}

static bool matches_any(const char *const *patterns, size_t n, struct slice topic)
{
    for (size_t i = 0; i < n; i++) {
        if (topic_match(slice_str(patterns[i]), topic)) {
            return true;
        }
    }
    return false;
}

/* Is the event at `i` the newest of a topic that store.latest names? */
static bool is_latest(const struct memory *m, size_t i)
{
    struct slice topic = event_topic(m->held.v[i]);
    for (size_t later = i + 1; later < m->held.n; later++) {
        if (slice_eq(event_topic(m->held.v[later]), topic)) {
            return false;
        }
    }
    return event_data(m->held.v[i]).n &&
           matches_any(m->opt.latest.patterns, m->opt.latest.n, topic);
}

static size_t latest_count(const struct memory *m)
{
    size_t n = 0;
    for (size_t i = 0; m->opt.latest.n && i < m->held.n; i++) {
        n += is_latest(m, i);
    }
    return n;
}

/* Undoes what went beyond the topics that there may be. */
static void check_topics(struct memory *m, struct op *op, size_t held, size_t seen, size_t topics,
                         struct event_list *visible)
{
    size_t now = latest_count(m);
    m->metrics->latest_topics = now;
    if (now <= topics || now <= m->opt.latest.topics) {
        return;
    }
    while (m->held.n > held) {
        event_unref(m->held.v[--m->held.n]);
        m->head--;
    }
    while (visible->n > seen) {
        event_unref(visible->v[--visible->n]);
    }
    m->metrics->latest_topics = topics;
    m->metrics->latest_refused++;
    op->rc = STORE_TOPICS_FULL;
}

static void store_events(struct memory *m, struct op *op, struct event_list *visible)
{
    bool bounded = m->opt.latest.n && m->opt.latest.topics;
    size_t held = m->held.n, seen = visible->n, topics = bounded ? latest_count(m) : 0;
    op->acks = xcalloc(op->events.n, sizeof *op->acks);
    for (size_t i = 0; i < op->events.n; i++) {
        const struct event *known = find_key(m, event_key(op->events.v[i]));
        if (!known) {
            hold(m, op->events.v[i], visible);
            known = op->events.v[i];
            op->acks[i].id = known->id;
            continue;
        }
        op->acks[i] = (struct store_ack){known->id, true};
    }
    if (bounded) {
        check_topics(m, op, held, seen, topics, visible);
    }
}

/* Is the event at `i` one that the page asks for? */
static bool is_asked(const struct memory *m, const struct op *op, size_t i)
{
    const char *p = op->topics.data, *end = p + op->topics.len;
    if (!op->query.latest) {
        return true;
    }
    bool asked = op->query.topic_count == 0;
    for (; p < end && !asked; p += strlen(p) + 1) {
        asked = topic_match(slice_str(p), event_topic(m->held.v[i]));
    }
    return asked && is_latest(m, i);
}

static void answer_read(struct memory *m, struct op *op)
{
    struct event_list found = {0};
    struct store_page page = {0};
    size_t bytes = 0;
    page.upto = op->query.upto < m->head ? op->query.upto : m->head;
    page.upto = page.upto > op->query.after ? page.upto : op->query.after;
    for (size_t i = 0; i < m->held.n && m->held.v[i]->id <= page.upto; i++) {
        struct event *ev = m->held.v[i];
        if (ev->id <= op->query.after || !is_asked(m, op, i)) {
            continue;
        }
        if (found.n &&
            (found.n >= op->query.max_events || bytes + event_cost(ev) > op->query.max_bytes)) {
            page.upto = found.v[found.n - 1]->id;
            break;
        }
        bytes += event_cost(ev);
        event_list_push(&found, event_ref(ev));
    }
    page.events = found.v;
    page.n = found.n;
    op->page_cb(op->ctx, op->token, 0, &page);
    event_list_clear(&found);
}

static void answer_seek(struct memory *m, struct op *op)
{
    uint64_t id = 0;
    for (size_t i = 0; i < m->held.n && m->held.v[i]->time_ms < op->unix_ms; i++) {
        id = m->held.v[i]->id;
    }
    op->seek_cb(op->ctx, op->token, 0, id);
}

static void answer_erase(struct memory *m, struct op *op)
{
    size_t kept = 0, before = m->held.n;
    for (size_t i = 0; i < before; i++) {
        struct event *ev = m->held.v[i];
        bool named = false;
        for (size_t k = 0; k < op->id_count && !named; k++) {
            named = op->ids[k] == ev->id;
        }
        if (named) {
            event_unref(ev);
        } else {
            m->held.v[kept++] = ev;
        }
    }
    m->held.n = kept;
    m->metrics->store_erased += before - kept;
    if (op->id_count && m->base.erased) {
        m->base.erased(m->base.erased_ctx, op->ids, op->id_count, 0);
    }
    op->erase_cb(op->ctx, op->token, 0, before - kept);
}

/* There is no other process: who asks knows what is news. */
static void store_presence(struct memory *m, struct store_presence *op, struct event_list *visible)
{
    for (size_t i = 0; i < op->n; i++) {
        struct store_presence_change *c = &op->v[i];
        const struct event_fields fields = {
            .topic = c->topic, .data = c->data, .time_ms = clock_unix_ms()};
        struct op one = {.kind = OP_APPEND};
        struct event *ev = event_new(&fields);
        REQUIRE(ev != NULL);
        event_list_push(&one.events, ev);
        store_events(m, &one, visible);
        c->refused = one.rc != 0;
        op->joined += !c->refused && c->data.n;
        op->left += !c->refused && !c->data.n;
        event_list_clear(&one.events);
        free(one.acks);
    }
}

static void answer(struct memory *m, struct op *op)
{
    if (op->kind == OP_PRESENCE) {
        op->presence->done(op->presence);
    } else if (op->kind == OP_ERASE) {
        answer_erase(m, op);
    } else if (op->kind == OP_APPEND) {
        latency_add(&m->metrics->store_append, (uv_hrtime() - op->accepted_ns) / 1000);
        op->append_cb(op->ctx, op->token, op->rc, op->rc ? NULL : op->acks,
                      op->rc ? 0 : op->events.n);
    } else {
        latency_add(&m->metrics->store_read, (uv_hrtime() - op->accepted_ns) / 1000);
        if (op->kind == OP_READ) {
            answer_read(m, op);
        } else {
            answer_seek(m, op);
        }
    }
    event_list_clear(&op->events);
    strbuf_clear(&op->topics);
    free(op->acks);
    free(op->ids);
    free(op);
}

/* All that waits is one group: stored, passed to the tail, answered. */
static void store_memory_on_tick(uv_timer_t *tick)
{
    struct memory *m = tick->data;
    struct event_list visible = {0};
    struct list group;
    list_init(&group);
    list_splice_tail(&group, &m->ops);
    m->queued_events = m->queued_bytes = 0;
    m->metrics->append_queue = 0;
    for (size_t i = 0; i < m->inserted.n; i++) {
        hold(m, m->inserted.v[i], &visible);
    }
    event_list_clear(&m->inserted);
    size_t others = visible.n;
    list_for_each (it, &group) {
        struct op *op = container_of(it, struct op, node);
        if (op->kind == OP_APPEND) {
            store_events(m, op, &visible);
        } else if (op->kind == OP_PRESENCE) {
            store_presence(m, op->presence, &visible);
        }
    }
    m->metrics->commits += visible.n > others;
    m->metrics->commit_events += visible.n - others;
    if (visible.n) {
        m->tail(m->tail_ctx, visible.v, visible.n);
    }
    event_list_clear(&visible);
    while (!list_empty(&group)) {
        struct op *op = list_first(&group, struct op, node);
        list_del(&op->node);
        answer(m, op);
    }
    schedule(m);
}

static void store_memory_on_closed(uv_handle_t *handle)
{
    struct memory *m = handle->data;
    void (*done)(void *ctx) = m->done;
    void *ctx = m->done_ctx;
    event_list_clear(&m->held);
    event_list_clear(&m->inserted);
    free(m);
    done(ctx);
}

static void schedule(struct memory *m)
{
    bool work = !list_empty(&m->ops) || m->inserted.n;
    if (work && !uv_is_active((uv_handle_t *)&m->tick)) {
        REQUIRE(uv_timer_start(&m->tick, store_memory_on_tick, m->opt.delay_ms, 0) == 0);
    }
    if (!work && m->closing && !uv_is_closing((uv_handle_t *)&m->tick)) {
        uv_close((uv_handle_t *)&m->tick, store_memory_on_closed);
    }
}

/* ------------------------------------------------------------------ the contract */

static struct op *push(struct memory *m, enum op_kind kind, void *ctx, uint64_t token)
{
    struct op *op = xcalloc(1, sizeof *op);
    op->kind = kind;
    op->ctx = ctx;
    op->token = token;
    strbuf_init(&op->topics, SIZE_MAX);
    op->accepted_ns = uv_hrtime();
    list_add_tail(&m->ops, &op->node);
    schedule(m);
    return op;
}

static bool queue_full(const struct memory *m, size_t events, size_t bytes)
{
    const struct store_memory_options *o = &m->opt;
    return m->queued_events &&
           ((o->max_queue_events && m->queued_events + events > o->max_queue_events) ||
            (o->max_queue_bytes && m->queued_bytes + bytes > o->max_queue_bytes));
}

static int memory_append(struct store *base, struct event_list *events, store_append_cb cb,
                         void *ctx, uint64_t token)
{
    struct memory *m = from_base(base);
    size_t bytes = 0;
    if (m->closing) {
        return UV_ECANCELED;
    }
    if (events->n == 0) {
        return UV_EINVAL;
    }
    for (size_t i = 0; i < events->n; i++) {
        bytes += event_cost(events->v[i]);
    }
    if (queue_full(m, events->n, bytes)) {
        return UV_EAGAIN;
    }
    struct op *op = push(m, OP_APPEND, ctx, token);
    op->append_cb = cb;
    op->events = *events;
    *events = (struct event_list){0};
    m->queued_events += op->events.n;
    m->queued_bytes += bytes;
    m->metrics->append_queue = m->queued_events;
    return 0;
}

static int memory_read(struct store *base, const struct store_query *q, store_page_cb cb, void *ctx,
                       uint64_t token)
{
    struct memory *m = from_base(base);
    if (m->closing) {
        return UV_ECANCELED;
    }
    struct op *op = push(m, OP_READ, ctx, token);
    op->query = *q;
    op->query.topics = NULL;
    for (size_t i = 0; q->latest && i < q->topic_count; i++) {
        REQUIRE(strbuf_append(&op->topics, q->topics[i].p, q->topics[i].n) == 0);
        REQUIRE(strbuf_append(&op->topics, "", 1) == 0);
    }
    op->page_cb = cb;
    return 0;
}

static int memory_seek(struct store *base, int64_t unix_ms, store_seek_cb cb, void *ctx,
                       uint64_t token)
{
    struct memory *m = from_base(base);
    if (m->closing) {
        return UV_ECANCELED;
    }
    struct op *op = push(m, OP_SEEK, ctx, token);
    op->unix_ms = unix_ms;
    op->seek_cb = cb;
    return 0;
}

static int memory_erase(struct store *base, const uint64_t *ids, size_t n, store_erase_cb cb,
                        void *ctx, uint64_t token)
{
    struct memory *m = from_base(base);
    if (m->closing) {
        return UV_ECANCELED;
    }
    struct op *op = push(m, OP_ERASE, ctx, token);
    op->erase_cb = cb;
    op->ids = xcalloc(n + 1, sizeof *op->ids);
    for (size_t i = 0; i < n; i++) {
        op->ids[i] = ids[i];
    }
    op->id_count = n;
    return 0;
}

static int memory_presence(struct store *base, struct store_presence *presence)
{
    struct memory *m = from_base(base);
    if (m->closing || presence->kind == STORE_PRESENCE_END) {
        return m->closing ? UV_ECANCELED : UV_ENOTSUP;
    }
    struct op *op = push(m, OP_PRESENCE, NULL, 0);
    op->presence = presence;
    return 0;
}

static struct store_bounds memory_bounds(const struct store *base)
{
    const struct memory *m = (const struct memory *)(const void *)base;
    return (struct store_bounds){.head = m->head, .leaps = &m->leap, .leap_count = 1};
}

static struct store_health memory_health(const struct store *base)
{
    const struct memory *m = (const struct memory *)(const void *)base;
    struct store_health h = {.ok = true, .detail = "ok", .events = m->held.n};
    for (size_t i = 0; i < m->held.n; i++) {
        h.bytes += event_cost(m->held.v[i]);
    }
    return h;
}

static void memory_close(struct store *base, void (*done)(void *ctx), void *ctx)
{
    struct memory *m = from_base(base);
    REQUIRE(!m->closing);
    m->closing = true;
    m->done = done;
    m->done_ctx = ctx;
    schedule(m);
}

/* ------------------------------------------------------------------ for specs and tools */

struct store *store_memory_open(const struct store_memory_options *opt, uv_loop_t *loop,
                                struct store_metrics *metrics, store_tail_cb tail, void *tail_ctx)
{
    static const struct store_ops ops = {.append = memory_append,
                                         .read = memory_read,
                                         .seek = memory_seek,
                                         .erase = memory_erase,
                                         .presence = memory_presence,
                                         .bounds = memory_bounds,
                                         .health = memory_health,
                                         .close = memory_close};
    struct memory *m = xcalloc(1, sizeof *m);
    m->base.ops = &ops;
    m->loop = loop;
    m->opt = *opt;
    m->metrics = metrics;
    m->tail = tail;
    m->tail_ctx = tail_ctx;
    m->head = opt->first_id ? opt->first_id : store_id_floor(clock_unix_ms());
    m->leap = (struct store_leap){0, m->head};
    list_init(&m->ops);
    REQUIRE(uv_timer_init(loop, &m->tick) == 0);
    m->tick.data = m;
    return &m->base;
}

void store_memory_insert(struct store *base, struct event *ev)
{
    struct memory *m = from_base(base);
    event_list_push(&m->inserted, ev);
    schedule(m);
}

bool store_memory_idle(const struct store *base)
{
    const struct memory *m = container_of((struct store *)(uintptr_t)base, struct memory, base);
    return m->inserted.n == 0 && list_empty(&m->ops);
}
