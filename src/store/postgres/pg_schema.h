/* Before a broker works with a PostgreSQL database: is it one we can work with, and is the schema
 * the one we know? Makes it or brings it up to date; safe to run from several brokers at once. */
#ifndef STORE_POSTGRES_PG_SCHEMA_H
#define STORE_POSTGRES_PG_SCHEMA_H

#include "base/err.h"
#include "pg/pg_conninfo.h"
#include "store/store.h"

enum { PG_SCHEMA_VERSION = 11, PG_LEAPS_MAX = 1000 };

struct pg_schema_state {
    int was, version; /* before and after; 0: there was none */
    uint64_t head, trimmed;
    int64_t erased; /* newest batch of tidegate.erased */
    struct store_leap leaps[PG_LEAPS_MAX];
    size_t leap_count;
};

/* Blocks, for some seconds where servers do not answer. `migrate`: may change the database.
 * `partition_ids`: see store_pg_options. 0, or a negative UV_E* and what to do about it. */
int pg_schema_prepare(const struct pg_conninfo *conninfo, bool migrate, uint64_t partition_ids,
                      struct pg_schema_state *out, struct err *e);
/* The same for the command line: from a connection string, telling the versions only. `shown`
 * (a buffer) becomes the database in words. */
int pg_schema_migrate(const char *conninfo, uint64_t partition_ids, int *was, int *version,
                      char *shown, size_t shown_size, struct err *e);

#endif
