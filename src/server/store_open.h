/* Opens the store that the configuration names. */
#ifndef SERVER_STORE_OPEN_H
#define SERVER_STORE_OPEN_H

#include "store/postgres/store_pg.h"
#include "store/sqlite/store_sqlite.h"

struct store_options {
    bool postgres; /* else SQLite */
    struct store_sqlite_options sqlite;
    struct store_pg_options pg;
};

/* The callbacks of the store. */
struct store_listener {
    store_tail_cb tail;
    store_leap_cb leap;
    void *ctx;
};

/* Blocks for a moment; see the two it chooses from. */
int store_open(const struct store_options *opt, uv_loop_t *loop, struct store_metrics *metrics,
               const struct store_listener *listener, struct store **out, struct err *e);
/* The version of the libpq found at run time: 150018 is 15.18. */
int store_libpq_version(void);

#endif
