/* CONTRACT: a database that policies may query. lookup/ implements it, lua/ calls it.
 *
 * Only declared queries can run: a text with $1, $2 ... and scalars for them, never text made at run
 * time. The database is read, never written. Every accepted query completes exactly once, on the loop
 * thread, never before the call returns, unless it is cancelled. One source per process; it outlives
 * the policies that declare queries in it. */
#ifndef LOOKUP_QUERY_SOURCE_H
#define LOOKUP_QUERY_SOURCE_H

#include "base/err.h"
#include "lookup/query_rows.h"

#include <stdint.h>

struct query_source;
struct query; /* declared; lives as long as its source */

/* Takes the rows of one query one by one, for answers that no one wants to hold twice. */
struct query_sink {
    /* On a thread of the pool, or the loop's, one row at a time; the cells are borrowed. Negative, with
     * the reason in `e`: the query fails with it and no further row comes. */
    int (*row)(void *ctx, const struct query_value *cells, size_t n, struct err *e);
    /* Nothing is going to use `ctx` any more: after the callback of ask(), or, where that is not called
     * or the asker has given up, when the database has let go of the query. On the loop thread. */
    void (*release)(void *ctx);
    void *ctx;
};

struct query_question {
    const struct query *query;
    const struct query_value *args; /* copied; as many as the query has parameters */
    size_t arg_count;
    unsigned timeout_ms;           /* the source's own limit applies as well */
    const struct query_sink *sink; /* copied; the answer then has no rows. NULL: none */
    bool only_prepare; /* lets the database prepare the query without running it: no arguments, no
                            rows */
};

/* Exactly one of `rows` and `e` is NULL; both are borrowed for the call. Codes of `e`:
 *   UV_ENOTCONN   the database is down
 *   UV_ETIMEDOUT  no answer in time, including the wait in the queue
 *   UV_EINVAL     the database rejects the query or an argument
 *   UV_EMSGSIZE   more rows or bytes than are allowed
 *   UV_ECONNRESET the connection broke meanwhile
 *   UV_ECANCELED  the source was closed */
typedef void (*query_done_cb)(void *ctx, uint64_t token, const struct query_rows *rows,
                              const struct err *e);

struct query_source_ops {
    /* Declares a query; equal declarations return the same query. `name` is for messages. UV_EINVAL:
     * not a look-up (query_sql.h); UV_ENOSPC: thousands were declared. `e` says why. */
    int (*declare)(struct query_source *s, struct slice name, struct slice sql,
                   const struct query **out, struct err *e);
    unsigned (*parameters)(const struct query *q);
    /* 0: accepted. Otherwise `cb` is not called: UV_ENOTCONN: the database is down; UV_EAGAIN: too
     * many queries wait; UV_EINVAL: wrong number of arguments; UV_ECANCELED: closing; `e` says why, and
     * the sink, if there is one, stays the asker's. `id` may be NULL. */
    int (*ask)(struct query_source *s, const struct query_question *q, query_done_cb cb, void *ctx,
               uint64_t token, uint64_t *id, struct err *e);
    /* `cb` is not called any more for this query. The query may have completed already. */
    void (*cancel)(struct query_source *s, uint64_t id);
    /* Accepted queries complete with UV_ECANCELED, in a later turn but before `closed` (may be NULL).
     * When `closed` is called no handle is left. New queries are rejected from now on. */
    void (*close)(struct query_source *s, void (*closed)(void *ctx), void *ctx);
    void (*free)(struct query_source *s); /* after `closed`, or the end of the loop */
};

struct query_source {
    const struct query_source_ops *ops;
};

#endif
