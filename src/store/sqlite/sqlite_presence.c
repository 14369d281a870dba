/* Who is there, a job a batch: rows of members, and the events that say so, in one transaction. The events are
 * read back like those of any other program.
 *
 * A process is gone when the kernel has let go of its byte in the lock file. What it has said of members stands for the
 * grace from when that is first seen: a broker that is started again sees it at once. */
#include "base/clock.h"
#include "store/sqlite/sqlite_writer.h"

enum { SWEEP_ROWS = 1000 };

/* Publishes. Returns a SQLite result. */
static int sqlite_presence_say(struct sqlite_writer *w, struct slice topic, struct slice data)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_presence_event);
    int rc = st ? sqlite_db_bind(st, 1, topic) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite_db_bind(st, 2, data.n ? data : slice_str("")) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, clock_unix_ms()) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    (void)sqlite3_reset(st); /* NULL is fine */
    if (rc == SQLITE_DONE) {
        (void)sqlite_mark_keep_above(&w->db, (uint64_t)sqlite3_last_insert_rowid(w->db.db));
        w->presence_said++;
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* A statement with a topic, and for some a process and data. */
static int sqlite_presence_run_one(struct sqlite_writer *w, enum sqlite_statement which,
                                   struct slice topic, int64_t broker, struct slice data)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, which);
    int rc = st ? sqlite_db_bind(st, 1, topic) : SQLITE_ERROR;
    int at = 2;
    if (rc == SQLITE_OK && broker) {
        rc = sqlite3_bind_int64(st, at++, broker);
    }
    if (rc == SQLITE_OK && data.p) {
        rc = sqlite_db_bind(st, at, data);
    }
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    (void)sqlite3_reset(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Does any process have the member? *same: and has announced that data. */
static int sqlite_presence_look(struct sqlite_writer *w, struct slice topic, struct slice data,
                                bool *any, bool *same)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_presence_data);
    int rc = st ? sqlite_db_bind(st, 1, topic) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *any = rc == SQLITE_ROW;
    if (*any) {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        *same = text && slice_eq(slice_of(text, (size_t)sqlite3_column_bytes(st, 0)), data);
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int sqlite_presence_join(struct sqlite_writer *w, struct store_presence_change *c)
{
    bool any = false, same = false;
    int rc = sqlite_presence_look(w, c->topic, c->data, &any, &same);
    if (rc == SQLITE_OK && !(any && same)) {
        rc = sqlite_presence_say(w, c->topic, c->data);
        if (rc != SQLITE_OK && sqlite_db_error(rc) == STORE_TOPICS_FULL) {
            c->refused = true; /* the statement alone is undone */
            return SQLITE_OK;
        }
        w->presence->joined += rc == SQLITE_OK;
    }
    if (rc == SQLITE_OK && any && !same) {
        rc = sqlite_presence_run_one(w, SQLITE_presence_same, c->topic, 0, c->data);
    }
    return rc == SQLITE_OK
               ? sqlite_presence_run_one(w, SQLITE_presence_put, c->topic, w->db.broker, c->data)
               : rc;
}

/* That process no longer has the member. `count`: those whom nobody has now. */
static int sqlite_presence_leave(struct sqlite_writer *w, struct slice topic, int64_t broker,
                                 size_t *count)
{
    const struct slice none = {NULL, 0};
    bool any = false, same;
    int rc = sqlite_presence_run_one(w, SQLITE_presence_take, topic, broker, none);
    bool had = rc == SQLITE_OK && sqlite3_changes(w->db.db) > 0;
    rc = rc == SQLITE_OK && had ? sqlite_presence_look(w, topic, none, &any, &same) : rc;
    if (rc == SQLITE_OK && had && !any) {
        rc = sqlite_presence_say(w, topic, none);
        *count += rc == SQLITE_OK;
    }
    return rc;
}

static int sqlite_presence_change(struct sqlite_writer *w)
{
    struct store_presence *op = w->presence;
    int rc = SQLITE_OK;
    for (size_t i = 0; i < op->n && rc == SQLITE_OK; i++) {
        op->v[i].refused = false;
        rc = op->v[i].data.n ? sqlite_presence_join(w, &op->v[i])
                             : sqlite_presence_leave(w, op->v[i].topic, w->db.broker, &op->left);
    }
    return rc;
}

/* ---------------------------------------------------------------- processes that are gone */

/* Notes that it is in the file, and gone; true: for longer than the grace. */
static bool sqlite_presence_long_gone(struct sqlite_writer *w, int64_t broker)
{
    uint64_t now = uv_hrtime();
    size_t i = 0;
    while (i < w->gone_n && w->gone[i].broker != broker) {
        i++;
    }
    if (i == SQLITE_GONE_MAX) {
        return false; /* when there is room */
    }
    if (i == w->gone_n) {
        w->gone[w->gone_n++] = (struct sqlite_gone){.broker = broker, .seen_ns = now};
    }
    w->gone[i].there = true;
    return now - w->gone[i].seen_ns >= w->presence->grace_ms * 1000000;
}

/* Those that are not in the file any more. */
static void sqlite_presence_forget_gone(struct sqlite_writer *w)
{
    size_t kept = 0;
    for (size_t i = 0; i < w->gone_n; i++) {
        if (w->gone[i].there) {
            w->gone[kept] = w->gone[i];
            w->gone[kept++].there = false;
        }
    }
    w->gone_n = kept;
}

/* In the file, above `after`; 0: none. */
static int sqlite_presence_next(struct sqlite_writer *w, int64_t after, int64_t *out)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_presence_next);
    int rc = st ? sqlite3_bind_int64(st, 1, after) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    (void)sqlite3_reset(st);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* The first that has been gone for long; 0: none. Outside a transaction that writes. */
static int sqlite_presence_find_gone(struct sqlite_writer *w, int64_t *out)
{
    int64_t broker = 0;
    int rc = sqlite_presence_next(w, 0, &broker);
    *out = 0;
    while (rc == SQLITE_OK && broker) {
        if (!sqlite_db_broker_lives(&w->db, broker) && sqlite_presence_long_gone(w, broker)) {
            *out = *out ? *out : broker;
        }
        rc = sqlite_presence_next(w, broker, &broker);
    }
    sqlite_presence_forget_gone(w);
    return rc;
}

/* A step. */
static int sqlite_presence_sweep(struct sqlite_writer *w, int64_t broker)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_presence_of);
    int rc = st ? SQLITE_ROW : SQLITE_ERROR;
    int n = 0;
    for (; n < SWEEP_ROWS && rc == SQLITE_ROW; n++) {
        char text[EVENT_TOPIC_MAX_BYTES + 1];
        struct slice topic = {text, 0};
        rc = sqlite3_bind_int64(st, 1, broker);
        rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
        if (rc == SQLITE_ROW) {
            const void *p = sqlite3_column_text(st, 0);
            size_t bytes = (size_t)sqlite3_column_bytes(st, 0);
            topic.n = bytes < sizeof text ? bytes : sizeof text;
            memcpy(text, p ? p : "", p ? topic.n : 0);
        }
        (void)sqlite3_reset(st);
        if (rc == SQLITE_ROW) {
            int left = sqlite_presence_leave(w, topic, broker, &w->presence->swept);
            rc = left == SQLITE_OK ? rc : left;
        }
    }
    w->presence->more = true; /* of this one, or another */
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sqlite_presence_run(struct sqlite_writer *w)
{
    struct store_presence *op = w->presence;
    int64_t gone = 0, head = 0;
    w->presence_said = 0;
    int rc = sqlite_db_moved(&w->db, &w->error);
    if (rc) {
        return rc;
    }
    if (op->kind == STORE_PRESENCE_BEAT && sqlite_presence_find_gone(w, &gone) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "looking for brokers that are gone");
    }
    if (op->kind == STORE_PRESENCE_BEAT && gone == 0) {
        return 0;
    }
    if (sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "presence: waiting for the write lock");
    }
    rc = sqlite_db_integer(&w->db, SQLITE_head, 0, &head);
    rc = rc == SQLITE_OK && w->latest->n ? sqlite_latest_make_room(w, head, op->n) : rc;
    if (rc == SQLITE_OK) {
        rc = gone ? sqlite_presence_sweep(w, gone) : sqlite_presence_change(w);
    }
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) : rc;
    if (rc != SQLITE_OK) {
        rc = sqlite_db_fail(&w->db, &w->error, "presence");
        sqlite_db_rollback(&w->db);
        op->joined = op->left = op->swept = 0;
        return rc;
    }
    w->commits += w->presence_said > 0;
    return w->presence_said ? sqlite_writer_look_at_others(w) : 0;
}
