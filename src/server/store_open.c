#include "server/store_open.h"

#include <libpq-fe.h>

int store_open(const struct store_options *opt, uv_loop_t *loop, struct store_metrics *metrics,
               const struct store_listener *listener, struct store **out, struct err *e)
{
    if (opt->postgres) {
        return store_pg_open(&opt->pg, loop, metrics, listener->tail, listener->leap, listener->ctx,
                             out, e);
    }
    return store_sqlite_open(&opt->sqlite, loop, metrics, listener->tail, listener->leap,
                             listener->ctx, out, e);
}

int store_libpq_version(void)
{
    return PQlibVersion();
}
