/* What every database for policies has in common (lookup/query_source.h): declared queries, a
 * bounded queue, time limits, completions. A backend embeds a pool and runs one job per free
 * connection of its own. */
#ifndef LOOKUP_QUERY_POOL_H
#define LOOKUP_QUERY_POOL_H

#include "lookup/metrics.h"
#include "lookup/query_source.h"
#include "net/job_pool.h"

struct query_pool_options {
    unsigned queue;      /* most questions that wait */
    unsigned timeout_ms; /* of a question, waiting included */
    size_t rows, bytes;  /* most of an answer */
};

/* Of query_open(). */
struct query_options {
    bool offline; /* queries can be declared, nothing is connected to: for checking policies */
    const char *conninfo; /* PostgreSQL; NULL: SQLite */
    const char *path;     /* of a SQLite file */
    unsigned connections; /* PostgreSQL */
    struct query_pool_options pool;
};

/* A declared query. The strings never move: libpq's statements are known by them. */
struct query {
    char *name, *sql; /* owned */
    char key[32];     /* what the server calls it: follows from the text alone, so that brokers that
                         share a connection pool mean the same by the same name */
    unsigned parameters;
};

/* One question, from acceptance to its answer; longer where the asker has given up but the database
 * still works on it. */
struct query_job {
    struct job job; /* active: a connection has it */
    struct query_pool *pool;
    uint64_t asked_ns;
    const struct query *query;
    bool only_prepare;
    struct query_value *args; /* owned, texts in arg_text */
    size_t arg_count;
    struct strbuf arg_text;
    struct query_rows rows; /* the backend fills it, or */
    struct query_sink sink; /* this takes what would be in it; `row` NULL: there is none */
    struct err e;           /* or this: code != 0 */
    query_done_cb cb;
    void *ctx;
    uint64_t token;
};

struct query_backend_ops {
    /* Starts the job if a connection is free; false: none is. Ends with query_pool_done(). */
    bool (*run)(struct query_pool *p, struct query_job *job);
    /* The asker of a running job is gone: let it end soon. May be NULL. */
    void (*abandoned)(struct query_pool *p, struct query_job *job);
    /* No asker is left: close connections; every running job comes back through query_pool_done()
     * first, then query_pool_closed(). */
    void (*close)(struct query_pool *p);
    void (*free)(struct query_pool *p); /* frees the struct that embeds the pool */
};

struct query_pool {
    struct query_source base;
    const struct query_backend_ops *ops;
    struct loop *loop;
    struct lookup_metrics *metrics;
    struct query_pool_options opt;
    struct query **queries; /* owned */
    size_t query_count;
    struct job_pool jobs;
    bool away;           /* no connection: refuse at once */
    char away_text[256]; /* why */
    uint64_t logged_ms;  /* when a failed query was logged last */
};

void query_pool_init(struct query_pool *p, const struct query_backend_ops *ops,
                     const struct query_pool_options *opt, struct loop *loop,
                     struct lookup_metrics *metrics);

/* For backends, on whatever thread works on the job: one more row. Sets job->e where it cannot be taken. */
void query_pool_row(struct query_job *job, const struct query_value *cells, size_t n);

/* For backends, on the loop thread. */

/* The job has rows, or an error. Takes it, and runs what waits: its connection is free. */
void query_pool_done(struct query_job *job);
/* The same from inside run(), where the job could not even begin: job->e says why. */
void query_pool_settle(struct query_job *job);
/* The database is away: what waits fails, what is asked is refused. Logged when it is news. */
void query_pool_away(struct query_pool *p, const struct err *e);
/* It is back. */
void query_pool_back(struct query_pool *p);
/* All handles of the backend are closed. */
void query_pool_closed(struct query_pool *p);

#endif
