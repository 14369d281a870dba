/* `latest` follows the events: those up to `done` are in it, later ones are folded in many at a time, of each topic the
 * newest only. So a publish costs no row of its own in there. Who reads folds first what he needs.
 *
 * What is to be folded is kept in mind as the tail passes it. Where that does not reach back to `done`, after a start say,
 * the events are read. Some may be in `latest` already: the trigger puts rows of other programs there at once, and another
 * broker may have folded them. Nothing older ever replaces something newer, and in the end each topic has what its last
 * event says.
 *
 * Rows that this broker inserts do not fire the trigger, unless the file keeps other topics than this broker names, has
 * triggers of somebody else, or more of each event than this version knows of. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/strbuf.h"
#include "event/topic.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdlib.h>
#include <time.h>

enum {
    LIST_MAX_BYTES = 1 << 20,
    STEP_ROWS = 2000,  /* of a transaction of its own: publishes wait behind it */
    FOLD_ROWS = 65536, /* a fold is due at so many events: they are read again after a crash */
    /* Or at so many topics, as many as one of FOLD_US takes: publishes wait behind it. Where there are no more than
     * FOLD_FEW in all, the next events are of the same ones, and a fold of all of them pays. */
    FOLD_TOPICS = 512,
    FOLD_TOPICS_MIN = 128,
    FOLD_TOPICS_MAX = 8192,
    FOLD_US = 3000,
    FOLD_FEW = 2048,
    READ_ROWS = 8192, /* that are not kept in mind: at most so many with an append */
};

/* ------------------------------------------------------------------ whose topics */

/* Statements are prepared again with the next step: not in every transaction. */
static void sqlite_latest_set_triggers(struct sqlite_writer *w, bool off)
{
    int on = off ? 0 : 1;
    if (w->triggers_off != off &&
        sqlite3_db_config(w->db.db, SQLITE_DBCONFIG_ENABLE_TRIGGER, on, &on) == SQLITE_OK) {
        w->triggers_off = on == 0;
    }
}

void sqlite_latest_rely(struct sqlite_writer *w)
{
    sqlite_latest_set_triggers(w, false);
}

/* Does the file keep just the topics that this store names? And by triggers that are known? */
static void sqlite_latest_compare(struct sqlite_writer *w)
{
    struct strbuf list;
    strbuf_init(&list, LIST_MAX_BYTES);
    if (!w->latest_list && sqlite_latest_put_list(&list, w->latest) == 0) {
        w->latest_list = strbuf_detach(&list);
    }
    strbuf_clear(&list);
    /* without that table another broker keeps none */
    sqlite3_stmt *st = w->latest_list ? sqlite_db_stmt(&w->db, SQLITE_latest_same) : NULL;
    w->latest_same = st && sqlite_db_bind(st, 1, slice_str(w->latest_list)) == SQLITE_OK &&
                     sqlite3_step(st) == SQLITE_ROW && sqlite3_column_int(st, 0);
    w->latest_by_hand = w->latest_same && sqlite3_column_int(st, 1);
    if (st) {
        (void)sqlite3_reset(st);
    }
}

static int sqlite_latest_look_at_file(struct sqlite_writer *w)
{
    int64_t version = 0;
    int rc = sqlite_db_integer(&w->db, SQLITE_schema_version, 0, &version);
    if (rc == SQLITE_OK && version != w->latest_schema) { /* it changes with the trigger */
        sqlite_latest_compare(w);
        w->latest_schema = version;
    }
    return rc;
}

int sqlite_latest_choose(struct sqlite_writer *w)
{
    if (sqlite_latest_look_at_file(w) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "looking at the schema");
    }
    sqlite_latest_set_triggers(w, w->latest_by_hand);
    return 0;
}

bool sqlite_latest_names(const struct store_latest *latest, struct slice topic)
{
    for (size_t i = 0; i < latest->n; i++) {
        if (topic_match(slice_str(latest->patterns[i]), topic)) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ the newest of some events */

struct sqlite_fold_topic {
    struct map_entry entry;
    int64_t seq; /* of its newest event */
    bool empty;  /* which has no data: the topic has no newest event any more */
    char name[];
};

static void sqlite_fold_clear(struct sqlite_fold *f)
{
    for (size_t i = 0; i < f->n; i++) {
        map_del(&f->topics, &f->v[i]->entry);
        free(f->v[i]);
    }
    f->n = f->rows = 0;
}

void sqlite_fold_free(struct sqlite_fold *f)
{
    sqlite_fold_clear(f);
    free(f->v);
}

/* The next event. Returns a SQLite result. */
static int sqlite_fold_take(const struct sqlite_writer *w, struct sqlite_fold *f, struct slice name,
                            int64_t seq, bool empty)
{
    unsigned hash = (unsigned)hash_bytes(&w->latest_hash, name.p, name.n);
    struct map_entry *found = map_find(&f->topics, name, hash);
    f->last = seq;
    f->rows++;
    if (!found && (topic_name_check(name) || !sqlite_latest_names(w->latest, name))) {
        return SQLITE_OK;
    }
    struct sqlite_fold_topic *t =
        found ? container_of(found, struct sqlite_fold_topic, entry) : xmalloc(sizeof *t + name.n);
    if (!found) {
        memcpy(t->name, name.p, name.n);
        if (!map_add(&f->topics, &t->entry, slice_of(t->name, name.n), hash)) {
            free(t);
            return SQLITE_NOMEM;
        }
        if (f->n == f->cap) {
            f->cap = f->cap ? f->cap * 2 : 64;
            f->v = xrealloc(f->v, f->cap * sizeof(struct sqlite_fold_topic *));
        }
        f->v[f->n++] = t;
    }
    t->seq = seq;
    t->empty = empty;
    return SQLITE_OK;
}

/* ------------------------------------------------------------------ kept in mind */

static void sqlite_fold_forget(struct sqlite_fold *f)
{
    sqlite_fold_clear(f);
    f->after = FOLD_NOTHING;
}

void sqlite_latest_note(struct sqlite_writer *w, size_t end)
{
    struct sqlite_fold *f = &w->fold;
    size_t i = w->noted;
    w->noted = end;
    for (; i < end && f->after != FOLD_NOTHING; i++) {
        const struct sqlite_tail_item *item = &w->tail[i];
        int64_t id = (int64_t)item->id;
        if (item->ev && id <= f->last) {
            continue;
        }
        /* rows that cannot be delivered, or are of another state of the file */
        if (!item->ev || f->n >= FOLD_TOPICS_MAX ||
            sqlite_fold_take(w, f, event_topic(item->ev), id, event_data(item->ev).n == 0) !=
                SQLITE_OK) {
            sqlite_fold_forget(f);
        }
    }
}

/* All up to `upto` is folded. What the tail passes from here on can be kept in mind, unless it has passed more already. */
static void sqlite_fold_begin(struct sqlite_writer *w, int64_t upto)
{
    sqlite_fold_forget(&w->fold);
    if (upto >= (int64_t)w->tailed) {
        w->fold.after = w->fold.last = upto;
    }
}

/* ------------------------------------------------------------------ folding */

static int sqlite_fold_read(struct sqlite_writer *w, struct sqlite_fold *f, const int64_t args[3])
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_latest_unfolded);
    int rc = st ? SQLITE_OK : SQLITE_ERROR;
    for (int i = 0; i < 3 && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, i + 1, args[i]);
    }
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 1);
        rc = sqlite_fold_take(w, f, slice_of(text, text ? (size_t)sqlite3_column_bytes(st, 1) : 0),
                              sqlite3_column_int64(st, 0), sqlite3_column_int(st, 2));
    }
    if (st) {
        (void)sqlite3_reset(st);
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* In the order of ids, in which rows are added to a table with least work. */
static int sqlite_fold_compare(const void *a, const void *b)
{
    const struct sqlite_fold_topic *const *x = a, *const *y = b;
    return ((*x)->seq > (*y)->seq) - ((*x)->seq < (*y)->seq);
}

/* *fresh: topics that there were none of; *gone: those that there are none of any more. */
static int sqlite_fold_apply(struct sqlite_db *db, const struct sqlite_fold *f, int64_t done,
                             int64_t *fresh, int64_t *gone)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < f->n && rc == SQLITE_OK; i++) {
        const struct sqlite_fold_topic *t = f->v[i];
        if (t->seq <= done) { /* another broker has done it */
            continue;
        }
        sqlite3_set_last_insert_rowid(db->db, 0); /* a row that is changed leaves it as it is */
        rc = sqlite_db_run(db, t->empty ? SQLITE_latest_clear : SQLITE_latest_put, 1, &t->seq);
        if (rc == SQLITE_OK && t->empty) {
            *gone += sqlite3_changes(db->db);
        } else if (rc == SQLITE_OK) {
            *fresh += sqlite3_last_insert_rowid(db->db) == t->seq;
        }
    }
    return rc;
}

/* The newest event of some topics was erased before it was folded: no older one takes its place. */
static int sqlite_fold_erased(struct sqlite_db *db, int64_t *gone)
{
    int64_t any = 0;
    int rc = sqlite_db_integer(db, SQLITE_latest_any_gone, 0, &any);
    if (rc == SQLITE_OK && any) {
        rc = sqlite_db_run(db, SQLITE_latest_drop_gone, 0, NULL);
        *gone += rc == SQLITE_OK ? sqlite3_changes(db->db) : 0;
        rc = rc == SQLITE_OK ? sqlite_db_run(db, SQLITE_latest_forget_gone, 0, NULL) : rc;
    }
    return rc;
}

/* The events in (state->done, upto], at most so many where they have to be read, in a transaction that writes. *fresh grows
 * by the topics that are new. Returns a SQLite result. */
static int sqlite_fold_some(struct sqlite_writer *w, struct sqlite_latest_state *state,
                            int64_t upto, size_t rows, int64_t *fresh)
{
    struct sqlite_fold read = {0};
    bool known = w->fold.after != FOLD_NOTHING && w->fold.after <= state->done &&
                 w->fold.last == upto; /* not so where the file is an older copy */
    struct sqlite_fold *f = known ? &w->fold : &read;
    const int64_t args[3] = {state->done, upto, (int64_t)rows};
    int64_t more = 0, gone = 0;
    int rc = known ? SQLITE_OK : sqlite_fold_read(w, f, args);
    int64_t reached = !known && f->rows == rows ? f->last : upto;
    if (f->n) {
        qsort(f->v, f->n, sizeof(struct sqlite_fold_topic *), sqlite_fold_compare);
    }
    rc = rc == SQLITE_OK ? sqlite_fold_apply(&w->db, f, state->done, &more, &gone) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_latest_done, 1, &reached) : rc;
    rc = rc == SQLITE_OK ? sqlite_fold_erased(&w->db, &gone) : rc;
    state->done = reached;
    state->topics += more - gone;
    *fresh += more;
    if (rc == SQLITE_OK && w->triggers_off && more != gone) { /* else they have counted */
        more -= gone;
        rc = sqlite_db_run(&w->db, SQLITE_latest_count, 1, &more);
    }
    sqlite_fold_begin(w, reached);
    sqlite_fold_free(&read);
    return rc;
}

/* ------------------------------------------------------------------ with appends */

/* All up to `upto`. Where that is more than a publish may wait for, steps of their own do it, and snapshots wait. */
static int sqlite_fold_all(struct sqlite_writer *w, struct sqlite_latest_state *state, int64_t upto,
                           int64_t *fresh)
{
    int rc = SQLITE_OK;
    for (int i = 0; i < 2 && rc == SQLITE_OK && state->done < upto; i++) {
        rc = sqlite_fold_some(w, state, upto, READ_ROWS, fresh);
    }
    if (rc == SQLITE_OK && state->done < upto) {
        state->upto = upto;
        w->folded.more = true;
        rc = sqlite_db_run(&w->db, SQLITE_latest_upto, 1, &upto);
    }
    return rc;
}

/* Of this thread: others may share its core. */
static uint64_t sqlite_fold_cpu_us(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool sqlite_fold_is_due(const struct sqlite_writer *w, size_t topics)
{
    bool few = topics <= FOLD_FEW && w->fold.n <= FOLD_FEW;
    return w->fold.rows >= FOLD_ROWS || (w->fold.n >= w->fold_topics && !few);
}

static int sqlite_fold_due(struct sqlite_writer *w, struct sqlite_latest_state *state, int64_t upto)
{
    uint64_t began = sqlite_fold_cpu_us();
    int64_t fresh = 0;
    int rc = sqlite_fold_some(w, state, upto, READ_ROWS, &fresh);
    uint64_t us = sqlite_fold_cpu_us() - began;
    if (us > FOLD_US && w->fold_topics / 2 >= FOLD_TOPICS_MIN) {
        w->fold_topics /= 2;
    } else if (us < FOLD_US / 2 && w->fold_topics * 2 <= FOLD_TOPICS_MAX) {
        w->fold_topics *= 2;
    }
    return rc;
}

int sqlite_latest_make_room(struct sqlite_writer *w, int64_t head, size_t topics)
{
    struct sqlite_latest_state s;
    int64_t fresh = 0;
    int rc = sqlite_latest_look_at_file(w);
    if (rc != SQLITE_OK || !w->latest_same) {
        return rc;
    }
    rc = sqlite_latest_look(&w->db, &s);
    if (rc == SQLITE_OK && s.done >= s.upto && s.done < head &&
        s.topics + (head - s.done) + (int64_t)topics > s.most) {
        rc = sqlite_fold_all(w, &s, head, &fresh);
    }
    return rc;
}

int sqlite_latest_keep_ours(struct sqlite_writer *w, size_t mark, uint64_t last)
{
    struct sqlite_latest_state s;
    int64_t before = (int64_t)w->tailed, head = (int64_t)last, fresh = 0;
    w->fold_topics = w->fold_topics ? w->fold_topics : FOLD_TOPICS;
    if (!w->latest_same || head == before) {
        return 0;
    }
    sqlite_latest_note(w, mark);
    int rc = sqlite_latest_look(&w->db, &s);
    if (rc != SQLITE_OK || s.done < s.upto) { /* steps are at it */
        return rc == SQLITE_OK ? 0 : sqlite_db_fail(&w->db, &w->error, "keeping newest events");
    }
    bool known = w->fold.after != FOLD_NOTHING && w->fold.after <= s.done;
    if (!known && before <= s.done) {
        sqlite_fold_begin(w, s.done);
        known = true;
    }
    if (s.topics + (head - s.done) > s.most) { /* there may be too many: who has brought them? */
        rc = sqlite_fold_all(w, &s, before, &fresh);
        fresh = 0;
        rc = rc == SQLITE_OK && s.done >= s.upto ? sqlite_fold_all(w, &s, head, &fresh) : rc;
        if (rc == SQLITE_OK && fresh && s.topics > s.most) {
            return err_set(&w->error, STORE_TOPICS_FULL,
                           "topic: would be one more than store.latest_topics");
        }
    } else if (known ? sqlite_fold_is_due(w, (size_t)s.topics) : before > s.done) {
        rc = sqlite_fold_due(w, &s, before);
    }
    return rc == SQLITE_OK ? 0 : sqlite_db_fail(&w->db, &w->error, "keeping newest events");
}

/* ------------------------------------------------------------------ steps of their own */

/* Topics whose newest event has expired are free. */
static int sqlite_fold_free_expired(struct sqlite_writer *w, struct sqlite_latest_state *state)
{
    const int64_t args[] = {clock_unix_ms(), STEP_ROWS};
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_latest_expired);
    int rc = st ? sqlite3_bind_int64(st, 1, args[0]) : SQLITE_ERROR;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    (void)sqlite3_reset(st); /* NULL is fine */
    if (rc == SQLITE_ROW) {
        rc = sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL);
        rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_latest_expire, 2, args) : rc;
        int64_t gone = rc == SQLITE_OK ? -sqlite3_changes(w->db.db) : 0;
        if (rc == SQLITE_OK && w->triggers_off) {
            rc = sqlite_db_run(&w->db, SQLITE_latest_count, 1, &gone);
        }
        rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) : rc;
        w->folded.more = w->folded.more || (rc == SQLITE_OK && -gone == STEP_ROWS);
        state->topics += gone;
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int sqlite_fold_step(struct sqlite_writer *w, struct sqlite_latest_state *state, bool wanted)
{
    int64_t head = 0, fresh = 0;
    int rc = sqlite_latest_look(&w->db, state);
    rc = rc == SQLITE_OK ? sqlite_db_integer(&w->db, SQLITE_head, 0, &head) : rc;
    if (rc != SQLITE_OK || !w->latest_same || state->done >= head) {
        return rc;
    }
    rc = sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL);
    rc = rc == SQLITE_OK ? sqlite_latest_look(&w->db, state) : rc; /* others may be at it, too */
    rc = rc == SQLITE_OK ? sqlite_db_integer(&w->db, SQLITE_head, 0, &head) : rc;
    if (rc == SQLITE_OK && state->done < head) {
        bool filling = state->done < state->upto;
        rc = sqlite_fold_some(w, state, head, wanted && !filling ? READ_ROWS : STEP_ROWS, &fresh);
    }
    w->folded.more = w->folded.more || (rc == SQLITE_OK && head - state->done > FOLD_ROWS);
    return rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) : rc;
}

int sqlite_latest_step(struct sqlite_writer *w, bool wanted)
{
    struct sqlite_latest_state state = {0};
    int rc = sqlite_latest_choose(w);
    if (rc) {
        return rc;
    }
    rc = sqlite_fold_step(w, &state, wanted);
    rc = rc == SQLITE_OK && w->latest_same ? sqlite_fold_free_expired(w, &state) : rc;
    if (rc != SQLITE_OK) {
        rc = sqlite_db_fail(&w->db, &w->error, "keeping newest events");
        sqlite_db_rollback(&w->db);
        return rc;
    }
    w->folded.looked = true;
    w->folded.topics = (uint64_t)state.topics;
    w->folded.done = (uint64_t)state.done;
    w->folded.filling = state.done < state.upto;
    return w->latest_same ? 0 : UV_EAGAIN;
}
