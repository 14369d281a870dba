/* A database for policies that is never asked: queries can be declared, as far as that goes without
 * one. For checking a policy where nothing should be connected to. */
#include "base/xalloc.h"
#include "lookup/query_backends.h"

#include <stdio.h>
#include <stdlib.h>

static bool run(struct query_pool *p, struct query_job *job)
{
    (void)p;
    (void)job;
    return false;
}

static void free_pool(struct query_pool *p)
{
    free(p);
}

struct query_source *query_offline_open(const struct query_options *opt, struct loop *loop,
                                        struct broker_metrics *metrics)
{
    static const struct query_backend_ops ops = {
        .run = run, .close = query_pool_closed, .free = free_pool};
    struct query_pool *p = xcalloc(1, sizeof *p);
    query_pool_init(p, &ops, &opt->pool, loop, metrics);
    p->away = true;
    (void)snprintf(p->away_text, sizeof p->away_text, "the database is not asked here");
    return &p->base;
}
