/* See set_store.h. A load: the query runs into `values`; then they are sealed on a pool thread; then they
 * take the place of those before, which a pool thread frees. */
#include "sets/set_store.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/jitter.h"
#include "base/logging.h"
#include "base/require.h"
#include "lookup/query_open.h"
#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 250, FREED_AT_ONCE = 10000, ERROR_BYTES = 256, LOG_INTERVAL_MS = 30000 };

struct set_store {
    struct loop *loop;
    struct set_store_options opt;
    struct policy_metrics *metrics;
    struct lookup_metrics lookup; /* of its own connections; not shown */
    struct query_source *source;  /* NULL: not open yet */
    bool own_source, closing;
    struct list sets;
    unsigned works; /* on pool threads */
    struct deadline tick;
    struct jitter jitter;
    uint64_t aged_ms;
};

struct stored_set {
    struct list node;
    struct set_store *store;
    char *name; /* owned */
    const struct query *query;
    uint64_t every_ms, stale_ms;
    unsigned users;
    struct value_slot slot;
    struct value_set *values; /* owned: those of the slot */
    uint64_t loaded_ms;       /* when the last good load began; 0: there was none */
    uint64_t next_ms;         /* when the next load is due; 0: it is not wanted yet */
    struct set_load *load;    /* NULL: none is under way */
    uint64_t asked;           /* the id of its query; 0: it is not under way */
    uint64_t loads, failures;
    char error[ERROR_BYTES]; /* of the last load; empty: it was good */
    uint64_t logged_ms;      /* when it was logged last */
    struct list waits;
};

/* Work for a pool thread, too. */
struct set_load {
    struct set_store *store;
    struct stored_set *of; /* NULL: nobody wants it */
    struct value_set *values;
    uint64_t begun_ms;
    bool works; /* a pool thread has it */
    uv_work_t work;
    struct err e;
};

static uint64_t set_store_now(const struct set_store *store)
{
    return loop_now(store->loop) + store->aged_ms + 1; /* never 0 */
}

static void set_store_show(struct set_store *store)
{
    struct policy_metrics *m = store->metrics;
    uint64_t now = set_store_now(store);
    m->sets = m->set_entries = m->set_bytes = m->set_age_s = m->sets_stale = 0;
    list_for_each (it, &store->sets) {
        const struct stored_set *s = container_of(it, struct stored_set, node);
        uint64_t age_s = s->loaded_ms ? (now - s->loaded_ms) / 1000 : 0;
        m->sets++;
        m->set_entries += s->values ? value_set_count(s->values) : 0;
        m->set_bytes += s->values ? value_set_bytes(s->values) : 0;
        m->set_age_s = age_s > m->set_age_s ? age_s : m->set_age_s;
        m->sets_stale += s->loaded_ms && !s->values; /* else its policy is not in force */
    }
}

/* ---------------------------------------------------------------- pool threads */

static void set_load_free(struct set_load *load)
{
    value_set_free(load->values);
    free(load);
}

static void set_load_seal(uv_work_t *w)
{
    struct set_load *load = w->data;
    (void)value_set_seal(load->values, &load->e); /* in load->e, if at all */
}

static void set_load_drop(uv_work_t *w)
{
    struct set_load *load = w->data;
    value_set_free(load->values);
    load->values = NULL;
}

static void set_load_work(struct set_load *load, uv_work_cb work, uv_after_work_cb after)
{
    load->works = true;
    load->work.data = load;
    load->store->works++;
    REQUIRE(uv_queue_work(loop_uv(load->store->loop), &load->work, work, after) == 0);
}

static void set_load_dropped(uv_work_t *w, int status)
{
    struct set_load *load = w->data;
    (void)status;
    load->store->works--;
    set_load_free(load);
}

/* A million values are tens of megabytes, which take milliseconds to give back. */
static void set_store_drop(struct set_store *store, struct value_set *values)
{
    if (!values || value_set_count(values) <= FREED_AT_ONCE || store->closing) {
        value_set_free(values);
        return;
    }
    struct set_load *load = xcalloc(1, sizeof *load);
    load->store = store;
    load->values = values;
    set_load_work(load, set_load_drop, set_load_dropped);
}

/* ---------------------------------------------------------------- the end of a load */

static void stored_set_tell(struct stored_set *s, const struct err *e)
{
    struct list due;
    list_init(&due);
    list_splice_tail(&due, &s->waits);
    while (!list_empty(&due)) {
        struct set_wait *w = list_first(&due, struct set_wait, node);
        list_del(&w->node);
        w->done(w->ctx, e);
    }
}

static void stored_set_failed(struct stored_set *s, const struct err *e)
{
    struct set_store *store = s->store;
    struct err why = *e;
    uint64_t now = set_store_now(store);
    bool news = s->error[0] == '\0' || now - s->logged_ms >= LOG_INTERVAL_MS;
    s->failures++;
    store->metrics->set_loads_failed++;
    (void)snprintf(s->error, sizeof s->error, "%.*s", (int)sizeof s->error - 1, e->text);
    if (news) {
        s->logged_ms = now;
        log_warn("policy",
                 s->values ? "a set could not be loaded, its last values stay"
                           : "a set could not be loaded",
                 LOG_F(log_str("set", s->name), log_str("error", e->text),
                       log_uint("age_s", s->loaded_ms ? (now - s->loaded_ms) / 1000 : 0),
                       log_uint("stale_s", s->stale_ms / 1000)));
    }
    (void)err_context(&why, "set \"%s\"", s->name);
    stored_set_tell(s, &why);
    set_store_show(store);
}

static void stored_set_loaded(struct stored_set *s, struct set_load *load)
{
    struct set_store *store = s->store;
    struct value_set *before = s->values;
    bool news = !before || s->error[0];
    s->values = load->values;
    s->slot.values = s->values;
    s->loaded_ms = load->begun_ms;
    s->loads++;
    s->error[0] = '\0';
    store->metrics->set_loads_ok++;
    load->values = NULL;
    set_store_drop(store, before);
    if (news) {
        log_info("policy", "a set is loaded",
                 LOG_F(log_str("set", s->name), log_uint("entries", value_set_count(s->values)),
                       log_uint("bytes", value_set_bytes(s->values)),
                       log_uint("ms", set_store_now(store) - load->begun_ms)));
    }
    stored_set_tell(s, NULL);
    set_store_show(store);
}

static void set_load_sealed(uv_work_t *w, int status)
{
    struct set_load *load = w->data;
    struct stored_set *s = load->of;
    load->store->works--;
    if (s) {
        s->load = NULL;
        if (status || load->e.code) {
            struct err e = load->e;
            if (status) {
                (void)err_set(&e, status, "%s", uv_strerror(status));
            }
            stored_set_failed(s, &e);
        } else {
            stored_set_loaded(s, load);
        }
    }
    set_load_free(load);
}

/* ---------------------------------------------------------------- the query */

static int set_load_row(void *ctx, const struct query_value *cells, size_t n, struct err *e)
{
    struct set_load *load = ctx;
    struct filter_value v = {.type = FILTER_MISSING};
    if (n != 1) {
        return err_set(e, UV_EINVAL, "the query of a set answers one column, this one has %zu", n);
    }
    switch (cells->type) {
    case QUERY_NULL:
        break;
    case QUERY_INTEGER:
        v = (struct filter_value){.type = FILTER_INTEGER, .i = cells->integer};
        break;
    case QUERY_NUMBER:
        v = (struct filter_value){.type = FILTER_FLOAT, .f = cells->number};
        break;
    case QUERY_BOOL:
        v = (struct filter_value){.type = FILTER_BOOLEAN, .b = cells->boolean};
        break;
    case QUERY_TEXT:
        v = (struct filter_value){.type = FILTER_STRING, .s = cells->text};
        break;
    }
    return value_set_add(load->values, &v, e);
}

static void set_load_release(void *ctx)
{
    struct set_load *load = ctx;
    if (!load->works) {
        set_load_free(load);
    }
}

static void set_load_answered(void *ctx, uint64_t token, const struct query_rows *rows,
                              const struct err *e)
{
    struct stored_set *s = ctx;
    struct set_load *load = s->load;
    (void)token;
    (void)rows;
    s->asked = 0;
    if (e || s->store->closing) {
        s->load = NULL; /* the query frees it */
        if (e && e->code != UV_ECANCELED) {
            stored_set_failed(s, e);
        }
        return;
    }
    set_load_work(load, set_load_seal, set_load_sealed);
}

static void stored_set_load(struct stored_set *s)
{
    struct set_store *store = s->store;
    struct err e = {0};
    uint64_t now = set_store_now(store);
    struct set_load *load = xcalloc(1, sizeof *load);
    const struct query_sink sink = {set_load_row, set_load_release, load};
    const struct query_question q = {
        .query = s->query, .sink = &sink, .timeout_ms = POLICY_SETS_TIMEOUT_MS};
    *load = (struct set_load){.store = store,
                              .of = s,
                              .values = value_set_new(store->opt.values, store->opt.bytes),
                              .begun_ms = now};
    /* up to a tenth sooner, so that what it holds is never older than `every` and brokers do not ask
     * all at once */
    s->next_ms = now + s->every_ms - jitter_between(&store->jitter, 0, s->every_ms / 10);
    s->load = load;
    if (store->source->ops->ask(store->source, &q, set_load_answered, s, 0, &s->asked, &e)) {
        s->load = NULL;
        s->asked = 0;
        set_load_free(load);
        stored_set_failed(s, &e);
    }
}

/* ---------------------------------------------------------------- the clock */

static void stored_set_expire(struct stored_set *s)
{
    log_error("policy", "a set is stale: filters that ask it let nothing through",
              LOG_F(log_str("set", s->name),
                    log_uint("age_s", (set_store_now(s->store) - s->loaded_ms) / 1000),
                    log_uint("stale_s", s->stale_ms / 1000), log_str("error", s->error)));
    s->slot.values = NULL;
    set_store_drop(s->store, s->values);
    s->values = NULL;
}

static void set_store_look(struct set_store *store)
{
    uint64_t now = set_store_now(store);
    list_for_each_safe (it, next, &store->sets) {
        struct stored_set *s = container_of(it, struct stored_set, node);
        if (s->values && now - s->loaded_ms > s->stale_ms) {
            stored_set_expire(s);
        }
        if (!s->load && s->next_ms && now >= s->next_ms) {
            stored_set_load(s);
        }
    }
    set_store_show(store);
}

static void set_store_on_tick(struct deadline *d)
{
    struct set_store *store = container_of(d, struct set_store, tick);
    set_store_look(store);
    if (!list_empty(&store->sets)) {
        deadline_arm(loop_deadline_class(store->loop, TICK_MS, set_store_on_tick), &store->tick);
    }
}

void set_store_age(struct set_store *store, uint64_t ms)
{
    store->aged_ms += ms;
    set_store_look(store);
}

void set_store_load_all(struct set_store *store)
{
    list_for_each (it, &store->sets) {
        struct stored_set *s = container_of(it, struct stored_set, node);
        s->next_ms = s->next_ms ? set_store_now(store) : 0;
    }
    set_store_look(store);
}

/* ---------------------------------------------------------------- using a set */

static int set_store_open_source(struct set_store *store, struct err *e)
{
    if (store->source) {
        return 0;
    }
    if (!store->opt.database) {
        return err_set(e, UV_ENOENT, "there is no database to ask");
    }
    int rc = query_open(store->opt.database, store->loop, &store->lookup, &store->source, e);
    store->own_source = rc == 0;
    return rc;
}

static struct stored_set *set_store_find(const struct set_store *store, const struct query *query,
                                         const struct set_declaration *d)
{
    list_for_each (it, &store->sets) {
        struct stored_set *s = container_of(it, struct stored_set, node);
        if (s->query == query && s->every_ms == d->every_ms && s->stale_ms == d->stale_ms) {
            return s;
        }
    }
    return NULL;
}

int set_store_use(struct set_store *store, const struct set_declaration *d, struct stored_set **out,
                  struct err *e)
{
    const struct query *query = NULL;
    int rc = set_store_open_source(store, e);
    rc =
        rc ? rc : store->source->ops->declare(store->source, slice_str(d->name), d->sql, &query, e);
    if (rc) {
        return rc;
    }
    struct stored_set *s = set_store_find(store, query, d);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        s->store = store;
        s->name = xstrdup(d->name);
        s->query = query;
        s->every_ms = d->every_ms;
        s->stale_ms = d->stale_ms;
        list_init(&s->node);
        list_init(&s->waits);
        list_add_tail(&store->sets, &s->node);
    }
    s->users++;
    *out = s;
    return 0;
}

void stored_set_release(struct stored_set *s)
{
    if (!s || --s->users) {
        return;
    }
    struct set_store *store = s->store;
    if (s->load) {
        s->load->of = NULL;
    }
    if (s->asked) {
        store->source->ops->cancel(store->source, s->asked); /* may free the load */
    }
    REQUIRE(list_empty(&s->waits));
    list_del(&s->node);
    set_store_drop(store, s->values);
    free(s->name);
    free(s);
    set_store_show(store);
}

const struct value_slot *stored_set_slot(const struct stored_set *s)
{
    return &s->slot;
}

void stored_set_state(const struct stored_set *s, struct policy_set_state *out)
{
    uint64_t now = set_store_now(s->store);
    *out = (struct policy_set_state){
        .name = s->name,
        .trusted = s->values != NULL,
        .entries = s->values ? value_set_count(s->values) : 0,
        .bytes = s->values ? value_set_bytes(s->values) : 0,
        .age_ms = s->loaded_ms ? (int64_t)(now - s->loaded_ms) : -1,
        .every_ms = s->every_ms,
        .stale_ms = s->stale_ms,
        .loads = s->loads,
        .failures = s->failures,
        .error = s->error,
    };
}

bool stored_set_await(struct stored_set *s, struct set_wait *w)
{
    struct set_store *store = s->store;
    list_init(&w->node);
    if (s->values) {
        return true;
    }
    list_add_tail(&s->waits, &w->node);
    if (!s->load) {
        s->next_ms = set_store_now(store); /* the first tick comes in a later turn */
    }
    deadline_arm_in(loop_deadline_class(store->loop, TICK_MS, set_store_on_tick), &store->tick, 0);
    return false;
}

void set_wait_give_up(struct set_wait *w)
{
    list_del(&w->node);
}

/* ---------------------------------------------------------------- life */

struct set_store *set_store_new(struct loop *loop, const struct set_store_options *opt,
                                struct policy_metrics *metrics)
{
    struct set_store *store = xcalloc(1, sizeof *store);
    store->loop = loop;
    store->opt = *opt;
    store->source = opt->source;
    store->metrics = metrics;
    list_init(&store->sets);
    deadline_init(&store->tick);
    jitter_init(&store->jitter);
    return store;
}

bool set_store_works(const struct set_store *store)
{
    return store->works > 0;
}

bool set_store_busy(const struct set_store *store)
{
    list_for_each (it, &store->sets) {
        const struct stored_set *s = container_of(it, struct stored_set, node);
        if (s->load || (s->next_ms && set_store_now(store) >= s->next_ms)) {
            return true;
        }
    }
    return false;
}

void set_store_close(struct set_store *store)
{
    store->closing = true;
    deadline_disarm(&store->tick);
    list_for_each (it, &store->sets) {
        container_of(it, struct stored_set, node)->next_ms = 0;
    }
    if (store->own_source) {
        store->source->ops->close(store->source, NULL, NULL);
    }
}

void set_store_free(struct set_store *store)
{
    if (store) {
        REQUIRE(list_empty(&store->sets) && store->works == 0);
        deadline_disarm(&store->tick);
        if (store->own_source) {
            store->source->ops->free(store->source);
        }
        free(store);
    }
}
