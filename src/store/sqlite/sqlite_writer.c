/* Group commit and tail: what the thread does with the writing connection.
 *
 * The order of the tail comes from the write lock: BEGIN IMMEDIATE takes it, then everything others
 * committed is read, then our rows are inserted, so nothing can lie between the two. */
#include "store/sqlite/sqlite_writer.h"

#include "base/clock.h"
#include "base/xalloc.h"

/* An append that fails for a reason of the machine's, not its own, fails those behind it too: after
 * so many in a row nothing more is tried. */
enum { GIVE_UP_AFTER = 8 };

/* Not an error: others wrote more than fits, the tail goes first. */
enum { WRITE_LATER = 1 };

static void tail_push(struct sqlite_writer *w, struct event *ev, uint64_t id, bool ours)
{
    if (w->tail_n == w->tail_cap) {
        w->tail_cap = w->tail_cap ? w->tail_cap * 2 : 64;
        w->tail = xrealloc(w->tail, w->tail_cap * sizeof *w->tail);
    }
    w->tail[w->tail_n++] = (struct sqlite_tail_item){ev, id, ours};
}

static void got_row(void *ctx, struct event *ev)
{
    struct sqlite_writer *w = ctx;
    tail_push(w, ev, ev->id, false);
    w->others++;
    w->others_bytes += event_cost(ev);
}

/* Everything committed since the last look, up to the bounds of one job. */
static int read_others(struct sqlite_writer *w)
{
    struct sqlite_rows_limit limit = {.after = w->tailed,
                                      .upto = EVENT_ID_MAX,
                                      .max_events = SQLITE_GROUP_EVENTS,
                                      .max_bytes = SQLITE_GROUP_BYTES,
                                      .max_data = w->max_data};
    struct sqlite_rows_end end;
    int rc = sqlite_rows_read(&w->db, &limit, got_row, w, &w->rejects, &end, &w->error);
    w->tailed = end.upto;
    w->more = end.full || w->others >= SQLITE_GROUP_EVENTS || w->others_bytes >= SQLITE_GROUP_BYTES;
    return rc;
}

/* ------------------------------------------------------------------ appends */

/* SQLITE_ROW when the key is known, SQLITE_DONE when not. */
static int find_key(struct sqlite_writer *w, struct slice key, int64_t now_s, uint64_t *seq)
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

static int put_key(struct sqlite_writer *w, struct slice key, int64_t now_s, uint64_t seq)
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

static int insert_row(struct sqlite_writer *w, const struct event *ev)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_insert);
    struct slice type = event_type(ev);
    int rc = st ? sqlite_db_bind(st, 1, event_topic(ev)) : SQLITE_ERROR;
    type.p = slice_is(type, "message") ? NULL : type.p;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 2, type) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 3, event_data(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 4, event_attrs(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 5, event_key(ev)) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 6, ev->time_ms) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (st) {
        (void)sqlite3_reset(st); /* lets go of the borrowed bytes */
    }
    return rc;
}

/* `last` is the greatest id so far: a smaller one would be an id of another event. */
static int insert_event(struct sqlite_writer *w, struct event *ev, int64_t now_s, uint64_t *last,
                        struct store_ack *ack)
{
    struct slice key = event_key(ev);
    *ack = (struct store_ack){0};
    if (key.p && w->key_window_s) {
        int rc = find_key(w, key, now_s, &ack->id);
        if (rc == SQLITE_ROW) {
            ack->duplicate = true;
            return 0;
        }
        if (rc != SQLITE_DONE) {
            return sqlite_db_fail(&w->db, &w->error, "looking up a key");
        }
    }
    if (insert_row(w, ev) != SQLITE_DONE) {
        return sqlite_db_fail(&w->db, &w->error, "insert");
    }
    ack->id = (uint64_t)sqlite3_last_insert_rowid(w->db.db);
    if (ack->id <= *last || ack->id > EVENT_ID_MAX) {
        return err_set(&w->error, UV_EIO,
                       "the file drew id %llu after %llu: somebody changed sqlite_sequence",
                       (unsigned long long)ack->id, (unsigned long long)*last);
    }
    *last = ack->id;
    if (key.p && w->key_window_s && put_key(w, key, now_s, ack->id) != SQLITE_DONE) {
        return sqlite_db_fail(&w->db, &w->error, "remembering a key");
    }
    tail_push(w, ev, ack->id, true);
    return 0;
}

static int insert_append(struct sqlite_writer *w, struct append *a, int64_t now_s, uint64_t *last)
{
    int rc = 0;
    for (size_t i = 0; i < a->events.n && rc == 0; i++) {
        rc = insert_event(w, a->events.v[i], now_s, last, &a->acks[i]);
    }
    return rc;
}

/* One transaction: what others wrote, then the appends [first, end). All of them, or none. */
static int write_transaction(struct sqlite_writer *w, struct list *first, const struct list *end)
{
    int64_t now_s = clock_unix_ms() / 1000;
    if (sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "waiting for the write lock");
    }
    int64_t changes = sqlite_wal_index_changes(w->counter);
    int rc = read_others(w);
    rc = rc ? rc : w->more ? WRITE_LATER : 0;
    size_t mark = w->tail_n;
    uint64_t last = w->tailed;
    for (struct list *it = first; it != end && rc == 0; it = it->next) {
        rc = insert_append(w, container_of(it, struct append, node), now_s, &last);
    }
    if (rc == 0 && sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) != SQLITE_OK) {
        rc = sqlite_db_fail(&w->db, &w->error, "commit");
    }
    if (rc) {
        sqlite_db_rollback(&w->db);
        w->tail_n = mark; /* rows of others stay: they are committed */
        return rc;
    }
    if (last > w->tailed) {
        w->commits++;
        w->inserted += w->tail_n - mark;
        w->tailed = last;
        w->durable_n = w->tail_n; /* our commit made the log durable up to here, theirs included */
        w->durable_rejects = w->rejects.n;
        w->durable_tailed = last;
        changes++;
    }
    w->changes = changes;
    return 0;
}

static void settle(struct list *first, const struct list *end, int rc)
{
    for (struct list *it = first; it != end; it = it->next) {
        struct append *a = container_of(it, struct append, node);
        a->settled = true;
        a->rc = rc;
    }
}

/* Failures that say nothing about the next append. */
static bool own_fault(int rc)
{
    return rc == UV_EINVAL || rc == UV_E2BIG;
}

/* After the group failed as a whole: each append on its own, so that one bad one fails alone. */
static int write_one_by_one(struct sqlite_writer *w)
{
    int failures = 0, last_rc = 0;
    list_for_each (it, &w->group) {
        int rc = write_transaction(w, it, it->next);
        if (rc == WRITE_LATER) {
            return 0;
        }
        settle(it, it->next, rc);
        last_rc = own_fault(rc) ? 0 : rc;
        failures = last_rc ? failures + 1 : 0;
        if (rc == UV_EBUSY || failures >= GIVE_UP_AFTER) {
            settle(it->next, &w->group, rc);
            break;
        }
    }
    return last_rc;
}

static int write_group(struct sqlite_writer *w)
{
    int rc = sqlite_db_moved(&w->db, &w->error);
    if (rc) {
        settle(w->group.next, &w->group, rc);
        return rc;
    }
    rc = write_transaction(w, w->group.next, &w->group);
    if (rc == WRITE_LATER) {
        return 0;
    }
    bool alone = w->group.next->next == &w->group;
    if (rc && rc != UV_EBUSY && !alone) {
        return write_one_by_one(w);
    }
    settle(w->group.next, &w->group, rc);
    return own_fault(rc) ? 0 : rc;
}

/* ------------------------------------------------------------------ jobs */

/* A program that writes with less than synchronous = FULL shows rows that power loss can take back.
 * They are made as durable as ours before anybody hears of them. */
static int sync_others(struct sqlite_writer *w)
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

/* Counter and version are read first: a commit in between is seen by the next check. */
static int check(struct sqlite_writer *w)
{
    int64_t changes = sqlite_wal_index_changes(w->counter), version = 0;
    if (sqlite_db_integer(&w->db, SQLITE_data_version, 0, &version) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "looking for rows of others");
    }
    int rc = version == w->data_version ? 0 : read_others(w);
    if (rc == 0 && !w->more) {
        w->data_version = version;
        w->changes = changes;
    }
    return rc;
}

/* Leaves a file that needs no recovery, if nobody else has it open. */
static void close_file(struct sqlite_writer *w)
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
}

void sqlite_writer_run(struct sqlite_writer *w)
{
    w->durable_n = w->durable_rejects = 0;
    w->durable_tailed = w->tailed;
    switch (w->kind) {
    case SQLITE_JOB_WRITE:
        w->rc = write_group(w);
        break;
    case SQLITE_JOB_CHECK:
        w->rc = check(w);
        break;
    case SQLITE_JOB_RETAIN:
        w->rc = sqlite_retain_run(w);
        break;
    case SQLITE_JOB_CLOSE:
        close_file(w);
        return;
    }
    int rc = sync_others(w);
    if (rc) { /* as if they had not been read yet; what is ours lies before them */
        while (w->tail_n > w->durable_n) {
            event_unref(w->tail[--w->tail_n].ev); /* made here, seen by nobody */
            w->others--;                          /* counted when they are read again */
        }
        w->rejects.n = w->durable_rejects;
        w->tailed = w->durable_tailed;
        w->data_version = SQLITE_VERSION_UNKNOWN;
        w->changes = SQLITE_CHANGES_UNKNOWN;
        w->rc = rc;
    }
}
