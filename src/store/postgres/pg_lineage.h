/* Which server hands out ids: the newest one that any connection of the store has seen. A failover
 * manager may have frozen the former primary, or cut it off, instead of ending it. When it wakes it
 * still answers until it is demoted. No connection to it may be used. */
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

/* Why a server is refused. */
enum pg_lineage_refusal {
    PG_LINEAGE_UNKNOWN = 1,
    PG_LINEAGE_STANDBY = 2,
    PG_LINEAGE_OLDER = 4,
};

struct pg_lineage {
    long long cluster; /* 0: none seen yet */
    long timeline;     /* each promotion makes a new one */
    long long started; /* of the server */
    uint64_t heard_ms; /* loop time of its last answer */
    unsigned logged;   /* pg_lineage_refusal bits: kinds that this outage has logged */
    char why[256];     /* text of the last refusal */
};

/* `res` is the answer to PG_LINEAGE_SQL, as text. Returns NULL when the server may be used; `*other`
 * says whether it is another one than before, whose connections must be dropped. Else returns why it
 * is refused, borrowed until the next call, and logs that once per kind and outage. */
const char *pg_lineage_judge(struct pg_lineage *l, const PGresult *res, uint64_t now_ms,
                             bool *other);
void pg_lineage_heard(struct pg_lineage *l, uint64_t now_ms); /* the server in use has answered */
void pg_lineage_outage_over(struct pg_lineage *l);            /* the next refusal is logged again */

#endif
