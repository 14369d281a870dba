/* What is behind query_open.h. Private to it. */
#ifndef LOOKUP_QUERY_BACKENDS_H
#define LOOKUP_QUERY_BACKENDS_H

#include "lookup/query_pool.h"

int query_pg_open(const struct query_options *opt, struct loop *loop,
                  struct lookup_metrics *metrics, struct query_source **out, struct err *e);
int query_sqlite_open(const struct query_options *opt, struct loop *loop,
                      struct lookup_metrics *metrics, struct query_source **out, struct err *e);

#endif
