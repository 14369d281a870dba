/* Which job the writer does next, and what its outcome means on the loop thread.
 *
 * Everything that arrives while a job runs is the next one: the slower the disk, the larger the
 * groups. Rows of others are noticed through inotify, looks at the counter of commits, and a poll;
 * the poll is the truth. The log file changes before the commit in it becomes visible (the fsync
 * lies between), so one look after an inotify event is not enough: the next ones follow after 1, 2,
 * 4 ... ms, up to poll_ms. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/sqlite/store_sqlite_state.h"

#include <stdlib.h>

enum { LOOK_MS = 1, LOOK_AFTER_OURS_MS = 250, RETAIN_TICK_MS = 1000, RETAIN_IDLE_TICKS = 10 };
enum { RECENT_MS = 60000 }; /* a row is as old as it says, if that is not more */

static void sqlite_jobs_on_check_timer(uv_timer_t *timer);

/* ------------------------------------------------------------------ outcome */

/* The ids of this item are no one's. What it means is in bounds() before any callback runs. */
static void sqlite_jobs_deliver_leap(struct store_sqlite *s, const struct sqlite_tail_item *item)
{
    struct store_leap l = {item->after, item->id};
    s->metrics->store_leaps += item->lost;
    if (item->lost) {
        log_warn(
            "store",
            "ids are left out, so that none is used twice: events.db is older than what was delivered, or was emptied",
            LOG_F(log_str("path", s->opt.path), log_uint("after", l.after),
                  log_uint("upto", l.upto)));
    } else {
        log_warn("store", "events were removed before they could be delivered",
                 LOG_F(log_str("path", s->opt.path), log_uint("after", l.after),
                       log_uint("upto", l.upto)));
    }
    s->leap(s->tail_ctx, &l);
}

static void sqlite_jobs_take_bounds(struct store_sqlite *s, bool leapt, bool lost)
{
    struct sqlite_writer *w = &s->writer;
    s->head = w->tailed > s->head ? w->tailed : s->head;
    if (w->leaps.v) {
        free(s->leaps.v);
        s->leaps = w->leaps;
        w->leaps = (struct sqlite_leaps){0};
    }
    if (leapt) {
        s->trimmed = lost || w->trimmed > s->trimmed ? w->trimmed : s->trimmed;
        s->leap_has_rows = lost;
    }
    if (leapt && s->counted && !s->closing) {
        sqlite_reads_count(s); /* rows are gone that were counted, or came uncounted */
    }
}

/* Who wrote the row says when; who gives another time than that of the insert, the past of another
 * system say, is not late. */
static uint64_t sqlite_jobs_age_us(const struct event *ev, int64_t unix_ms)
{
    int64_t age = unix_ms - ev->time_ms;
    return age > 0 && age <= RECENT_MS ? (uint64_t)age * 1000 : 0;
}

static void sqlite_jobs_deliver_items(struct store_sqlite *s)
{
    struct sqlite_writer *w = &s->writer;
    uint64_t now = uv_hrtime();
    int64_t unix_ms = clock_unix_ms();
    size_t n = 0;
    for (size_t i = 0; i < w->tail_n; i++) {
        struct event *ev = w->tail[i].ev;
        if (ev) {
            ev->id = w->tail[i].id;
            ev->since_us =
                w->tail[i].ours ? ev->since_us : event_since(now, sqlite_jobs_age_us(ev, unix_ms));
            s->scratch[n++] = ev;
        }
        if (n && (!ev || i + 1 == w->tail_n)) {
            s->tail(s->tail_ctx, s->scratch, n);
            n = 0;
        }
        if (w->tail[i].rejected) {
            s->tail(s->tail_ctx, NULL, 0);
        } else if (!ev) {
            sqlite_jobs_deliver_leap(s, &w->tail[i]);
        }
    }
}

static void sqlite_jobs_deliver(struct store_sqlite *s)
{
    struct sqlite_writer *w = &s->writer;
    bool leapt = false, lost = false;
    if (w->tail_n > s->scratch_cap) {
        s->scratch_cap = w->tail_n;
        s->scratch = xrealloc(s->scratch, s->scratch_cap * sizeof(struct event *));
    }
    for (size_t i = 0; i < w->tail_n; i++) {
        leapt = leapt || (!w->tail[i].ev && !w->tail[i].rejected);
        lost = lost || w->tail[i].lost;
    }
    s->rows += w->inserted + w->others + w->rejects.n;
    sqlite_jobs_take_bounds(s, leapt, lost);
    s->metrics->commits += w->commits;
    s->metrics->commit_events += w->inserted;
    store_sqlite_rejects(s, &w->rejects, true);
    sqlite_jobs_deliver_items(s);
    for (size_t i = 0; i < w->tail_n; i++) {
        if (w->tail[i].ev && !w->tail[i].ours) {
            event_unref(w->tail[i].ev);
        }
    }
}

static void sqlite_jobs_note_faults(struct store_sqlite *s, bool settled)
{
    struct sqlite_writer *w = &s->writer;
    switch (w->kind) {
    case SQLITE_JOB_WRITE:
        if (w->rc) {
            store_sqlite_fault(s, SQLITE_FAULT_WRITE, &w->error);
        } else if (settled) {
            store_sqlite_well(s, SQLITE_FAULT_WRITE);
        }
        break;
    case SQLITE_JOB_CHECK:
        if (w->rc) {
            s->metrics->store_errors++;
            store_sqlite_fault(s, SQLITE_FAULT_TAIL, &w->error);
        } else {
            store_sqlite_well(s, SQLITE_FAULT_TAIL);
        }
        break;
    case SQLITE_JOB_RETAIN:
        if (w->rc && w->rc != UV_EBUSY) { /* busy: another program writes; later */
            s->metrics->store_errors++;
            store_sqlite_fault(s, SQLITE_FAULT_WRITE, &w->error);
        } else if (w->rc == 0 && w->rules.probe) {
            store_sqlite_well(s, SQLITE_FAULT_WRITE);
        }
        break;
    case SQLITE_JOB_ERASE: /* who ordered it is told */
    case SQLITE_JOB_PRESENCE:
        s->metrics->store_errors += w->rc != 0;
        break;
    case SQLITE_JOB_FOLD: /* so are those who read */
        s->metrics->store_errors += w->rc != 0 && w->rc != UV_EAGAIN;
        break;
    case SQLITE_JOB_CLOSE:
        break;
    }
}

static void sqlite_jobs_take_retained(struct store_sqlite *s)
{
    struct sqlite_retained *r = &s->writer.retained;
    if (s->writer.kind != SQLITE_JOB_RETAIN) {
        return;
    }
    s->metrics->retained_removed += r->removed;
    s->rows -= r->removed < s->rows ? r->removed : s->rows;
    s->file_bytes = r->file_bytes ? r->file_bytes : s->file_bytes;
    s->retain_hot = r->removed > 0;
    s->reported = r->reported > s->reported ? r->reported : s->reported;
    bool committed = s->writer.rc == 0 || r->removed; /* giving pages back may fail after it */
    if (committed) {
        s->trimmed = r->trimmed > s->trimmed ? r->trimmed : s->trimmed;
        s->retain_due = s->retain_due || (s->writer.rc == 0 && r->more);
    }
    if (committed && r->leaps.v) {
        free(s->leaps.v);
        s->leaps = r->leaps;
    } else {
        free(r->leaps.v);
    }
    r->leaps.v = NULL;
    if (r->foreign && s->counted && !s->closing) {
        sqlite_reads_count(s);
    }
}

static void sqlite_jobs_take_folded(struct store_sqlite *s)
{
    const struct sqlite_folded *f = &s->writer.folded;
    s->fold_due = s->fold_due || (s->writer.rc == 0 && (f->more || (f->looked && f->filling)));
    if (f->looked) {
        s->metrics->latest_topics = f->topics;
        if (s->metrics->latest_filling && !f->filling) {
            log_info("store", "older events were looked through for topics of store.latest",
                     LOG_F(log_str("path", s->opt.path), log_uint("topics", f->topics)));
        }
        s->metrics->latest_filling = f->filling;
    }
    if (s->writer.kind ==
        SQLITE_JOB_FOLD) { /* it may be long until much is folded: they come again */
        sqlite_reads_on_fold(s, s->writer.rc == 0 && !f->filling);
    }
}

/* Only while the thread does not run. */
static bool sqlite_jobs_others_committed(const struct store_sqlite *s)
{
    return sqlite_wal_index_changes(s->writer.counter) != s->writer.changes;
}

/* How long the counter is trusted yet; 0: the rows are to be looked at. */
static uint64_t sqlite_jobs_trusted_ms(const struct store_sqlite *s)
{
    uint64_t since = uv_now(s->loop) - s->read_ms;
    return since < s->opt.poll_ms ? s->opt.poll_ms - since : 0;
}

static void sqlite_jobs_look_later(struct store_sqlite *s)
{
    uint64_t most = sqlite_jobs_trusted_ms(s);
    uint64_t wait = s->wake_ms < most ? s->wake_ms : most;
    if (!s->closing) {
        REQUIRE(uv_timer_start(&s->check_timer, sqlite_jobs_on_check_timer, wait, 0) == 0);
    }
    s->wake_ms = s->wake_ms * 2 < s->opt.poll_ms ? s->wake_ms * 2 : s->opt.poll_ms;
}

/* Looks soon again while others write, later and later when they do not. Who began to write while
 * the watch paused is found by looks, too: behind a commit of ours that is a moment, but a step of
 * retention may have been without one. */
static void sqlite_jobs_plan_check(struct store_sqlite *s)
{
    const struct sqlite_writer *w = &s->writer;
    s->catching_up = w->rc == 0 && w->more;
    s->check_due = s->check_due || (w->rc == 0 && sqlite_jobs_others_committed(s));
    if (w->others || s->foreign_write_seen || w->kind == SQLITE_JOB_RETAIN ||
        w->kind == SQLITE_JOB_FOLD) {
        s->wake_ms = LOOK_MS;
    } else if (w->kind == SQLITE_JOB_WRITE && s->wake_ms > LOOK_AFTER_OURS_MS) {
        s->wake_ms = LOOK_AFTER_OURS_MS;
    }
    sqlite_jobs_look_later(s);
}

static void sqlite_jobs_answer_askers(struct list *askers, int rc)
{
    while (!list_empty(askers)) {
        struct sqlite_asker *a = list_first(askers, struct sqlite_asker, node);
        list_del(&a->node);
        a->cb(a->ctx, a->token, rc);
        free(a);
    }
}

/* Jobs that may write. */
static bool sqlite_jobs_pauses_watch(enum sqlite_job_kind kind)
{
    return kind == SQLITE_JOB_WRITE || kind == SQLITE_JOB_RETAIN || kind == SQLITE_JOB_ERASE ||
           kind == SQLITE_JOB_PRESENCE || kind == SQLITE_JOB_FOLD;
}

static void sqlite_jobs_answer_erase(struct store_sqlite *s, int rc)
{
    struct sqlite_erase *e = s->erase;
    s->erase = NULL; /* it may order the next one */
    e->cb(e->ctx, e->token, rc, rc ? 0 : e->removed);
    free(e->ids);
    free(e);
}

static void sqlite_jobs_answer_presence(struct store_sqlite *s, int rc)
{
    struct store_presence *op = s->presence;
    s->presence = NULL; /* the next may be ordered */
    op->rc = rc;
    op->done(op);
}

static void sqlite_jobs_take_erased(struct store_sqlite *s)
{
    struct sqlite_writer *w = &s->writer;
    if (w->erased_n && s->base.erased) {
        s->base.erased(s->base.erased_ctx, w->erased, w->erased_n, w->erased_trimmed);
    }
    if (w->kind == SQLITE_JOB_ERASE && (w->rc || !s->erase->more)) {
        size_t removed = w->rc ? 0 : s->erase->removed;
        s->metrics->store_erased += removed;
        s->rows -= removed < s->rows ? removed : s->rows;
        sqlite_jobs_answer_erase(s, w->rc);
    } else if (w->erased_n && s->counted && !s->closing) {
        sqlite_reads_count(s); /* of another worker: the count is void */
    }
}

static void sqlite_jobs_on_done(void *ctx)
{
    struct store_sqlite *s = ctx;
    struct sqlite_writer *w = &s->writer;
    if (w->kind == SQLITE_JOB_CLOSE) {
        if (s->erase) {
            sqlite_jobs_answer_erase(s, UV_ECANCELED);
        }
        if (s->presence) {
            sqlite_jobs_answer_presence(s, UV_ECANCELED);
        }
        sqlite_jobs_answer_askers(&s->asking, UV_ECANCELED);
        sqlite_jobs_answer_askers(&s->askers, UV_ECANCELED);
        store_sqlite_finish(s);
        return;
    }
    if (sqlite_jobs_pauses_watch(w->kind)) {
        sqlite_watch_resume(&s->watch);
    }
    /* Callbacks may append, read and close: `busy` keeps the writer as it is until the end. */
    while (!list_empty(&w->group) && !container_of(w->group.prev, struct append, node)->settled) {
        /* what the job did not get to comes first in the next one */
        append_queue_put_back(&s->queue, container_of(w->group.prev, struct append, node));
    }
    sqlite_jobs_note_faults(s, !list_empty(&w->group));
    sqlite_jobs_deliver(s);
    sqlite_jobs_take_erased(s);
    if (w->kind == SQLITE_JOB_PRESENCE) {
        sqlite_jobs_answer_presence(s, w->rc);
    }
    size_t answered = 0;
    while (!list_empty(&w->group)) {
        struct append *a = list_first(&w->group, struct append, node);
        s->metrics->store_errors += a->rc ? 1 : 0;
        append_complete(&s->queue, a, a->rc);
        answered++;
    }
    sqlite_jobs_take_retained(s);
    sqlite_jobs_take_folded(s);
    sqlite_jobs_plan_check(s);
    if (!s->catching_up) { /* else the rest comes with the next job */
        sqlite_jobs_answer_askers(&s->asking, w->rc);
    }
    s->busy = false;
    if (!answered || s->closing || !sqlite_group_wait_next(&s->group_wait, answered)) {
        sqlite_jobs_start_next(s);
    }
}

/* ------------------------------------------------------------------ the next job */

static void sqlite_jobs_on_thread(void *ctx)
{
    struct store_sqlite *s = ctx;
    if (s->writer.kind == SQLITE_JOB_CLOSE) { /* the readers first: they would hold up the log */
        for (int i = 0; i < SQLITE_READERS; i++) {
            sqlite_db_close(&s->readers[i].db);
        }
    }
    sqlite_writer_run(&s->writer);
}

static bool sqlite_jobs_is_due(const struct store_sqlite *s, enum sqlite_job_kind kind)
{
    if (kind == SQLITE_JOB_FOLD) {
        return s->fold_due && (!s->closing || !list_empty(&s->behind));
    }
    return !s->closing && (kind == SQLITE_JOB_RETAIN  ? s->retain_due
                           : kind == SQLITE_JOB_ERASE ? s->erase != NULL
                                                      : s->presence != NULL);
}

/* What is due besides appends and looks, of those kinds that were not at it just now. */
static bool sqlite_jobs_choose_other(const struct store_sqlite *s, enum sqlite_job_kind *kind)
{
    const unsigned kinds = SQLITE_JOB_FOLD - SQLITE_JOB_RETAIN + 1;
    for (unsigned i = 1; i <= kinds; i++) {
        *kind = SQLITE_JOB_RETAIN + (s->other_turn + i) % kinds;
        if (sqlite_jobs_is_due(s, *kind)) {
            return true;
        }
    }
    return false;
}

/* False: nothing to do. */
static bool sqlite_jobs_choose(const struct store_sqlite *s, enum sqlite_job_kind *kind)
{
    bool appends = append_queue_first(&s->queue) != NULL;
    bool wanted = s->check_due || s->woken;
    if (s->closing && !appends && list_empty(&s->behind)) {
        *kind = SQLITE_JOB_CLOSE;
        return sqlite_reads_idle(s);
    }
    if (s->catching_up) {
        *kind = SQLITE_JOB_CHECK;
    } else if (!((appends || wanted) && s->other_last) && sqlite_jobs_choose_other(s, kind)) {
        return true; /* in turns with these */
    } else if (appends) {
        *kind = SQLITE_JOB_WRITE;
    } else {
        *kind = SQLITE_JOB_CHECK;
        return wanted;
    }
    return true;
}

static void sqlite_jobs_fill_group(struct store_sqlite *s)
{
    struct append *a;
    size_t events = 0, bytes = 0;
    while ((a = append_queue_first(&s->queue))) {
        if (events &&
            (events + a->events.n > SQLITE_GROUP_EVENTS || bytes + a->bytes > SQLITE_GROUP_BYTES)) {
            break;
        }
        events += a->events.n;
        bytes += a->bytes;
        append_queue_take(&s->queue, &s->writer.group);
    }
}

static void sqlite_jobs_fill_rules(struct store_sqlite *s)
{
    s->writer.rules = (struct sqlite_retain_rules){
        .age_s = s->opt.retain_age_s,
        .events = s->opt.retain_events,
        .bytes = s->opt.retain_bytes,
        .key_window_s = s->opt.key_window_s,
        .trimmed = s->trimmed,
        .reported = s->reported,
        .rows = s->rows,
        .counted = s->counted,
        .probe = s->faults[SQLITE_FAULT_WRITE].code != 0,
        .watch_only = s->opt.no_retention,
    };
}

void sqlite_jobs_start_next(struct store_sqlite *s)
{
    enum sqlite_job_kind kind;
    if (s->busy || s->group_wait.on || !sqlite_jobs_choose(s, &kind)) {
        return;
    }
    sqlite_writer_reset(&s->writer, kind);
    if (kind == SQLITE_JOB_WRITE) {
        sqlite_jobs_fill_group(s);
    } else if (kind == SQLITE_JOB_RETAIN) {
        sqlite_jobs_fill_rules(s);
        s->retain_due = false;
        s->ticks = 0;
    }
    if (kind == SQLITE_JOB_WRITE || kind == SQLITE_JOB_CHECK || kind == SQLITE_JOB_CLOSE) {
        s->check_due = s->woken = false; /* a write looks for rows of others as well */
        s->read_ms = uv_now(s->loop);
        list_splice_tail(&s->asking, &s->askers);
    }
    s->writer.erase = kind == SQLITE_JOB_ERASE ? s->erase : NULL;
    s->fold_due = s->fold_due && kind != SQLITE_JOB_FOLD;
    s->other_last = kind >= SQLITE_JOB_RETAIN && kind <= SQLITE_JOB_FOLD;
    s->other_turn = s->other_last ? kind - SQLITE_JOB_RETAIN : s->other_turn;
    s->writer.presence = kind == SQLITE_JOB_PRESENCE ? s->presence : NULL;
    s->foreign_write_seen = false;
    s->busy = true;
    if (sqlite_jobs_pauses_watch(kind)) {
        sqlite_watch_pause(&s->watch);
    }
    sqlite_thread_post(&s->thread);
}

/* ------------------------------------------------------------------ timers and inotify */

/* Nothing runs. */
static void sqlite_jobs_look(struct store_sqlite *s)
{
    if (sqlite_jobs_trusted_ms(s) == 0 || sqlite_jobs_others_committed(s)) {
        s->check_due = true;
        sqlite_jobs_start_next(s);
    } else {
        sqlite_jobs_look_later(s);
    }
}

static void sqlite_jobs_on_check_timer(uv_timer_t *timer)
{
    struct store_sqlite *s = timer->data;
    if (!s->busy) { /* else sqlite_jobs_plan_check() sets the next one */
        sqlite_jobs_look(s);
    }
}

static void sqlite_jobs_on_retain_timer(uv_timer_t *timer)
{
    struct store_sqlite *s = timer->data;
    if (!s->counted && !s->counting && !s->opt.no_retention) {
        sqlite_reads_count(s); /* the last count failed */
    }
    bool soon = s->retain_hot || s->faults[SQLITE_FAULT_WRITE].code;
    if (++s->ticks >= (soon ? 1 : RETAIN_IDLE_TICKS)) {
        s->retain_due = true;
        sqlite_jobs_start_next(s);
    }
}

void sqlite_jobs_wake(struct store_sqlite *s)
{
    s->woken = true;
    sqlite_jobs_start_next(s);
}

static void sqlite_jobs_on_write(void *ctx)
{
    struct store_sqlite *s = ctx;
    s->wake_ms = LOOK_MS;
    if (s->busy) {
        s->foreign_write_seen = true;
    } else {
        sqlite_jobs_look(s);
    }
}

static void sqlite_jobs_gathered(void *ctx)
{
    sqlite_jobs_start_next(ctx);
}

int sqlite_jobs_start(struct store_sqlite *s)
{
    int rc =
        sqlite_thread_start(&s->thread, s->loop, sqlite_jobs_on_thread, sqlite_jobs_on_done, s);
    if (rc) {
        return rc;
    }
    REQUIRE(uv_timer_init(s->loop, &s->check_timer) == 0);
    REQUIRE(uv_timer_init(s->loop, &s->retain_timer) == 0);
    sqlite_group_wait_init(&s->group_wait, s->loop, &s->queue.waiting_events, sqlite_jobs_gathered,
                           s);
    s->handles = 4;
    s->check_timer.data = s->retain_timer.data = s;
    s->wake_ms = s->opt.poll_ms;
    sqlite_jobs_look_later(s);
    REQUIRE(uv_timer_start(&s->retain_timer, sqlite_jobs_on_retain_timer, RETAIN_TICK_MS,
                           RETAIN_TICK_MS) == 0);
    rc = sqlite_watch_start(&s->watch, s->loop, s->opt.path, sqlite_jobs_on_write, s);
    if (rc == 0) {
        s->handles++;
    } else {
        log_warn("store", "cannot watch the directory: rows of other programs are only polled for",
                 LOG_F(log_str("path", s->opt.path), log_str("error", uv_strerror(rc)),
                       log_uint("poll_ms", s->opt.poll_ms)));
    }
    return 0;
}

void sqlite_jobs_stop(struct store_sqlite *s)
{
    sqlite_group_wait_stop(&s->group_wait);
    (void)uv_timer_stop(&s->check_timer);
    (void)uv_timer_stop(&s->retain_timer);
}
