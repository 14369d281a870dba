#include "erase/erase.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "event/topic.h"
#include "filter/filter.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { PAGE_BYTES = 1 << 20 }; /* read, and at most erased, in one go */

struct eraser {
    struct store *store;
    bool running;

    /* the order */
    char *text; /* owned: topic, where, client */
    struct slice topic, where, client;
    bool dry_run;
    struct filter_set *filters; /* NULL: all events of the topic */
    struct filter_args *filter;
    erase_done_cb cb;
    void *ctx;
    uint64_t token;

    /* how far it is */
    bool latest;          /* the pages are of store.latest */
    uint64_t upto, end;   /* of the order; of the pages */
    uint64_t after, next; /* `next`: `after` of the page that follows */
    uint64_t ids[STORE_ERASE_MAX];
    size_t ids_n;
    struct event_list shown;
    uint64_t examined, matched, erased;
    struct err fault;
};

static void eraser_read(struct eraser *e);

struct eraser *eraser_new(struct store *store)
{
    struct eraser *e = xcalloc(1, sizeof *e);
    e->store = store;
    return e;
}

static void eraser_forget(struct eraser *e)
{
    struct store *store = e->store;
    filter_args_free(e->filter);
    filter_set_free(e->filters);
    event_list_clear(&e->shown);
    free(e->text);
    memset(e, 0, sizeof *e);
    e->store = store;
}

void eraser_free(struct eraser *e)
{
    if (e) {
        eraser_forget(e);
        free(e);
    }
}

/* ---------------------------------------------------------------- the end */

static void eraser_log(const struct eraser *e, int rc)
{
    const char *what = e->dry_run ? "events that would be erased were counted" : "events erased";
    if (rc) {
        log_warn("erase", "erasing ended early: order it again",
                 LOG_F(log_slice("client", e->client), log_slice("topic", e->topic),
                       log_slice("where", e->where), log_uint("examined", e->examined),
                       log_uint("matched", e->matched), log_uint("erased", e->erased),
                       log_str("error", e->fault.text)));
    } else {
        log_info("erase", what,
                 LOG_F(log_slice("client", e->client), log_slice("topic", e->topic),
                       log_slice("where", e->where), log_uint("examined", e->examined),
                       log_uint("matched", e->matched), log_uint("erased", e->erased),
                       log_uint("upto", e->upto)));
    }
}

static void eraser_finish(struct eraser *e, int rc)
{
    const struct erase_report r = {.rc = rc,
                                   .fault = e->fault.text,
                                   .dry_run = e->dry_run,
                                   .topic = e->topic,
                                   .where = e->where,
                                   .examined = e->examined,
                                   .matched = e->matched,
                                   .erased = e->erased,
                                   .upto = e->upto,
                                   .shown = e->shown.v,
                                   .shown_n = e->shown.n};
    eraser_log(e, rc);
    e->cb(e->ctx, e->token, &r);
    eraser_forget(e);
}

/* What the store could not do. */
static void eraser_fail(struct eraser *e, const char *what, int rc)
{
    (void)err_set(&e->fault, rc, "%s: %s", what, uv_strerror(rc));
    eraser_finish(e, rc);
}

static void eraser_on_clean(void *ctx, uint64_t token, int rc, size_t n)
{
    struct eraser *e = ctx;
    (void)token;
    (void)n;
    if (rc) {
        eraser_fail(e, "the events are out of the tables, but not yet out of the files", rc);
    } else {
        eraser_finish(e, 0);
    }
}

static void eraser_on_told(void *ctx, uint64_t token, int rc, size_t n)
{
    struct eraser *e = ctx;
    (void)token;
    (void)n;
    if (rc) {
        eraser_fail(e, "the store cannot tell others of it", rc);
        return;
    }
    rc = e->store->ops->erase(e->store, NULL, 0, eraser_on_clean, e, 0);
    if (rc) {
        eraser_on_clean(e, 0, rc, 0);
    }
}

/* What was removed before it could be looked at goes out of memory, here and elsewhere. How far that is is looked up
 * last: what is behind was there to be looked at. */
static void eraser_on_synced_again(void *ctx, uint64_t token, int rc)
{
    struct eraser *e = ctx;
    const uint64_t none = STORE_ERASE_NONE;
    (void)token;
    rc = rc ? rc : e->store->ops->erase(e->store, &none, 1, eraser_on_told, e, 0);
    if (rc) {
        eraser_on_told(e, 0, rc, 0);
    }
}

static void eraser_clean(struct eraser *e)
{
    if (e->dry_run) {
        eraser_finish(e, 0);
        return;
    }
    int rc = e->store->ops->sync(e->store, eraser_on_synced_again, e, 0);
    if (rc) {
        eraser_on_synced_again(e, 0, rc);
    }
}

/* ---------------------------------------------------------------- page by page */

/* After the log: what store.latest has kept of what retention has removed of it. */
static void eraser_turn_to_latest(struct eraser *e)
{
    struct store_bounds bounds = e->store->ops->bounds(e->store);
    e->latest = true;
    e->after = 0;
    e->end = bounds.trimmed < e->upto ? bounds.trimmed : e->upto;
}

static void eraser_go_on(struct eraser *e)
{
    e->after = e->next;
    if (e->after >= e->end && !e->latest) {
        eraser_turn_to_latest(e);
    }
    if (e->after < e->end) {
        eraser_read(e);
    } else {
        eraser_clean(e);
    }
}

static void eraser_on_erased(void *ctx, uint64_t token, int rc, size_t n)
{
    struct eraser *e = ctx;
    (void)token;
    e->erased += n;
    if (rc) {
        eraser_fail(e, "the store cannot erase", rc);
    } else {
        eraser_go_on(e);
    }
}

static void eraser_look_at(struct eraser *e, struct event *ev)
{
    e->examined++;
    if (!topic_match(e->topic, event_topic(ev)) || (e->filter && !filter_test(e->filter, ev))) {
        return;
    }
    e->ids[e->ids_n++] = ev->id;
    e->matched++;
    if (e->shown.n < ERASE_SHOWN_MAX) {
        event_list_push(&e->shown, event_ref(ev));
    }
}

static void eraser_on_page(void *ctx, uint64_t token, int rc, const struct store_page *page)
{
    struct eraser *e = ctx;
    (void)token;
    if (rc == 0 && page->upto <= e->after) {
        rc = UV_EIO; /* a store that ends before what it has handed out */
    }
    if (rc) {
        eraser_fail(e, "the store cannot be read", rc);
        return;
    }
    e->ids_n = 0;
    e->next = page->upto;
    for (size_t i = 0; i < page->n; i++) {
        eraser_look_at(e, page->events[i]);
    }
    if (e->ids_n == 0 || e->dry_run) {
        eraser_go_on(e);
        return;
    }
    rc = e->store->ops->erase(e->store, e->ids, e->ids_n, eraser_on_erased, e, 0);
    if (rc) {
        eraser_on_erased(e, 0, rc, 0);
    }
}

static void eraser_read(struct eraser *e)
{
    struct store_query q = {.after = e->after,
                            .upto = e->end,
                            .latest = e->latest,
                            .max_events = STORE_ERASE_MAX,
                            .max_bytes = PAGE_BYTES,
                            .topics = &e->topic,
                            .topic_count = e->latest || !topic_is_pattern(e->topic)};
    int rc = e->store->ops->read(e->store, &q, eraser_on_page, e, 0);
    if (rc == UV_ENOTSUP && e->latest) {
        eraser_clean(e);
    } else if (rc) {
        eraser_fail(e, "the store cannot be read", rc);
    }
}

static void eraser_on_synced(void *ctx, uint64_t token, int rc)
{
    struct eraser *e = ctx;
    (void)token;
    if (rc) {
        eraser_fail(e, "the store cannot be read", rc);
        return;
    }
    struct store_bounds bounds = e->store->ops->bounds(e->store);
    e->upto = e->end = bounds.head;
    e->next = bounds.trimmed < bounds.head ? bounds.trimmed : bounds.head;
    eraser_go_on(e);
}

/* ---------------------------------------------------------------- the order */

static int eraser_compile(struct eraser *e, struct slice where, struct err *err)
{
    struct filter_error why;
    struct err unbound = {0};
    if (where.n == 0) {
        return 0;
    }
    e->filters = filter_set_new();
    const struct filter *f = filter_compile(e->filters, where, &why);
    if (!f) {
        return err_set(err, UV_EINVAL, "where: line %u, column %u: %s", why.line, why.column,
                       why.text);
    }
    e->filter = filter_bind(f, slice_of(NULL, 0), &unbound);
    return e->filter ? 0 : err_set(err, UV_EINVAL, "where: %s", unbound.text);
}

static void eraser_keep_text(struct eraser *e, const struct erase_order *o)
{
    struct slice *kept[] = {&e->topic, &e->where, &e->client};
    const struct slice given[] = {o->topic, o->where, o->client};
    size_t at = 0;
    e->text = xmalloc(o->topic.n + o->where.n + o->client.n + 1);
    for (size_t i = 0; i < 3; i++) {
        *kept[i] = slice_of(e->text + at, given[i].n);
        if (given[i].n) {
            memcpy(e->text + at, given[i].p, given[i].n);
        }
        at += given[i].n;
    }
}

int eraser_start(struct eraser *e, const struct erase_order *order, erase_done_cb cb, void *ctx,
                 uint64_t token, struct err *err)
{
    const char *wrong = order->topic.n ? topic_pattern_check(order->topic) : "is missing";
    if (e->running) {
        return err_set(err, UV_EBUSY, "Another erase is in progress; try again when it has ended.");
    }
    if (wrong) {
        return err_set(err, UV_EINVAL, "topic: %s", wrong);
    }
    int rc = eraser_compile(e, order->where, err);
    if (rc == 0) {
        eraser_keep_text(e, order);
        e->dry_run = order->dry_run;
        e->cb = cb;
        e->ctx = ctx;
        e->token = token;
        rc = e->store->ops->sync ? e->store->ops->sync(e->store, eraser_on_synced, e, 0)
                                 : UV_ENOTSUP;
        rc = rc ? err_set(err, rc, "The store cannot be read: %s.", uv_strerror(rc)) : 0;
    }
    if (rc) {
        eraser_forget(e);
        return rc;
    }
    e->running = true;
    return 0;
}
