/* Is the file still the one whose ids this broker has handed out? Somebody may have restored an
 * older state into it (sqlite3 .restore), emptied tables, or leapt. The newest id that the tail has
 * passed is evidence that no such state can forge. */
#include "base/clock.h"
#include "store/sqlite/sqlite_writer.h"

#include <stdlib.h>

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
