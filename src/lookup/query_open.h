/* Opens the database for queries of policies; lookup/query_source.h is its interface. */
#ifndef LOOKUP_QUERY_OPEN_H
#define LOOKUP_QUERY_OPEN_H

#include "lookup/query_pool.h"

/* Fails only if the conninfo cannot be parsed: a database that is down is reconnected to later.
 * Borrows loop and metrics until the source is closed. */
int query_open(const struct query_options *opt, struct loop *loop, struct lookup_metrics *metrics,
               struct query_source **out, struct err *e);

#endif
