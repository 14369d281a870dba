/* Which server orders: the newest one that any connection of the store has seen. A failover manager
 * may have frozen or cut off the primary of before rather than ended it: when it wakes it answers
 * whoever asks it, until it is told. No connection that leads there may be believed. */
#ifndef STORE_POSTGRES_PG_LINEAGE_H
#define STORE_POSTGRES_PG_LINEAGE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/* The last statement of each session's setup. */
#define PG_LINEAGE_SQL                                                                             \
    "SELECT system_identifier, CASE WHEN pg_is_in_recovery() THEN 0 ELSE"                          \
    " ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,"      \
    " (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint"                          \
    " FROM pg_control_system()"

struct pg_lineage {
    long long cluster; /* 0: none seen yet */
    long timeline;     /* each promotion makes a new one */
    long long started; /* of the server */
    uint64_t heard_ms; /* loop time of its last answer */
    char why[160];     /* what was refused */
};

/* `res`: answer to PG_LINEAGE_SQL, as text. NULL: it orders, and `*other` says whether it is another
 * one than before, so that what leads to that one must be dropped. Else why it does not, borrowed
 * until the next call. */
const char *pg_lineage_judge(struct pg_lineage *l, const PGresult *res, uint64_t now_ms,
                             bool *other);
void pg_lineage_heard(struct pg_lineage *l, uint64_t now_ms); /* the one known has answered */

#endif
