#include "broker/http/start_place.h"

#include "audience/audience.h"
#include "audience/render.h"
#include "base/alloc.h"
#include "base/container_of.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- positions */

/* The position before the first event there ever was: a store begins with a leap to it. 0 when that
 * is not known any more, because retention has passed it. */
static uint64_t start_place_origin(const struct store_bounds *bounds)
{
    bool known = bounds->leap_count && bounds->leaps[0].after == 0 && bounds->trimmed == 0;
    return known ? bounds->leaps[0].upto : 0;
}

/* `upto` itself is a position this store gave out: that of a stream with no event yet. */
uint64_t start_place_leap_over(const struct store_bounds *bounds, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < bounds->leap_count; i++) {
        if (bounds->leaps[i].after < id && id < bounds->leaps[i].upto) {
            return bounds->leaps[i].upto;
        }
    }
    return 0;
}

static void start_place_gap(struct start_place *p, const char *why, struct slice requested)
{
    p->gap = why;
    p->requested = requested;
}

/* By a time that the client gave: a position says more. */
static bool start_place_by_time(const struct start_place *p)
{
    return p->window.since && p->asked.kind != START_AFTER && !p->replay.none;
}

/* A request may have a valid and an unknown position: the unknown one is reported, too. */
static void start_place_by_position(struct start_place *p)
{
    const struct last_event_id *r = &p->asked;
    uint64_t head = eventlog_head(p->b->log);
    uint64_t now = p->now ? p->now : head;
    struct store_bounds bounds = p->b->store->ops->bounds(p->b->store);
    uint64_t oldest = bounds.trimmed ? bounds.trimmed : start_place_origin(&bounds);
    p->at = now;
    p->gap = NULL;
    if (p->replay.none) {
        return;
    }
    if (r->kind == START_AFTER) {
        uint64_t over = start_place_leap_over(&bounds, r->id);
        p->at = r->id == 0 ? start_place_origin(&bounds) : over ? over : r->id;
        if (r->id > head || over) {
            p->at = r->id > head ? now : over;
            start_place_gap(p, "reset", r->text);
        }
    } else if (r->kind == START_EARLIEST || p->window.since) {
        p->at = oldest;
    }
    if (!p->gap && r->unknown.p) {
        start_place_gap(p, "unknown", r->unknown);
    }
}

/* ---------------------------------------------------------------- times */

enum { SOUGHT_SINCE = 1, SOUGHT_UNTIL = 2, LOOKED = 4, LOOKED_FOR_NEWEST = 8 };

static void start_place_go_on(struct start_place *p);

static void start_place_done(struct start_place *p, int rc)
{
    free(p->newest);
    p->newest = NULL;
    event_list_clear(&p->held);
    if ((p->steps & LOOKED_FOR_NEWEST) && p->now && p->at > p->now) {
        p->at = p->now; /* what comes behind the state is not history */
    }
    p->done(p, rc);
}

/* The time from which on the policy grants events; 0: all. */
static int64_t start_place_granted_from(const struct start_place *p)
{
    int64_t from = 0;
    if (p->replay.max_age_ms) {
        from = loop_unix_ms(p->b->loop) - (int64_t)p->replay.max_age_ms;
    }
    from = p->replay.since_ms > from ? p->replay.since_ms : from;
    return from > 0 ? from : 0;
}

static void start_place_on_since(void *ctx, uint64_t token, int rc, uint64_t id)
{
    struct start_place *p = ctx;
    (void)token;
    if (rc) {
        start_place_done(p, rc);
        return;
    }
    struct store_bounds bounds = p->b->store->ops->bounds(p->b->store);
    uint64_t head = eventlog_head(p->b->log); /* the store may know events still to be tailed */
    /* nothing that is left is older, and something that is gone was not */
    bool lost = id == 0 && bounds.trimmed && start_place_by_time(p) &&
                p->window.since_ms >= start_place_granted_from(p);
    id = id < head ? id : head;
    p->at = id > p->at ? id : p->at; /* hidden on purpose: no gap */
    if (lost && !p->gap && !p->replay.no_gap) {
        start_place_gap(p, "expired", p->window.field);
    }
    start_place_go_on(p);
}

static void start_place_on_until(void *ctx, uint64_t token, int rc, uint64_t id)
{
    struct start_place *p = ctx;
    (void)token;
    if (rc) {
        start_place_done(p, rc);
        return;
    }
    uint64_t head = eventlog_head(p->b->log);
    p->until = id < head ? id : head;
    start_place_go_on(p);
}

/* False: nothing is to be asked. */
static bool start_place_seek_since(struct start_place *p, int *rc)
{
    bool history = !p->replay.none && (p->asked.kind == START_EARLIEST ||
                                       p->asked.kind == START_AFTER || start_place_by_time(p));
    int64_t from = start_place_granted_from(p);
    if (start_place_by_time(p) && p->window.since_ms > from) {
        from = p->window.since_ms;
    }
    if (!history || from <= 0) {
        return false;
    }
    *rc = p->b->store->ops->seek(p->b->store, from, start_place_on_since, p, p->token);
    return true;
}

static bool start_place_seek_until(struct start_place *p, int *rc)
{
    if (p->window.until_id || !p->window.until || p->window.until_ms >= loop_unix_ms(p->b->loop)) {
        return false; /* of what is to come delivery looks at the times */
    }
    *rc = p->b->store->ops->seek(p->b->store, p->window.until_ms + 1, start_place_on_until, p,
                                 p->token);
    return true;
}

/* ---------------------------------------------------------------- the newest events */

static bool start_place_counts(struct start_place *p, struct event *ev)
{
    const struct render_order order = {
        .mode = RENDER_DELIVERY, .binding = &p->audience->binding, .event = ev};
    return !render_is_expired(p->b->renderer, ev) && audience_wants(p->audience, event_topic(ev)) &&
           render_wants(p->b->renderer, &order);
}

enum look { LOOK_GO_ON, LOOK_OLDER, LOOK_DONE };

/* The events in memory, the newest first, for some time: LOOK_OLDER when the others are in the store. */
static enum look start_place_look_at_log(struct start_place *p)
{
    const struct eventlog *log = p->b->log;
    uint64_t from = uv_hrtime();
    uint64_t first = eventlog_index_after(log, p->at);
    uint64_t at = eventlog_index_after(log, p->look_upto);
    for (unsigned n = 1; at > first; n++) {
        struct event *ev = eventlog_at(log, --at); /* NULL: erased */
        bool enough = ev && start_place_counts(p, ev) && ++p->newest_n == p->replay.last;
        p->look_upto = eventlog_id_at(log, at) - 1;
        if (--p->look_left == 0 || enough) {
            p->at = p->look_upto;
            return LOOK_DONE;
        }
        if (n % LOOK_TURN_EVENTS == 0 && uv_hrtime() - from > LOOK_TURN_US * UINT64_C(1000)) {
            return LOOK_GO_ON;
        }
    }
    return p->at >= eventlog_floor(log) ? LOOK_DONE : LOOK_OLDER;
}

static void start_place_look_on(struct start_place *p);

/* The events of a page, for some time. */
static void start_place_look_at_held(struct start_place *p)
{
    unsigned wanted = p->replay.last - p->newest_n;
    uint64_t from = uv_hrtime();
    while (p->held_at < p->held.n) {
        struct event *ev = p->held.v[p->held_at++];
        if (start_place_counts(p, ev)) {
            p->newest[p->newest_seen++ % wanted] = ev->id;
        }
        if (p->held_at % LOOK_TURN_EVENTS == 0 &&
            uv_hrtime() - from > LOOK_TURN_US * UINT64_C(1000)) {
            loop_defer(p->b->loop, &p->task);
            return;
        }
    }
    event_list_clear(&p->held);
    start_place_look_on(p);
}

static void start_place_on_page(void *ctx, uint64_t token, int rc, const struct store_page *page)
{
    struct start_place *p = ctx;
    (void)token;
    if (rc || p->audience->unbound) {
        start_place_done(p, rc ? rc : UV_EAGAIN);
        return;
    }
    for (size_t i = 0; i < page->n; i++) {
        event_list_push(&p->held, event_ref(page->events[i]));
    }
    p->held_at = 0;
    p->look_at = page->upto > p->look_at ? page->upto : p->look_upto;
    start_place_look_at_held(p);
}

static void start_place_look_on(struct start_place *p)
{
    unsigned wanted = p->replay.last - p->newest_n;
    if (p->look_at >= p->look_upto) {
        if (p->newest_seen >= wanted) {
            p->at = p->newest[p->newest_seen % wanted] - 1;
        }
        start_place_go_on(p);
        return;
    }
    const struct store_query q = {.after = p->look_at,
                                  .upto = p->look_upto,
                                  .max_events = p->b->opt.page_events,
                                  .max_bytes = p->b->opt.page_bytes};
    int rc = p->b->store->ops->read(p->b->store, &q, start_place_on_page, p, p->token);
    if (rc) {
        start_place_done(p, rc);
    }
}

/* The position behind which there are at most `n` events up to `at`: ids are dense but for leaps. */
static uint64_t start_place_back(const struct store_bounds *bounds, uint64_t at, uint64_t n)
{
    for (size_t i = bounds->leap_count; i-- > 0;) {
        const struct store_leap *leap = &bounds->leaps[i];
        uint64_t dense = at > leap->upto ? at - leap->upto : 0;
        if (dense >= n) {
            return at - n;
        }
        n -= dense;
        at = at > leap->after ? leap->after : at;
    }
    return at > n ? at - n : 0;
}

/* False: they are found. */
static bool start_place_look_some(struct start_place *p)
{
    enum look look = start_place_look_at_log(p);
    if (look == LOOK_GO_ON) {
        loop_defer(p->b->loop, &p->task);
        return true;
    }
    if (look == LOOK_DONE) {
        return false;
    }
    struct store_bounds bounds = p->b->store->ops->bounds(p->b->store);
    uint64_t floor = eventlog_floor(p->b->log);
    p->look_upto = p->look_upto < floor ? p->look_upto : floor; /* the log may have moved on */
    p->look_at = start_place_back(&bounds, p->look_upto, p->look_left);
    p->look_at = p->look_at > p->at ? p->look_at : p->at;
    p->at = p->look_at;
    p->newest = xcalloc(p->replay.last, sizeof *p->newest);
    start_place_look_on(p);
    return true;
}

static void start_place_on_turn(struct task *t)
{
    struct start_place *p = container_of(t, struct start_place, task);
    const struct stream *s = http_server_stream(p->b->server, p->token);
    bool gone = !s || !s->events; /* then the store may be closed, too */
    if (gone || p->audience->unbound) {
        start_place_done(p, UV_EAGAIN);
    } else if (p->held.n) {
        start_place_look_at_held(p);
    } else if (!start_place_look_some(p)) {
        start_place_go_on(p);
    }
}

/* False: nothing is left to be done. */
static bool start_place_look(struct start_place *p, int *rc)
{
    if (p->replay.last == 0 || p->at >= (p->now ? p->now : eventlog_head(p->b->log))) {
        return false;
    }
    p->steps |= LOOKED_FOR_NEWEST;
    if (p->audience->unbound) {
        *rc = UV_EAGAIN;
        return true;
    }
    p->look_left = START_PLACE_LOOK_EVENTS;
    p->look_upto = eventlog_head(p->b->log);
    return start_place_look_some(p);
}

/* ---------------------------------------------------------------- one after the other */

static void start_place_on_synced(void *ctx, uint64_t token, int rc)
{
    struct start_place *p = ctx;
    (void)token;
    if (rc) {
        start_place_done(p, rc);
    } else {
        start_place_find(p);
    }
}

static void start_place_go_on(struct start_place *p)
{
    int rc = 0;
    bool asked = false;
    while (!asked && !(p->steps & LOOKED)) {
        if (!(p->steps & SOUGHT_SINCE)) {
            p->steps |= SOUGHT_SINCE;
            asked = start_place_seek_since(p, &rc);
        } else if (!(p->steps & SOUGHT_UNTIL)) {
            p->steps |= SOUGHT_UNTIL;
            asked = start_place_seek_until(p, &rc);
        } else {
            p->steps |= LOOKED;
            asked = start_place_look(p, &rc);
        }
    }
    if (rc || !asked) {
        start_place_done(p, rc);
    }
}

void start_place_find(struct start_place *p)
{
    struct broker *b = p->b;
    const struct store_ops *store = b->store->ops;
    task_init(&p->task, start_place_on_turn);
    p->until = p->window.until_id ? p->window.until_id : UINT64_MAX;
    if (!p->synced && store->sync && p->asked.kind == START_AFTER &&
        p->asked.id > eventlog_head(b->log)) {
        p->synced = true;
        int rc = store->sync(b->store, start_place_on_synced, p, p->token);
        if (rc) {
            start_place_done(p, rc);
        }
        return;
    }
    start_place_by_position(p);
    start_place_go_on(p);
}
