#include "history/history.h"

#include "audience/audience.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"

#include <stdlib.h>
#include <uv.h>

enum {
    TOPICS_MAX = 100,  /* policy_limits lets no subscription have more */
    READS_AT_ONCE = 4, /* further ones wait: a storm must not flood the store */
    RETRY_MS = 500,    /* after a failed read */
    FAR_PAGES = 16,    /* from so many pages behind the head on topics are read by themselves */
};

/* One read of the store: running, or waiting for its turn. */
struct flight {
    struct list node; /* in history->flights */
    struct list waiters;
    uint64_t snapshot, after, token;
    char *names; /* owned; NULL: all topics */
    size_t names_n;
    bool started;
    bool again; /* the answer may have what is gone: it is read once more */
    uint64_t
        *erased; /* owned: events that were erased since it started, and may be in the answer */
    size_t erased_n;
};

struct history {
    struct loop *loop;
    struct store *store;
    const struct eventlog *log;
    struct history_options opt;
    struct history_counts counts;
    void (*ready)(struct list *waiter);
    uint64_t snapshot,
        snapshot_ms;   /* see history_snapshot(): the id, and when it was the head; 0: none */
    struct list pages; /* least recently used first */
    size_t cost;
    struct list flights;
    unsigned started;
    uint64_t last_token;
    struct list failed; /* waiters to be woken when the store may work again */
    struct deadline retry;
};

static void history_flight_free(struct flight *f)
{
    list_del(&f->node);
    free(f->names);
    free(f->erased);
    free(f);
}

static bool history_same_names(const char *p, size_t n, struct slice names)
{
    return slice_eq(slice_of(p, n), names);
}

static void history_on_retry(struct deadline *d);
static void history_start_flights(struct history *h);

struct history *history_new(struct loop *loop, struct store *store, const struct eventlog *log,
                            const struct history_options *opt, struct history_counts counts,
                            void (*ready)(struct list *waiter))
{
    struct history *h = xcalloc(1, sizeof *h);
    *h = (struct history){
        .loop = loop, .store = store, .log = log, .opt = *opt, .counts = counts, .ready = ready};
    list_init(&h->pages);
    list_init(&h->flights);
    list_init(&h->failed);
    deadline_init(&h->retry);
    return h;
}

static void history_page_free(struct history *h, struct page *p)
{
    list_del(&p->node);
    h->cost -= p->cost;
    event_list_clear(&p->events);
    free(p->names);
    free(p);
}

void history_free(struct history *h)
{
    if (!h) {
        return;
    }
    while (!list_empty(&h->pages)) {
        history_page_free(h, list_first(&h->pages, struct page, node));
    }
    while (!list_empty(&h->flights)) {
        struct flight *f = list_first(&h->flights, struct flight, node);
        history_flight_free(f);
    }
    deadline_disarm(&h->retry);
    free(h);
}

struct slice history_names(const struct history *h, const struct audience *a, uint64_t cursor)
{
    uint64_t far = (uint64_t)FAR_PAGES * h->opt.page_events;
    bool few = h->store->ops->reads_by_topic && eventlog_head(h->log) - cursor > far;
    return few ? a->names : slice_of(NULL, 0);
}

uint64_t history_snapshot(struct history *h, uint64_t after)
{
    uint64_t now = loop_now(h->loop);
    if (h->snapshot <= after || h->snapshot < eventlog_floor(h->log) ||
        now - h->snapshot_ms >= h->opt.snapshot_ms) {
        h->snapshot = eventlog_head(h->log);
        h->snapshot_ms = now;
    }
    return h->snapshot;
}

const struct page *history_page(struct history *h, uint64_t snapshot, uint64_t cursor,
                                struct slice names)
{
    list_for_each (it, &h->pages) {
        struct page *p = container_of(it, struct page, node);
        if (p->snapshot == snapshot && p->after <= cursor && cursor < p->upto &&
            (!p->names || history_same_names(p->names, p->names_n, names))) {
            list_del(&p->node);
            list_add_tail(&h->pages, &p->node);
            return p;
        }
    }
    return NULL;
}

void history_forget(struct history *h, uint64_t id)
{
    h->snapshot = 0;
    list_for_each_safe (it, next, &h->pages) {
        struct page *p = container_of(it, struct page, node);
        if (p->upto > id || p->snapshot) {
            history_page_free(h, p);
        }
    }
}

/* Is one of them in (after, upto]? */
static bool history_any_in(const uint64_t *ids, size_t n, uint64_t after, uint64_t upto)
{
    bool any = false;
    for (size_t i = 0; i < n && !any; i++) {
        any = ids[i] > after && ids[i] <= upto;
    }
    return any;
}

void history_erase(struct history *h, const uint64_t *ids, size_t n, uint64_t trimmed)
{
    list_for_each_safe (it, next, &h->pages) {
        struct page *p = container_of(it, struct page, node);
        if (p->snapshot || p->after < trimmed || history_any_in(ids, n, p->after, p->upto)) {
            history_page_free(h, p);
        }
    }
    list_for_each (it, &h->flights) {
        struct flight *f = container_of(it, struct flight, node);
        f->again = f->again || (f->started && (f->snapshot || f->after < trimmed));
        if (f->started && history_any_in(ids, n, f->after, UINT64_MAX)) {
            f->erased = xrealloc(f->erased, (f->erased_n + n) * sizeof *f->erased);
            memcpy(f->erased + f->erased_n, ids, n * sizeof *ids);
            f->erased_n += n;
        }
    }
}

static void history_wake(struct history *h, struct list *waiters)
{
    while (!list_empty(waiters)) {
        struct list *w = waiters->next;
        list_del(w);
        h->ready(w);
    }
}

/* The newest page stays whatever it costs: its waiters have yet to read it. */
static void history_evict(struct history *h)
{
    while (h->cost > h->opt.page_cache_bytes && h->pages.next != h->pages.prev) {
        history_page_free(h, list_first(&h->pages, struct page, node));
    }
}

static void history_page_keep(struct history *h, struct flight *f, const struct store_page *got)
{
    struct page *p = xcalloc(1, sizeof *p);
    *p = (struct page){.after = f->after,
                       .upto = got->upto,
                       .trimmed = got->trimmed,
                       .snapshot = f->snapshot,
                       .names = f->names,
                       .names_n = f->names_n};
    f->names = NULL; /* the page's now */
    p->cost = sizeof *p + p->names_n;
    for (size_t i = 0; i < got->n; i++) {
        uint64_t id = got->events[i]->id;
        if (history_any_in(f->erased, f->erased_n, id - 1, id)) {
            continue;
        }
        event_list_push(&p->events, event_ref(got->events[i]));
        p->cost += event_cost(got->events[i]);
    }
    list_init(&p->node);
    list_add_tail(&h->pages, &p->node);
    h->cost += p->cost;
    ++*h->counts.pages_read;
    history_evict(h);
}

static void history_on_page(void *ctx, uint64_t token, int rc, const struct store_page *got)
{
    struct history *h = ctx;
    struct flight *f = NULL;
    list_for_each (it, &h->flights) {
        struct flight *x = container_of(it, struct flight, node);
        if (x->started && x->token == token) {
            f = x;
            break;
        }
    }
    REQUIRE(f != NULL);
    h->started--;
    if (f->again && rc == 0) {
        f->again = f->started = false;
        history_start_flights(h);
        return;
    }
    list_del(&f->node);
    if (rc == 0 && got->upto <= f->after) {
        rc = UV_EIO; /* a store that ends before what it has handed out: not read again at once */
    }
    if (rc == 0) {
        history_page_keep(h, f, got);
        history_wake(h, &f->waiters);
    } else {
        /* else the store is away, or not ready, and says so once for all */
        if (rc != UV_ENOTCONN && rc != UV_EAGAIN) {
            log_warn("broker", "history cannot be read; streams wait",
                     LOG_F(log_uint("after", f->after), log_str("error", uv_strerror(rc))));
        }
        list_splice_tail(&h->failed, &f->waiters);
        if (!list_linked(&h->retry.node)) {
            deadline_arm(loop_deadline_class(h->loop, RETRY_MS, history_on_retry), &h->retry);
        }
    }
    history_flight_free(f);
    history_start_flights(h);
}

static void history_on_retry(struct deadline *d)
{
    struct history *h = container_of(d, struct history, retry);
    history_wake(h, &h->failed);
}

static void history_start_flights(struct history *h)
{
    list_for_each_safe (it, next, &h->flights) {
        struct flight *f = container_of(it, struct flight, node);
        if (f->started) {
            continue;
        }
        if (h->started == READS_AT_ONCE) {
            return;
        }
        if (list_empty(&f->waiters)) { /* all of them left meanwhile */
            history_flight_free(f);
            continue;
        }
        struct slice topics[TOPICS_MAX];
        size_t topic_count =
            f->names ? audience_topics_split(slice_of(f->names, f->names_n), topics, TOPICS_MAX)
                     : 0;
        /* no further than the tail: what is newer comes through the log, in order */
        struct store_query q = {.topics = topics,
                                .topic_count = topic_count,
                                .after = f->after,
                                .upto = f->snapshot ? f->snapshot : eventlog_head(h->log),
                                .latest = f->snapshot != 0,
                                .max_events = h->opt.page_events,
                                .max_bytes = h->opt.page_bytes};
        f->token = ++h->last_token;
        f->started = true;
        h->started++;
        int rc = h->store->ops->read(h->store, &q, history_on_page, h, f->token);
        if (rc) {
            f->started = false;
            h->started--;
            list_splice_tail(&h->failed, &f->waiters);
            history_flight_free(f);
            if (!list_linked(&h->retry.node)) {
                deadline_arm(loop_deadline_class(h->loop, RETRY_MS, history_on_retry), &h->retry);
            }
        }
    }
}

void history_request(struct history *h, uint64_t snapshot, uint64_t cursor, struct slice names,
                     struct list *waiter)
{
    list_for_each (it, &h->flights) {
        struct flight *f = container_of(it, struct flight, node);
        if (f->snapshot == snapshot && f->after == cursor &&
            history_same_names(f->names, f->names_n, names)) {
            list_add_tail(&f->waiters, waiter);
            ++*h->counts.pages_shared;
            return;
        }
    }
    struct flight *f = xcalloc(1, sizeof *f);
    f->snapshot = snapshot;
    f->after = cursor;
    if (names.p) {
        f->names = xmalloc(names.n);
        f->names_n = names.n;
        memcpy(f->names, names.p, names.n);
    }
    list_init(&f->node);
    list_init(&f->waiters);
    list_add_tail(&f->waiters, waiter);
    list_add_tail(&h->flights, &f->node);
    history_start_flights(h);
}
