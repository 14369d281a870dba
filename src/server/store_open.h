/* Opens the store that the configuration names, and waits for one that is away. */
#ifndef SERVER_STORE_OPEN_H
#define SERVER_STORE_OPEN_H

#include "net/loop.h"
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

/* The version of the libpq found at run time: 150018 is 15.18. */
int store_libpq_version(void);

/* Opens one store, as often as it takes. */
struct store_opening {
    struct loop *loop;
    const struct store_options *opt;
    struct store_listener listener;
    struct store_metrics *metrics;
    /* It is open, or never will be (`store` NULL, and why). Not called by store_opening_begin(). */
    void (*done)(void *ctx, struct store *store, const struct err *why);
    void *ctx;
    struct err why;          /* of the last failure */
    struct deadline again;   /* the next look */
    struct store_look *look; /* on a thread */
    unsigned looks;
};

/* The members before `why` are set by the caller, and borrowed until it is open or stopped. Looks once, which
 * blocks for some seconds at most. 0: `out` is open. UV_EAGAIN: the store is away; its reason is in `why`,
 * and `done` is called later. Else a negative UV_E*. */
int store_opening_begin(struct store_opening *o, struct store **out, struct err *e);
/* `done` is not called any more. The loop runs until a look on a thread has ended: some seconds at most. */
void store_opening_stop(struct store_opening *o);

#endif
