/* Group commit and tail: what the thread does with the writing connection.
 *
 * The order of the tail comes from the write lock: BEGIN IMMEDIATE takes it, then everything others
 * committed is read, then our rows are inserted, so nothing can lie between the two. */
#include "store/sqlite/sqlite_writer.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/container_of.h"

/* An append that fails for a reason of the machine's, not its own, fails those behind it too: after
 * so many in a row nothing more is tried. */
enum { GIVE_UP_AFTER = 8 };

/* Not errors. */
enum {
    WRITE_LATER = 1, /* others wrote more than fits, the tail goes first */
    OTHER_STATE = 2, /* the file is not what it was: see sqlite_lineage.c */
};

void sqlite_writer_push(struct sqlite_writer *w, struct sqlite_tail_item item)
{
    if (w->tail_n == w->tail_cap) {
        w->tail_cap = w->tail_cap ? w->tail_cap * 2 : 64;
        w->tail = xrealloc(w->tail, w->tail_cap * sizeof *w->tail);
    }
    w->tail[w->tail_n++] = item;
}

void sqlite_writer_durable(struct sqlite_writer *w)
{
    w->durable_n = w->tail_n;
    w->durable_rejects = w->rejects.n;
    w->durable_tailed = w->tailed;
    w->durable_tailed_ms = w->tailed_ms;
}

/* The tail has come to `id`; `w->tailed_ms` is known where that is the last event. */
static void sqlite_writer_moved(struct sqlite_writer *w, uint64_t id)
{
    const struct sqlite_tail_item *last = w->tail_n ? &w->tail[w->tail_n - 1] : NULL;
    if (id != w->tailed) {
        w->tailed_ms = last && last->ev && last->id == id ? last->ev->time_ms : 0;
        w->tailed = id;
    }
}

static void sqlite_writer_got_row(void *ctx, struct event *ev)
{
    struct sqlite_writer *w = ctx;
    if (!ev) {
        if (w->tail_n == 0 || !w->tail[w->tail_n - 1].rejected) {
            sqlite_writer_push(w, (struct sqlite_tail_item){.rejected = true});
        }
        return;
    }
    sqlite_writer_push(w, (struct sqlite_tail_item){.ev = ev, .id = ev->id});
    w->others++;
    w->others_bytes += event_cost(ev);
}

/* Rows behind `tailed`. Where ids have no row, a leap or retention was there, or another
 * program removed some. The tail reports the hole; pages of history say what it means to a client. */
static int sqlite_writer_read_rows(struct sqlite_writer *w, uint64_t head)
{
    struct sqlite_rows_end end;
    int rc = 0;
    do {
        struct sqlite_rows_limit limit = {.after = w->tailed,
                                          .upto = head,
                                          .max_events = SQLITE_GROUP_EVENTS,
                                          .max_bytes = SQLITE_GROUP_BYTES,
                                          .max_data = w->max_data,
                                          .tail = true};
        rc = sqlite_rows_read(&w->db, &limit, sqlite_writer_got_row, w, &w->rejects, &end,
                              &w->error);
        sqlite_writer_moved(w, end.upto);
        if (rc == 0 && end.hole) {
            sqlite_lineage_pass(w, w->tailed, end.hole, false);
            rc = sqlite_db_leaps_load(&w->db, &w->leaps) == SQLITE_OK
                     ? 0
                     : sqlite_db_fail(&w->db, &w->error, "reading the leaps");
        }
    } while (rc == 0 && end.hole);
    w->more = end.full || w->others >= SQLITE_GROUP_EVENTS || w->others_bytes >= SQLITE_GROUP_BYTES;
    return rc;
}

/* Everything committed since the last look, up to the bounds of one job, in a transaction. */
static int sqlite_writer_read_others(struct sqlite_writer *w)
{
    struct sqlite_look look;
    int rc = sqlite_lineage_look(w, &look);
    if (rc == 0 && look.erased != w->erased_seen) {
        rc = sqlite_erase_collect(w);
    }
    if (rc == 0 && look.leapt) {
        sqlite_lineage_pass(w, look.over.after, look.over.upto, true);
        rc = sqlite_db_leaps_load(&w->db, &w->leaps) == SQLITE_OK
                 ? 0
                 : sqlite_db_fail(&w->db, &w->error, "reading the leaps");
    } else if (rc == 0 && look.lost) {
        return OTHER_STATE;
    }
    return rc ? rc : sqlite_writer_read_rows(w, look.head);
}

/* ------------------------------------------------------------------ appends */

/* SQLITE_ROW when the key is known, SQLITE_DONE when not. */
static int sqlite_writer_find_key(struct sqlite_writer *w, struct slice key, int64_t now_s,
                                  uint64_t *seq)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_key_find);
    int rc = st ? sqlite_db_bind(st, 1, key) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, now_s - (int64_t)w->key_window_s) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (rc == SQLITE_ROW) {
        *seq = (uint64_t)sqlite3_column_int64(st, 0);
    }
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

static int sqlite_writer_put_key(struct sqlite_writer *w, struct slice key, int64_t now_s,
                                 uint64_t seq)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_key_put);
    int rc = st ? sqlite_db_bind(st, 1, key) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, (int64_t)seq) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, now_s) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc;
}

static int sqlite_writer_insert_row(struct sqlite_writer *w, const struct event *ev)
{
    sqlite3_stmt *st =
        sqlite_db_stmt(&w->db, ev->expires_ms ? SQLITE_insert_expiring : SQLITE_insert);
    struct slice type = event_type(ev);
    int rc = st ? sqlite_db_bind(st, 1, event_topic(ev)) : SQLITE_ERROR;
    type.p = slice_is(type, "message") ? NULL : type.p;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 2, type) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 3, event_data(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 4, event_attrs(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 5, event_key(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 6, ev->time_ms) : rc;
    rc = rc == SQLITE_OK && ev->expires_ms ? sqlite3_bind_int64(st, 7, ev->expires_ms) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (st) {
        (void)sqlite3_reset(st); /* lets go of the borrowed bytes */
    }
    return rc;
}

/* `last` is the greatest id so far: a smaller one would be an id of another event. */
static int sqlite_writer_insert_event(struct sqlite_writer *w, struct event *ev, int64_t now_s,
                                      uint64_t *last, struct store_ack *ack)
{
    struct slice key = event_key(ev);
    *ack = (struct store_ack){0};
    if (key.p && w->key_window_s) {
        int rc = sqlite_writer_find_key(w, key, now_s, &ack->id);
        if (rc == SQLITE_ROW) {
            ack->duplicate = true;
            return 0;
        }
        if (rc != SQLITE_DONE) {
            return sqlite_db_fail(&w->db, &w->error, "looking up a key");
        }
    }
    if (sqlite_writer_insert_row(w, ev) != SQLITE_DONE) {
        return sqlite_db_fail(&w->db, &w->error, "insert");
    }
    ack->id = (uint64_t)sqlite3_last_insert_rowid(w->db.db);
    if (ack->id <= *last || ack->id > EVENT_ID_MAX) {
        return err_set(&w->error, UV_EIO,
                       "the file drew id %llu after %llu: somebody changed sqlite_sequence",
                       (unsigned long long)ack->id, (unsigned long long)*last);
    }
    *last = ack->id;
    if (key.p && w->key_window_s && sqlite_writer_put_key(w, key, now_s, ack->id) != SQLITE_DONE) {
        return sqlite_db_fail(&w->db, &w->error, "remembering a key");
    }
    sqlite_writer_push(w, (struct sqlite_tail_item){.ev = ev, .id = ack->id, .ours = true});
    return 0;
}

/* Then everything is checked again, before anything else. */
static int sqlite_writer_leave_state(struct sqlite_writer *w)
{
    w->latest_schema = 0; /* another file may have the same version */
    int rc = sqlite_lineage_leap(w);
    w->more = rc == 0;
    return rc ? rc : WRITE_LATER;
}

/* One transaction: what others wrote, then the appends [first, end). All of them, or none. */
static int sqlite_writer_write_transaction(struct sqlite_writer *w, struct list *first,
                                           const struct list *end)
{
    int64_t now_s = clock_unix_ms() / 1000;
    if (sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "waiting for the write lock");
    }
    int64_t changes = sqlite_wal_index_changes(w->counter);
    /* without a commit since the last look the file is unchanged */
    int rc = changes == w->changes ? sqlite_writer_read_rows(w, EVENT_ID_MAX)
                                   : sqlite_writer_read_others(w);
    rc = rc ? rc : w->more ? WRITE_LATER : 0;
    size_t mark = w->tail_n;
    uint64_t last = w->tailed;
    rc = rc || w->latest->n == 0 ? rc : sqlite_latest_choose(w);
    for (struct list *it = first; it != end && rc == 0; it = it->next) {
        struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n && rc == 0; i++) {
            rc = sqlite_writer_insert_event(w, a->events.v[i], now_s, &last, &a->acks[i]);
        }
    }
    rc = rc || w->latest->n == 0 ? rc : sqlite_latest_keep_ours(w, mark, last);
    if (rc == 0) { /* where that fails the clock has to do; the next commit tries again */
        (void)sqlite_mark_keep_above(&w->db, last);
    }
    if (rc == 0 && sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) != SQLITE_OK) {
        rc = sqlite_db_fail(&w->db, &w->error, "commit");
        w->doubt = rc == UV_EIO; /* it may be in the log: a crash now, and recovery finds it */
    }
    if (rc) {
        sqlite_db_rollback(&w->db);
        w->tail_n = mark; /* rows of others stay: they are committed */
        return rc == OTHER_STATE ? sqlite_writer_leave_state(w) : rc;
    }
    if (last > w->tailed) {
        w->doubt = false; /* what was in doubt is overwritten */
        w->commits++;
        w->inserted += w->tail_n - mark;
        sqlite_writer_moved(w, last);
        sqlite_writer_durable(w); /* our commit made the log durable up to here, theirs included */
        changes++;
    }
    w->changes = changes;
    return 0;
}

/* "Nothing was stored" is said only where it is known. */
static void sqlite_writer_settle(const struct sqlite_writer *w, struct list *first,
                                 const struct list *end, int rc)
{
    rc = rc && w->doubt ? UV_ECONNABORTED : rc;
    for (struct list *it = first; it != end; it = it->next) {
        struct append *a = container_of(it, struct append, node);
        a->settled = true;
        a->rc = rc;
    }
}

/* Failures that say nothing about the next append. */
static bool sqlite_writer_own_fault(int rc)
{
    return rc == UV_EINVAL || rc == UV_E2BIG || rc == STORE_TOPICS_FULL;
}

/* After the group failed as a whole: each append on its own, so that one bad one fails alone. */
static int sqlite_writer_write_one_by_one(struct sqlite_writer *w, bool full)
{
    int failures = 0, last_rc = 0;
    if (full) { /* what waits for a fold is folded once, not in each that is refused */
        (void)sqlite_latest_step(w, true);
    }
    list_for_each (it, &w->group) {
        int rc = sqlite_writer_write_transaction(w, it, it->next);
        if (rc == WRITE_LATER) {
            return 0;
        }
        sqlite_writer_settle(w, it, it->next, rc);
        last_rc = sqlite_writer_own_fault(rc) ? 0 : rc;
        failures = last_rc ? failures + 1 : 0;
        if (rc == UV_EBUSY || failures >= GIVE_UP_AFTER) {
            sqlite_writer_settle(w, it->next, &w->group, rc);
            break;
        }
    }
    return last_rc;
}

static int sqlite_writer_write_group(struct sqlite_writer *w)
{
    int rc = sqlite_db_moved(&w->db, &w->error);
    if (rc) {
        sqlite_writer_settle(w, w->group.next, &w->group, rc);
        return rc;
    }
    rc = sqlite_writer_write_transaction(w, w->group.next, &w->group);
    if (rc == WRITE_LATER) {
        return 0;
    }
    bool alone = w->group.next->next == &w->group;
    if (rc && rc != UV_EBUSY && !alone) {
        return sqlite_writer_write_one_by_one(w, rc == STORE_TOPICS_FULL);
    }
    sqlite_writer_settle(w, w->group.next, &w->group, rc);
    return sqlite_writer_own_fault(rc) ? 0 : rc;
}

/* ------------------------------------------------------------------ jobs */

/* A program that writes with less than synchronous = FULL shows rows that power loss can take back.
 * They are made as durable as ours before they are reported. */
static int sqlite_writer_sync_others(struct sqlite_writer *w)
{
    sqlite3_file *wal = NULL;
    if (w->tailed == w->durable_tailed || !w->synchronous_full) {
        return 0;
    }
    int rc = sqlite3_file_control(w->db.db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    if (rc == SQLITE_OK && wal && wal->pMethods) {
        rc = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
    }
    return rc == SQLITE_OK
               ? 0
               : err_set(&w->error, sqlite_db_error(rc),
                         "making rows of another program durable: %s", sqlite3_errstr(rc));
}

int sqlite_writer_look_at_others(struct sqlite_writer *w)
{
    if (sqlite_db_run(&w->db, SQLITE_begin, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "looking for rows of others");
    }
    int rc = sqlite_writer_read_others(w);
    if (sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) != SQLITE_OK) {
        sqlite_db_rollback(&w->db);
    }
    if (rc == OTHER_STATE) {
        rc = sqlite_writer_leave_state(w);
    }
    return rc == WRITE_LATER ? 0 : rc;
}

/* Counter and version are read first: a commit in between is seen by the next check. */
static int sqlite_writer_check(struct sqlite_writer *w)
{
    int64_t changes = sqlite_wal_index_changes(w->counter), version = 0;
    if (sqlite_db_integer(&w->db, SQLITE_data_version, 0, &version) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "looking for rows of others");
    }
    int rc = version == w->data_version ? 0 : sqlite_writer_look_at_others(w);
    if (rc == 0 && !w->more) {
        w->data_version = version;
        w->changes = changes;
    }
    return rc;
}

/* Leaves a file that needs no recovery, if no other process has it open. */
static void sqlite_writer_close_file(struct sqlite_writer *w)
{
    (void)sqlite3_wal_checkpoint_v2(w->db.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite_db_close(&w->db);
}

void sqlite_writer_reset(struct sqlite_writer *w, enum sqlite_job_kind kind)
{
    w->kind = kind;
    w->rc = 0;
    w->error = (struct err){0};
    w->tail_n = 0;
    w->more = false;
    w->commits = w->inserted = w->others = w->others_bytes = 0;
    w->rejects = (struct sqlite_rejects){0};
    w->retained = (struct sqlite_retained){0};
    w->folded = (struct sqlite_folded){0};
    w->noted = 0;
    w->erased_n = 0;
}

void sqlite_writer_run(struct sqlite_writer *w)
{
    w->doubt = false;
    w->durable_n = w->durable_rejects = 0;
    w->durable_tailed = w->tailed;
    w->durable_tailed_ms = w->tailed_ms;
    if (w->kind == SQLITE_JOB_ERASE || w->kind == SQLITE_JOB_PRESENCE) {
        sqlite_latest_rely(w);
    }
    switch (w->kind) {
    case SQLITE_JOB_WRITE:
        w->rc = sqlite_writer_write_group(w);
        break;
    case SQLITE_JOB_CHECK:
        w->rc = sqlite_writer_check(w);
        break;
    case SQLITE_JOB_RETAIN:
        w->rc = sqlite_retain_run(w);
        break;
    case SQLITE_JOB_ERASE:
        w->rc = sqlite_erase_run(w);
        break;
    case SQLITE_JOB_PRESENCE:
        w->rc = sqlite_presence_run(w);
        break;
    case SQLITE_JOB_FOLD:
        w->rc = sqlite_latest_step(w, true);
        break;
    case SQLITE_JOB_CLOSE:
        sqlite_writer_close_file(w);
        return;
    }
    int rc = sqlite_writer_sync_others(w);
    if (rc) { /* read them again later; our own rows lie before them */
        while (w->tail_n > w->durable_n) {
            struct event *ev = w->tail[--w->tail_n].ev;
            if (ev) {            /* else a leap or rejected rows, which are found again */
                event_unref(ev); /* made here, not published yet */
                w->others--;     /* counted when they are read again */
            }
        }
        w->rejects.n = w->durable_rejects;
        w->tailed = w->durable_tailed;
        w->tailed_ms = w->durable_tailed_ms;
        w->data_version = SQLITE_VERSION_UNKNOWN;
        w->changes = SQLITE_CHANGES_UNKNOWN;
        w->rc = rc;
    }
    sqlite_latest_note(w, w->tail_n);
}
