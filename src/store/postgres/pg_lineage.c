/* See pg_lineage.h. */
#include "store/postgres/pg_lineage.h"

#include <stdio.h>
#include <stdlib.h>

/* Files may have been put back to a time before a failover: the only server there is has an older
 * timeline then. So long after the newer one was heard of nobody can be taken in any more. */
enum { GRACE_MS = 60000 };

const char *pg_lineage_judge(struct pg_lineage *l, const PGresult *res, uint64_t now_ms,
                             bool *other)
{
    if (PQntuples(res) != 1 || PQnfields(res) != 3) {
        return "does not say which server it is";
    }
    long long cluster = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
    long timeline = strtol(PQgetvalue(res, 0, 1), NULL, 10);
    long long started = strtoll(PQgetvalue(res, 0, 2), NULL, 10);
    *other = false;
    if (timeline == 0) {
        return "is a standby";
    }
    if (cluster == l->cluster && timeline < l->timeline && now_ms - l->heard_ms < GRACE_MS) {
        (void)snprintf(l->why, sizeof l->why,
                       "is on timeline %ld, and timeline %ld was heard of %llu s ago: the primary "
                       "from before a failover",
                       timeline, l->timeline, (unsigned long long)(now_ms - l->heard_ms) / 1000);
        return l->why;
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
