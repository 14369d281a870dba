/* Is the file still the one whose ids this broker has handed out? Somebody may have restored an
 * older state into it (sqlite3 .restore), emptied tables, or leapt. The newest id that the tail has
 * passed is evidence that no such state can forge. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/require.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ the list of leaps */

int sqlite_db_leaps_load(struct sqlite_db *db, struct sqlite_leaps *out)
{
    sqlite3_stmt *st = sqlite_db_stmt(db, SQLITE_leaps);
    if (!st) {
        return sqlite3_errcode(db->db);
    }
    out->v = out->v ? out->v : xcalloc(SQLITE_LEAPS_MAX + 1, sizeof *out->v);
    out->n = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && out->n < SQLITE_LEAPS_MAX) {
        out->v[out->n++] = (struct store_leap){(uint64_t)sqlite3_column_int64(st, 0),
                                               (uint64_t)sqlite3_column_int64(st, 1)};
    }
    (void)sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* Few rows, changed rarely: all are rewritten. */
static int sqlite_leaps_save(struct sqlite_db *db, const struct sqlite_leaps *leaps)
{
    int rc = sqlite_db_run(db, SQLITE_leaps_clear, 0, NULL);
    for (size_t i = 0; i < leaps->n && rc == SQLITE_OK; i++) {
        int64_t pair[2] = {(int64_t)leaps->v[i].after, (int64_t)leaps->v[i].upto};
        rc = sqlite_db_run(db, SQLITE_leap_add, 2, pair);
    }
    return rc;
}

/* Where the last one ends is a position that clients were given: the two stay apart, though there
 * is no event in between. */
static void sqlite_leaps_add(struct sqlite_leaps *leaps, uint64_t after, uint64_t upto)
{
    REQUIRE(leaps->v != NULL); /* they have been loaded */
    leaps->v[leaps->n++] = (struct store_leap){after, upto};
    if (leaps->n > SQLITE_LEAPS_MAX) { /* two become one: with no event between, or the oldest */
        size_t at = 0;
        for (size_t i = leaps->n - 1; i > 0; i--) {
            at = leaps->v[i - 1].upto == leaps->v[i].after ? i - 1 : at;
        }
        leaps->v[at + 1].after = leaps->v[at].after;
        leaps->n--;
        memmove(leaps->v + at, leaps->v + at + 1, (leaps->n - at) * sizeof *leaps->v);
    }
}

int sqlite_db_leap(struct sqlite_db *db, struct sqlite_leaps *leaps, uint64_t after, uint64_t upto)
{
    int64_t head = (int64_t)upto;
    sqlite_leaps_add(leaps, after, upto);
    int rc = sqlite_leaps_save(db, leaps);
    rc = rc == SQLITE_OK ? sqlite_db_run(db, SQLITE_head_set, 1, &head) : rc;
    if (rc == SQLITE_OK && sqlite3_changes(db->db) == 0) {
        rc = sqlite_db_run(db, SQLITE_head_add, 1, &head);
    }
    return rc;
}

int sqlite_db_leaps_trim(struct sqlite_db *db, struct sqlite_leaps *leaps, uint64_t trimmed)
{
    int rc = sqlite_db_leaps_load(db, leaps);
    size_t drop = 0;
    while (rc == SQLITE_OK && drop < leaps->n && leaps->v[drop].upto <= trimmed) {
        drop++; /* a client with an id this old gets a gap anyway */
    }
    if (rc != SQLITE_OK || drop == 0) {
        return rc;
    }
    leaps->n -= drop;
    memmove(leaps->v, leaps->v + drop, leaps->n * sizeof *leaps->v);
    return sqlite_leaps_save(db, leaps);
}

int sqlite_db_leaps_explain(struct sqlite_db *db, uint64_t after, uint64_t upto, bool *explained)
{
    int64_t trimmed = 0;
    int rc = sqlite_db_meta(db, "trimmed", 0, &trimmed);
    sqlite3_stmt *st = rc == SQLITE_OK ? sqlite_db_stmt(db, SQLITE_leaps) : NULL;
    uint64_t at = (uint64_t)trimmed > after ? (uint64_t)trimmed : after;
    if (!st) {
        return sqlite3_errcode(db->db);
    }
    rc = sqlite_erase_explain(db, at, upto, &at);
    rc = rc == SQLITE_OK ? SQLITE_ROW : rc;
    while (at < upto && rc == SQLITE_ROW && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        uint64_t from = (uint64_t)sqlite3_column_int64(st, 0);
        uint64_t to = (uint64_t)sqlite3_column_int64(st, 1);
        if (from <= at && to > at) {
            rc = sqlite_erase_explain(db, to, upto, &at);
            rc = rc == SQLITE_OK ? SQLITE_ROW : rc;
        }
    }
    (void)sqlite3_reset(st);
    *explained = at >= upto;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ------------------------------------------------------------------ is the file the same? */

/* Other brokers on the file may have handed out some that this one has not heard of. */
enum { LEAP_MARGIN = 1 << 20 };

void sqlite_lineage_pass(struct sqlite_writer *w, uint64_t after, uint64_t upto, bool lost)
{
    sqlite_writer_push(w, (struct sqlite_tail_item){.id = upto, .after = after, .lost = lost});
    w->tailed = upto;
    w->tailed_ms = 0;
}

int sqlite_lineage_look(struct sqlite_writer *w, struct sqlite_look *out)
{
    sqlite3_stmt *st = sqlite_db_stmt(&w->db, SQLITE_look);
    *out = (struct sqlite_look){0};
    if (!st || sqlite3_bind_int64(st, 1, (int64_t)w->tailed) != SQLITE_OK ||
        sqlite3_step(st) != SQLITE_ROW) {
        (void)sqlite_db_fail(&w->db, &w->error, "looking at the newest id");
        (void)sqlite3_reset(st); /* NULL is fine */
        return w->error.code;
    }
    bool row = sqlite3_column_type(st, 2) != SQLITE_NULL;
    int64_t created = sqlite3_column_int64(st, 2);
    *out = (struct sqlite_look){
        .trimmed = (uint64_t)sqlite3_column_int64(st, 0),
        .head = (uint64_t)sqlite3_column_int64(st, 1),
        .erased = sqlite3_column_int64(st, 5),
        .over = {(uint64_t)sqlite3_column_int64(st, 3), (uint64_t)sqlite3_column_int64(st, 4)}};
    out->leapt = out->over.upto > w->tailed; /* by another broker: it has found out first */
    out->lost = out->head < w->tailed || (row && w->tailed_ms && created != w->tailed_ms);
    (void)sqlite3_reset(st);
    w->trimmed = out->trimmed;
    return 0;
}

/* Where this state and the one that is lost have surely been one: the last leap, of which the
 * clients of both know, or what retention has removed. */
static uint64_t sqlite_lineage_common(struct sqlite_leaps *leaps, uint64_t tailed, uint64_t trimmed)
{
    while (leaps->n && leaps->v[leaps->n - 1].upto > tailed) {
        leaps->n--;
    }
    uint64_t at = leaps->n ? leaps->v[leaps->n - 1].upto : 0;
    return trimmed > at && trimmed <= tailed ? trimmed : at;
}

static int sqlite_lineage_write(struct sqlite_writer *w)
{
    struct sqlite_look look;
    int rc = sqlite_lineage_look(w, &look);
    if (rc || look.leapt || !look.lost) {
        return rc; /* another broker was faster: the next look passes its leap */
    }
    uint64_t upto = store_id_floor(clock_unix_ms());
    uint64_t known = look.head > w->tailed ? look.head : w->tailed;
    upto = upto > known + LEAP_MARGIN ? upto : known + LEAP_MARGIN;
    struct sqlite_leaps leaps = {0};
    (void)sqlite_mark_keep_above(&w->db, upto); /* else with the next commit */
    rc = sqlite_db_leaps_load(&w->db, &leaps);
    uint64_t after = rc == SQLITE_OK ? sqlite_lineage_common(&leaps, w->tailed, look.trimmed) : 0;
    rc = rc == SQLITE_OK ? sqlite_db_leap(&w->db, &leaps, after, upto) : rc;
    rc = rc == SQLITE_OK ? sqlite_db_run(&w->db, SQLITE_commit, 0, NULL) : rc;
    if (rc != SQLITE_OK) {
        free(leaps.v);
        return sqlite_db_fail(&w->db, &w->error, "leaping over the ids that are lost");
    }
    free(w->leaps.v);
    w->leaps = leaps;
    sqlite_lineage_pass(w, after, upto, true);
    sqlite_writer_durable(w);
    return 0;
}

int sqlite_lineage_leap(struct sqlite_writer *w)
{
    if (sqlite_db_run(&w->db, SQLITE_begin_write, 0, NULL) != SQLITE_OK) {
        return sqlite_db_fail(&w->db, &w->error, "waiting for the write lock");
    }
    int rc = sqlite_lineage_write(w);
    sqlite_db_rollback(&w->db); /* unless it was committed */
    return rc;
}
