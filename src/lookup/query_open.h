/* Opens the database that policies may ask: lookup/query_source.h says what one does with it. */
#ifndef LOOKUP_QUERY_OPEN_H
#define LOOKUP_QUERY_OPEN_H

#include "lookup/query_pool.h"

/* Fails only on a conninfo that cannot be read: a database that is away comes back by itself.
 * Borrows loop and metrics until it is closed. */
int query_open(const struct query_options *opt, struct loop *loop, struct broker_metrics *metrics,
               struct query_source **out, struct err *e);

#endif
