#include "lookup/query_open.h"

#include "lookup/query_backends.h"

int query_open(const struct query_options *opt, struct loop *loop, struct broker_metrics *metrics,
               struct query_source **out, struct err *e)
{
    if (opt->offline) {
        *out = query_offline_open(opt, loop, metrics);
        return 0;
    }
    return opt->conninfo ? query_pg_open(opt, loop, metrics, out, e)
                         : query_sqlite_open(opt, loop, metrics, out, e);
}
