/* See pg_lineage.h. */
#include "store/postgres/pg_lineage.h"

#include "base/logging.h"

#include <stdio.h>
#include <stdlib.h>

/* How long the newest timeline protects itself after its last answer. Two cases must be told apart:
 * a primary from before a failover that has woken (it must not be used), and an older timeline that
 * is the only one left, because files were restored or a failover manager has given the lead back
 * (it must be used). While the newest timeline answers, only the first case is possible. The time
 * is longer than PG_ANSWER_MS and one attempt to connect: a server that is only slow, or restarts,
 * has answered again by then. */
enum { GRACE_MS = 20000 };

/* One log line for each kind of refusal in an outage: each connection is refused again and again. */
static const char *pg_lineage_refuse(struct pg_lineage *l, enum pg_lineage_refusal kind,
                                     const char *why)
{
    if (!(l->logged & kind)) {
        log_warn("store", "a server is refused", LOG_F(log_str("reason", why)));
        l->logged |= kind;
    }
    return why;
}

const char *pg_lineage_judge(struct pg_lineage *l, const PGresult *res, uint64_t now_ms,
                             bool *other)
{
    if (PQntuples(res) != 1 || PQnfields(res) != 3) {
        return pg_lineage_refuse(l, PG_LINEAGE_UNKNOWN, "does not say which server it is");
    }
    long long cluster = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
    long timeline = strtol(PQgetvalue(res, 0, 1), NULL, 10);
    long long started = strtoll(PQgetvalue(res, 0, 2), NULL, 10);
    *other = false;
    if (timeline == 0) {
        return pg_lineage_refuse(l, PG_LINEAGE_STANDBY, "is a standby");
    }
    if (cluster == l->cluster && timeline < l->timeline && now_ms - l->heard_ms < GRACE_MS) {
        (void)snprintf(l->why, sizeof l->why,
                       "is on timeline %ld, and timeline %ld has answered %llu s ago: the primary "
                       "from before a failover (it is taken after %d s without such an answer)",
                       timeline, l->timeline, (unsigned long long)(now_ms - l->heard_ms) / 1000,
                       GRACE_MS / 1000);
        return pg_lineage_refuse(l, PG_LINEAGE_OLDER, l->why);
    }
    *other =
        l->cluster && (cluster != l->cluster || timeline != l->timeline || started != l->started);
    l->cluster = cluster;
    l->timeline = timeline;
    l->started = started;
    l->heard_ms = now_ms;
    return NULL;
}

void pg_lineage_heard(struct pg_lineage *l, uint64_t now_ms)
{
    l->heard_ms = now_ms;
}

void pg_lineage_outage_over(struct pg_lineage *l)
{
    l->logged = 0;
}
