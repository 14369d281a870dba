/* The embedded store: implements store/store.h. This file is its face: opening, accepting, health,
 * closing. The rest, in reading order: sqlite_jobs.c (what the writer does next), sqlite_group_wait.c
 * (when a group is complete), sqlite_thread.c (where it runs), sqlite_writer.c (group commit and
 * tail), sqlite_watch.c and sqlite_wal_index.c (has another program written?), sqlite_retention.c, sqlite_erase.c, sqlite_presence.c,
 * sqlite_reads.c and sqlite_reader.c (pages), sqlite_row.c (row to event), sqlite_schema.c and
 * sqlite_db.c (the file). */
#include "store/sqlite/store_sqlite.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/sqlite/store_sqlite_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    CLOCK_SLACK_IDS = 1 << 20, /* a second */
    FAULT_LINE_MS = 10000,
};

static struct store_sqlite *store_sqlite_from_base(struct store *base)
{
    return container_of(base, struct store_sqlite, base);
}

/* `base` is the first member: container_of() would cast the const away. */
static const struct store_sqlite *store_sqlite_from_const(const struct store *base)
{
    return (const struct store_sqlite *)(const void *)base;
}

/* ------------------------------------------------------------------ health */

static const char *const fault_names[] = {
    [SQLITE_FAULT_WRITE] = "cannot store events",
    [SQLITE_FAULT_TAIL] = "cannot follow the rows of other programs",
    [SQLITE_FAULT_READ] = "cannot read history",
};

/* The gravest of what is wrong, for health(); empty: nothing. */
static void store_sqlite_describe(struct store_sqlite *s)
{
    s->detail[0] = '\0';
    for (int i = 0; i < SQLITE_FAULT_COUNT && !s->detail[0]; i++) {
        if (s->faults[i].code) {
            (void)snprintf(s->detail, sizeof s->detail, "%s: %s", fault_names[i],
                           s->faults[i].text);
        }
    }
}

/* A disk that is full takes a small write now and then: one line an outage, and none for those that
 * follow within moments. */
void store_sqlite_fault(struct store_sqlite *s, enum sqlite_fault which, const struct err *e)
{
    struct sqlite_outage *o = &s->outages[which];
    uint64_t now = uv_now(s->loop);
    if (!s->faults[which].code) {
        o->since_ms = now;
    }
    o->said = o->said && s->faults[which].code == e->code; /* another reason: log it again */
    if (!o->said && (!o->line_ms || now - o->line_ms >= FAULT_LINE_MS)) {
        o->said = true;
        o->line_ms = now;
        log_error("store", fault_names[which],
                  LOG_F(log_str("path", s->opt.path), log_str("error", e->text)));
    }
    s->faults[which] = *e;
    store_sqlite_describe(s);
}

void store_sqlite_well(struct store_sqlite *s, enum sqlite_fault which)
{
    struct sqlite_outage *o = &s->outages[which];
    if (!s->faults[which].code) {
        return;
    }
    if (o->said && !s->closing) { /* the last write of all says nothing of the next one */
        o->line_ms = uv_now(s->loop);
        log_info("store", "works again",
                 LOG_F(log_str("path", s->opt.path), log_str("was", fault_names[which]),
                       log_uint("after_seconds", (o->line_ms - o->since_ms) / 1000)));
    }
    o->said = false;
    s->faults[which] = (struct err){0};
    store_sqlite_describe(s);
}

static void store_sqlite_log_rejects(struct store_sqlite *s, const struct sqlite_rejects *rejects)
{
    size_t named = rejects->n < SQLITE_REJECTS_NAMED ? rejects->n : SQLITE_REJECTS_NAMED;
    for (size_t i = 0; i < named; i++) {
        if (rejects->first[i].seq > s->reported) {
            s->reported = rejects->first[i].seq;
            s->metrics->rejected_rows++;
            log_warn("store", "row of another program cannot be delivered",
                     LOG_F(log_uint("seq", rejects->first[i].seq),
                           log_str("reason", rejects->first[i].reason)));
        }
    }
    if (rejects->n > named && rejects->last > s->reported) {
        s->reported = rejects->last;
        s->metrics->rejected_rows += rejects->n - named;
        log_warn("store", "more rows of other programs cannot be delivered",
                 LOG_F(log_uint("rows", rejects->n - named), log_uint("upto", rejects->last)));
    }
}

/* Rows of history come by again and again, at every worker and after every start: each is reported
 * once. The next step of retention writes down how far; what comes through the tail is left to the
 * worker that retains. */
void store_sqlite_rejects(struct store_sqlite *s, const struct sqlite_rejects *rejects, bool tail)
{
    if (rejects->n == 0 || rejects->last <= s->reported) {
        return;
    }
    if (tail && s->opt.no_retention) {
        s->reported = rejects->last;
        return;
    }
    store_sqlite_log_rejects(s, rejects);
    s->retain_due = true;
}

static struct store_health store_sqlite_health(const struct store *base)
{
    const struct store_sqlite *s = store_sqlite_from_const(base);
    return (struct store_health){.ok = s->detail[0] == '\0',
                                 .detail = s->detail[0] ? s->detail : "ok",
                                 .events = s->counted ? s->rows : 0,
                                 .bytes = s->file_bytes};
}

static struct store_bounds store_sqlite_bounds(const struct store *base)
{
    const struct store_sqlite *s = store_sqlite_from_const(base);
    return (struct store_bounds){.head = s->head,
                                 .trimmed = s->trimmed,
                                 .leaps = s->leaps.v,
                                 .leap_count = s->leaps.n,
                                 .leap_has_rows = s->leap_has_rows};
}

/* ------------------------------------------------------------------ accepting */

static int store_sqlite_append(struct store *base, struct event_list *events, store_append_cb cb,
                               void *ctx, uint64_t token)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    int rc = s->closing ? UV_ECANCELED : append_queue_push(&s->queue, events, cb, ctx, token);
    if (rc == 0 && !s->busy && !sqlite_group_wait_first(&s->group_wait)) {
        sqlite_jobs_start_next(s);
    }
    return rc;
}

/* In one piece of memory. */
static struct slice *store_sqlite_copy_topics(const struct store_query *q)
{
    size_t bytes = 1;
    for (size_t i = 0; i < q->topic_count; i++) {
        bytes += q->topics[i].n;
    }
    struct slice *copy = xmalloc(q->topic_count * sizeof *copy + bytes);
    char *at = (char *)(copy + q->topic_count);
    for (size_t i = 0; i < q->topic_count; i++) {
        memcpy(at, q->topics[i].p, q->topics[i].n);
        copy[i] = slice_of(at, q->topics[i].n);
        at += q->topics[i].n;
    }
    return copy;
}

static int store_sqlite_read(struct store *base, const struct store_query *q, store_page_cb cb,
                             void *ctx, uint64_t token)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    if (s->closing || (q->latest && s->opt.latest.n == 0)) {
        return s->closing ? UV_ECANCELED : UV_ENOTSUP;
    }
    struct sqlite_read *r = xcalloc(1, sizeof *r);
    r->kind = SQLITE_READ_PAGE;
    r->query = *q;
    if (q->latest) {
        r->query.topics = r->topics = store_sqlite_copy_topics(q);
    }
    r->page_cb = cb;
    r->ctx = ctx;
    r->token = token;
    sqlite_reads_push(s, r);
    return 0;
}

static int store_sqlite_seek(struct store *base, int64_t unix_ms, store_seek_cb cb, void *ctx,
                             uint64_t token)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    if (s->closing) {
        return UV_ECANCELED;
    }
    struct sqlite_read *r = xcalloc(1, sizeof *r);
    r->kind = SQLITE_READ_SEEK;
    r->unix_ms = unix_ms;
    r->seek_cb = cb;
    r->ctx = ctx;
    r->token = token;
    sqlite_reads_push(s, r);
    return 0;
}

static int store_sqlite_erase(struct store *base, const uint64_t *ids, size_t n, store_erase_cb cb,
                              void *ctx, uint64_t token)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    if (s->closing || s->erase) {
        return s->closing ? UV_ECANCELED : UV_EAGAIN;
    }
    s->erase = xmalloc(sizeof *s->erase);
    *s->erase = (struct sqlite_erase){.n = n, .cb = cb, .ctx = ctx, .token = token};
    s->erase->ids = xcalloc(n + 1, sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        s->erase->ids[i] = ids[i];
    }
    sqlite_jobs_start_next(s);
    return 0;
}

static int store_sqlite_presence(struct store *base, struct store_presence *op)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    if (s->closing || op->kind == STORE_PRESENCE_END) {
        return s->closing ? UV_ECANCELED : UV_ENOTSUP;
    }
    if (s->presence) {
        return UV_EAGAIN;
    }
    s->presence = op;
    sqlite_jobs_start_next(s);
    return 0;
}

static int store_sqlite_sync(struct store *base, store_sync_cb cb, void *ctx, uint64_t token)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    if (s->closing) {
        return UV_ECANCELED;
    }
    struct sqlite_asker *a = xmalloc(sizeof *a);
    *a = (struct sqlite_asker){.cb = cb, .ctx = ctx, .token = token};
    list_add_tail(&s->askers, &a->node);
    sqlite_jobs_wake(s);
    return 0;
}

static void store_sqlite_wake(struct store *base)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    if (!s->closing) {
        sqlite_jobs_wake(s);
    }
}

/* ------------------------------------------------------------------ opening and closing */

static void store_sqlite_free(struct store_sqlite *s)
{
    free(s->scratch);
    free(s->writer.tail);
    free(s->writer.erased);
    free(s->writer.leaps.v);
    free(s->writer.latest_list);
    sqlite_fold_free(&s->writer.fold);
    free(s->leaps.v);
    free(s->path);
    free(s);
}

static void store_sqlite_on_closed(uv_handle_t *handle)
{
    struct store_sqlite *s = handle->data;
    if (--s->handles == 0) {
        void (*done)(void *ctx) = s->done;
        void *ctx = s->done_ctx;
        store_sqlite_free(s);
        done(ctx);
    }
}

void store_sqlite_finish(struct store_sqlite *s)
{
    sqlite_thread_stop(&s->thread);
    uv_close((uv_handle_t *)&s->thread.done, store_sqlite_on_closed);
    uv_close((uv_handle_t *)&s->check_timer, store_sqlite_on_closed);
    uv_close((uv_handle_t *)&s->retain_timer, store_sqlite_on_closed);
    if (sqlite_watch_stop(&s->watch)) {
        uv_close((uv_handle_t *)&s->watch.poll, store_sqlite_on_closed);
    }
    uv_close((uv_handle_t *)&s->group_wait.idle, store_sqlite_on_closed);
}

static void store_sqlite_close(struct store *base, void (*done)(void *ctx), void *ctx)
{
    struct store_sqlite *s = store_sqlite_from_base(base);
    REQUIRE(!s->closing);
    s->closing = true;
    s->done = done;
    s->done_ctx = ctx;
    sqlite_jobs_stop(s);
    sqlite_jobs_start_next(s);
}

static const struct store_ops sqlite_ops = {.append = store_sqlite_append,
                                            .read = store_sqlite_read,
                                            .seek = store_sqlite_seek,
                                            .sync = store_sqlite_sync,
                                            .erase = store_sqlite_erase,
                                            .presence = store_sqlite_presence,
                                            .wake = store_sqlite_wake,
                                            .bounds = store_sqlite_bounds,
                                            .health = store_sqlite_health,
                                            .close = store_sqlite_close};

static void store_sqlite_close_files(struct store_sqlite *s, int readers)
{
    while (readers-- > 0) { /* before the writer: they would hold up the log */
        sqlite_db_close(&s->readers[readers].db);
    }
    sqlite_db_close(&s->writer.db);
}

/* Ids come from the clock, so that they lie above those of a version that is lost. One that is slow
 * cannot promise that; the mark can, where it came along. */
static void store_sqlite_look_at_clock(const struct store_sqlite *s, uint64_t newest)
{
    int64_t now_ms = clock_unix_ms();
    uint64_t floor = store_id_floor(now_ms);
    if (newest > floor + CLOCK_SLACK_IDS) {
        log_warn("store",
                 "the clock is behind the newest id: if an older copy was restored without its "
                 "events.db-lock, ids may be handed out a second time",
                 LOG_F(log_str("path", s->opt.path), log_uint("newest", newest),
                       log_uint("clock_says", floor),
                       log_uint("seconds_behind", (newest - floor) >> 20),
                       log_uint("goes_on_above", s->head)));
    }
}

static int store_sqlite_open_files(struct store_sqlite *s, struct err *e)
{
    struct sqlite_writer *w = &s->writer;
    struct sqlite_opened opened;
    int rc =
        sqlite_db_open_writer(&w->db, s->opt.path, s->opt.synchronous_full, s->opt.busy_timeout_ms,
                              clock_unix_ms(), &s->opt.latest, &opened, e);
    if (rc) {
        return rc;
    }
    s->head = w->tailed = opened.head;
    store_sqlite_look_at_clock(s, opened.newest);
    s->trimmed = opened.trimmed;
    s->reported = opened.reported;
    s->leaps = opened.leaps;
    if (sqlite_db_meta(&w->db, "erased", 0, &w->erased_seen) != SQLITE_OK) {
        rc = sqlite_db_fail(&w->db, e, s->opt.path);
        store_sqlite_close_files(s, 0);
        return rc;
    }
    w->counter = sqlite_wal_index_counter(w->db.db);
    if (!w->counter) {
        store_sqlite_close_files(s, 0);
        return err_set(e, UV_EIO,
                       "%s/events.db-shm: cannot be mapped into memory, which SQLite's log needs: "
                       "the store belongs on a local file system",
                       s->opt.path);
    }
    for (int i = 0; i < SQLITE_READERS && rc == 0; i++) {
        rc = sqlite_db_open_reader(&s->readers[i].db, s->opt.path, s->opt.busy_timeout_ms, e);
        if (rc) {
            store_sqlite_close_files(s, i);
        }
    }
    return rc;
}

int store_sqlite_open(const struct store_sqlite_options *opt, uv_loop_t *loop,
                      struct store_metrics *metrics, store_tail_cb tail, store_leap_cb leap,
                      void *tail_ctx, struct store **out, struct err *e)
{
    struct store_sqlite *s = xcalloc(1, sizeof *s);
    s->base.ops = &sqlite_ops;
    s->loop = loop;
    s->opt = *opt;
    s->opt.path = s->path = xstrdup(opt->path);
    s->opt.poll_ms = opt->poll_ms ? opt->poll_ms : 1;
    s->metrics = metrics;
    s->tail = tail;
    s->leap = leap;
    s->tail_ctx = tail_ctx;
    append_queue_init(&s->queue, opt->max_queue_events, opt->max_queue_bytes, metrics);
    list_init(&s->reads);
    list_init(&s->behind);
    list_init(&s->askers);
    list_init(&s->asking);
    list_init(&s->writer.group);
    s->writer.synchronous_full = opt->synchronous_full;
    s->writer.max_data = opt->event_bytes;
    hash_key_init(&s->writer.latest_hash);
    s->writer.fold.after = FOLD_NOTHING;
    s->writer.key_window_s = opt->key_window_s;
    s->writer.busy_ms = opt->busy_timeout_ms;
    s->writer.latest = &s->opt.latest;
    s->writer.data_version = SQLITE_VERSION_UNKNOWN;
    s->writer.changes = SQLITE_CHANGES_UNKNOWN;
    int rc = store_sqlite_open_files(s, e);
    if (rc) {
        store_sqlite_free(s);
        return rc;
    }
    rc = sqlite_jobs_start(s);
    if (rc) {
        (void)err_set(e, rc, "%s: cannot start the thread that commits: %s", s->opt.path,
                      uv_strerror(rc));
        store_sqlite_close_files(s, SQLITE_READERS);
        store_sqlite_free(s);
        return rc;
    }
    if (!opt->no_retention) {
        sqlite_reads_count(s);
    }
    *out = &s->base;
    return 0;
}
