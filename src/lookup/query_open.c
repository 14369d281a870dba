#include "lookup/query_open.h"

#include "base/alloc.h"
#include "lookup/query_backends.h"

#include <stdio.h>
#include <stdlib.h>

/* A database that is never asked: queries can be declared, as far as that goes without one. For
 * checking a policy where nothing should be connected to. */
static bool offline_run(struct query_pool *p, struct query_job *job)
{
    (void)p;
    (void)job;
    return false;
}

static void offline_free(struct query_pool *p)
{
    free(p);
}

static struct query_source *offline_open(const struct query_options *opt, struct loop *loop,
                                         struct lookup_metrics *metrics)
{
    static const struct query_backend_ops ops = {
        .run = offline_run, .close = query_pool_closed, .free = offline_free};
    struct query_pool *p = xcalloc(1, sizeof *p);
    query_pool_init(p, &ops, &opt->pool, loop, metrics);
    p->away = true;
    (void)snprintf(p->away_text, sizeof p->away_text, "the database is not asked here");
    return &p->base;
}

int query_open(const struct query_options *opt, struct loop *loop, struct lookup_metrics *metrics,
               struct query_source **out, struct err *e)
{
    if (opt->offline) {
        *out = offline_open(opt, loop, metrics);
        return 0;
    }
    return opt->conninfo ? query_pg_open(opt, loop, metrics, out, e)
                         : query_sqlite_open(opt, loop, metrics, out, e);
}
