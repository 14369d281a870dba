#include "audience/conflation.h"

#include "base/alloc.h"
#include "base/log_pace.h"
#include "base/logging.h"

#include <stdlib.h>
#include <string.h>

enum {
    COMPACT_LEAST = 1024, /* collected before the older ones of a topic are let go of */
    RUN_KEPT_MAX = 65536, /* events: scratch for more is given back */
    STEP_LEAST_MS = 25,   /* deadlines are late by more */
};

/* What is known of an event of the run. */
enum { RUN_REPLACED = 1, RUN_ASKED = 2, RUN_PASSES = 4, RUN_LEFT_OUT = 8, RUN_EXPIRED = 16 };

struct conflater {
    struct loop *loop;         /* borrowed */
    struct renderer *renderer; /* borrowed */
    struct list *dirty;        /* borrowed */
    struct list collecting;    /* in the order of what they began to collect with */
    struct log_pace early;
    struct hash_key key;
    /* scratch: a run of events, and a table of its topics */
    struct event **run;
    unsigned char *known;
    size_t n, cap;
    uint32_t *slots; /* index + 1 of the newest event of a topic */
    size_t slot_cap;
};

struct conflater *conflater_new(struct loop *loop, struct renderer *renderer, struct list *dirty)
{
    struct conflater *all = xcalloc(1, sizeof *all);
    all->loop = loop;
    all->renderer = renderer;
    all->dirty = dirty;
    list_init(&all->collecting);
    hash_key_init(&all->key);
    return all;
}

static void conflater_forget_run(struct conflater *all)
{
    free(all->run);
    free(all->known);
    free(all->slots);
    all->run = NULL;
    all->known = NULL;
    all->slots = NULL;
    all->n = all->cap = all->slot_cap = 0;
}

void conflater_free(struct conflater *all)
{
    conflater_forget_run(all);
    free(all);
}

/* ---------------------------------------------------------------- a run of events */

void conflater_begin(struct conflater *all)
{
    if (all->cap > RUN_KEPT_MAX) {
        conflater_forget_run(all);
    }
    all->n = 0;
}

void conflater_add(struct conflater *all, struct event *ev)
{
    if (all->n == all->cap) {
        all->cap = all->cap ? all->cap * 2 : 256;
        all->run = xrealloc(all->run, all->cap * sizeof *all->run);
        all->known = xrealloc(all->known, all->cap);
    }
    all->known[all->n] = 0;
    all->run[all->n++] = ev;
}

bool conflater_skips(const struct conflater *all, size_t i)
{
    unsigned char known = i < all->n ? all->known[i] : 0;
    all->renderer->metrics->conflated += (known & RUN_REPLACED) != 0;
    all->renderer->metrics->expired += (known & RUN_EXPIRED) != 0;
    return known & (RUN_REPLACED | RUN_LEFT_OUT);
}

/* Where the topic of that event is, or belongs. */
static uint32_t *conflater_slot(struct conflater *all, const struct event *ev)
{
    struct slice topic = event_topic(ev);
    size_t at = (size_t)hash_bytes(&all->key, topic.p, topic.n) & (all->slot_cap - 1);
    while (all->slots[at] && !slice_eq(event_topic(all->run[all->slots[at] - 1]), topic)) {
        at = (at + 1) & (all->slot_cap - 1);
    }
    return &all->slots[at];
}

static void conflater_clear_slots(struct conflater *all)
{
    size_t need = hash_chains_for((uint32_t)(2 * all->n));
    if (need > all->slot_cap) {
        free(all->slots);
        all->slots = xmalloc(need * sizeof *all->slots);
        all->slot_cap = need;
    }
    memset(all->slots, 0, all->slot_cap * sizeof *all->slots);
}

/* Is the audience given that event? *ends: is it the last of its streams, expired or not? */
static enum render_result conflation_ask(struct conflater *all, const struct audience *a,
                                         struct event *ev, bool judged, bool *ends)
{
    struct rendering what;
    const struct render_order order = {
        .mode = RENDER_DELIVERY, .binding = &a->binding, .event = ev, .judged = judged};
    *ends = false;
    if (a->binding.format < 0 && a->binding.ends < 0) { /* built in: it leaves nothing out */
        return render_is_expired(all->renderer, ev)            ? RENDER_EXPIRED
               : judged || render_wants(all->renderer, &order) ? RENDER_EVENT
                                                               : RENDER_FILTERED;
    }
    enum render_result result = render(all->renderer, &order, &what);
    *ends = (result == RENDER_EVENT || result == RENDER_EXPIRED) && what.ends;
    return result; /* what has expired takes no one's place */
}

static bool conflater_run_passes(struct conflater *all, const struct audience *a, size_t i,
                                 bool judged, bool *ends)
{
    *ends = false;
    if (!(all->known[i] & RUN_ASKED)) {
        enum render_result result = conflation_ask(all, a, all->run[i], judged, ends);
        bool expired = result == RENDER_EXPIRED && !*ends;
        bool out = expired || result == RENDER_FILTERED || result == RENDER_LEFT_OUT;
        all->known[i] |= RUN_ASKED | (out ? RUN_LEFT_OUT : 0) | (expired ? RUN_EXPIRED : 0);
        all->known[i] |= result == RENDER_EVENT ? RUN_PASSES : 0;
    }
    return all->known[i] & RUN_PASSES;
}

/* From the newest to the oldest. Rules are asked of those alone that another event of their topic follows or goes
 * before, but for `ends`. `every_ms` 0: the run is one interval. */
static void conflater_mark(struct conflater *all, const struct audience *a, bool judged,
                           int64_t every_ms)
{
    conflater_clear_slots(all);
    for (size_t i = all->n; i-- > 0;) {
        const struct event *ev = all->run[i];
        bool ends = false, newer_ends;
        if (!ev) {
            continue;
        }
        if (a->binding.ends >= 0) {
            (void)conflater_run_passes(all, a, i, judged, &ends);
        }
        if (ends) {
            memset(all->slots, 0,
                   all->slot_cap * sizeof *all->slots); /* nothing behind it is sent */
        }
        uint32_t *slot = conflater_slot(all, ev);
        const struct event *newer = *slot ? all->run[*slot - 1] : NULL;
        bool same = newer && (every_ms == 0 || newer->time_ms / every_ms == ev->time_ms / every_ms);
        if (same && conflation_lasts(newer, ev) &&
            conflater_run_passes(all, a, *slot - 1, judged, &newer_ends)) {
            all->known[i] |= RUN_REPLACED;
        } else {
            *slot = (uint32_t)i + 1;
        }
    }
}

void conflater_decide(struct conflater *all, const struct audience *a)
{
    conflater_mark(all, a, false, a->every_ms);
}

/* Lets go of what was replaced. */
static void conflation_reduce(struct conflation *c)
{
    struct event_list *pending = &c->audience.pending;
    size_t kept = 0;
    if (pending->n < 2) {
        return;
    }
    conflater_begin(c->all);
    for (size_t i = 0; i < pending->n; i++) {
        conflater_add(c->all, pending->v[i]);
    }
    conflater_mark(c->all, &c->audience, c->audience.judged, 0);
    for (size_t i = 0; i < pending->n; i++) {
        if (conflater_skips(c->all, i)) {
            event_unref(pending->v[i]);
        } else {
            pending->v[kept++] = pending->v[i];
        }
    }
    pending->n = kept;
    c->asked = kept;
}

/* ---------------------------------------------------------------- intervals */

/* Deadlines are FIFOs per duration, of which policies may not make any number: two digits of it come first, then the
 * rest. */
static void conflation_on_end(struct deadline *d);

static void conflation_arm(struct conflation *c, uint64_t ms)
{
    uint64_t unit = 1;
    while (ms / unit >= 100) {
        unit *= 10;
    }
    ms = ms < STEP_LEAST_MS ? STEP_LEAST_MS : ms / unit * unit;
    deadline_arm(loop_deadline_class(c->all->loop, ms, conflation_on_end), &c->end);
}

static void conflation_close(struct conflation *c)
{
    c->open = c->over = false;
    c->asked = 0;
    c->compact_at = COMPACT_LEAST;
    list_del(&c->collecting);
    deadline_disarm(&c->end);
}

static void conflation_end(struct conflation *c)
{
    deadline_disarm(&c->end);
    if (c->audience.pending.n == 0) {
        conflation_close(c);
        return;
    }
    c->over = true;
    if (!list_linked(&c->audience.dirty)) {
        list_add_tail(c->all->dirty, &c->audience.dirty);
    }
}

static void conflation_on_end(struct deadline *d)
{
    struct conflation *c = container_of(d, struct conflation, end);
    uint64_t now = loop_now(c->all->loop);
    if (loop_unix_is_set(c->all->loop)) {
        conflation_arm(c,
                       c->audience.every_ms); /* it ends by that clock: conflation_clock_moved() */
    } else if (now + STEP_LEAST_MS < c->due_ms) {
        conflation_arm(c, c->due_ms - now);
    } else {
        conflation_end(c);
    }
}

void conflation_clock_moved(struct conflation *c)
{
    int64_t now = loop_unix_ms(c->all->loop);
    int64_t every = c->audience.every_ms;
    if (c->open && (now >= c->due_unix_ms || now + every < c->due_unix_ms)) {
        conflation_end(c);
    }
}

static void conflation_end_early(struct conflation *c, const char *why)
{
    c->all->renderer->metrics->conflated_early++;
    if (log_pace_take(&c->all->early, loop_now(c->all->loop))) {
        log_warn("broker", "an interval of limits.every_s ended early",
                 LOG_F(log_str("reason", why), log_uint("audience", c->audience.id),
                       log_uint("every_ms", c->audience.every_ms)));
    }
    conflation_end(c);
}

/* One that ends streams goes out at once, and what was collected before it. */
static bool conflation_saw_end(struct conflation *c)
{
    struct audience *a = &c->audience;
    bool ends = false;
    while (a->binding.ends >= 0 && c->asked < a->pending.n && !ends) {
        (void)conflation_ask(c->all, a, a->pending.v[c->asked++], a->judged, &ends);
    }
    return ends;
}

bool conflation_due(struct conflation *c)
{
    struct event_list *pending = &c->audience.pending;
    if (c->open && !c->over && !conflation_saw_end(c)) {
        if (!list_linked(&c->collecting) && pending->n) {
            c->first_id = pending->v[0]->id;
            list_add_tail(&c->all->collecting, &c->collecting);
        }
        if (pending->n < c->compact_at) {
            return false;
        }
        conflation_reduce(c);
        c->compact_at = 2 * pending->n + COMPACT_LEAST;
        if (pending->n <= CONFLATION_TOPICS_MAX) {
            return false;
        }
        conflation_end_early(c, "too many topics");
    }
    conflation_reduce(c);
    conflation_close(c);
    return true;
}

void conflation_sent(struct conflation *c, bool any, uint64_t head, uint64_t end)
{
    if (!any) {
        return;
    }
    c->edges[c->edge_count++ % CONFLATION_EDGES] = head;
    c->edge = head;
    c->edge_ordinal = end;
    c->open = true;
    c->due_ms = loop_now(c->all->loop) + c->audience.every_ms;
    c->due_unix_ms = loop_unix_ms(c->all->loop) + c->audience.every_ms;
    conflation_arm(c, c->audience.every_ms);
}

void conflation_drop(struct conflation *c)
{
    list_del(&c->audience.dirty);
    event_list_clear(&c->audience.pending);
    conflation_close(c);
}

static struct conflation *conflater_at(struct conflater *all, struct list *node)
{
    return node == &all->collecting ? NULL : container_of(node, struct conflation, collecting);
}

struct conflation *conflater_first(struct conflater *all)
{
    return conflater_at(all, all->collecting.next);
}

struct conflation *conflater_next(struct conflation *c)
{
    return conflater_at(c->all, c->collecting.next);
}

void conflater_log_trimmed(struct conflater *all, uint64_t floor)
{
    struct conflation *next;
    for (struct conflation *c = conflater_first(all); c && c->first_id <= floor; c = next) {
        next = conflater_next(c);
        if (!c->over) { /* until it is sent it is among them: events may be erased */
            conflation_end_early(c, "the event log is too small");
        }
    }
}

bool conflation_has(const struct conflation *c, uint64_t id)
{
    const struct event_list *pending = &c->audience.pending;
    size_t lo = 0, hi = pending->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (pending->v[mid]->id < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < pending->n && pending->v[lo]->id == id;
}

uint64_t conflation_edge_of(const struct conflation *c, uint64_t id)
{
    size_t known = c->edge_count < CONFLATION_EDGES ? c->edge_count : CONFLATION_EDGES;
    uint64_t edge = 0;
    bool before = false; /* an interval before it is known, too */
    for (size_t i = 1; i <= known; i++) {
        uint64_t at = c->edges[(c->edge_count - i) % CONFLATION_EDGES];
        before = at < id;
        if (before) {
            break;
        }
        edge = at;
    }
    return before || c->edge_count <= CONFLATION_EDGES ? edge : 0;
}

/* ---------------------------------------------------------------- memory */

void conflation_init(struct conflater *all, struct conflation *c)
{
    c->all = all;
    c->compact_at = COMPACT_LEAST;
    deadline_init(&c->end);
    list_init(&c->collecting);
}

void conflation_clear(struct conflation *c)
{
    deadline_disarm(&c->end);
    list_del(&c->collecting);
}
