/* The list of leaps: ids that no event of this file has, and why ids may be missing. */
#include "base/alloc.h"
#include "store/sqlite/sqlite_db.h"

#include <string.h>

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
    rc = SQLITE_ROW;
    while (at < upto && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        uint64_t from = (uint64_t)sqlite3_column_int64(st, 0);
        uint64_t to = (uint64_t)sqlite3_column_int64(st, 1);
        at = from <= at && to > at ? to : at;
    }
    (void)sqlite3_reset(st);
    *explained = at >= upto;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}
