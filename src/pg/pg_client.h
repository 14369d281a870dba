/* One connection to a PostgreSQL server that reconnects by itself, on the loop, never blocking.
 *
 * Statements queue and run one at a time; every accepted one completes exactly once, never before
 * the call returns. When the connection breaks, what was queued fails; nothing is sent twice. */
#ifndef PG_PG_CLIENT_H
#define PG_PG_CLIENT_H

#include "pg/pg_args.h"
#include "pg/pg_conninfo.h"

#include <libpq-fe.h>
#include <uv.h>

struct pg_client;

struct pg_client_options {
    const struct pg_conninfo *conninfo; /* borrowed for the life of the client */
    const char *role;                   /* static: application_name is "tidegate ROLE" */
    const char *setup;                  /* static SQL after each connect; NULL: none */
    unsigned connect_timeout_ms;        /* for each address */
    unsigned answer_timeout_ms;         /* without an answer for that long: disconnects */
    unsigned slow_ms; /* calls slow() once after this many ms; < answer_timeout_ms; 0: never */
    size_t row_bytes; /* of look-ups, over TCP: a row of which more has come, and not yet all, ends
                         the connection; 0: never */
    bool once;        /* no second pass over the servers: lost() instead */
};

struct pg_client_events {
    /* Called after `setup` with its last result (text). Returns NULL, or the reason not to use this
     * server (borrowed for the call): the client then tries the next one. May be NULL. */
    const char *(*refuse)(void *ctx, const PGresult *res);
    /* Connected and set up: statements can run. Once per connection. */
    void (*ready)(void *ctx);
    /* The connection was ready and broke (after every statement has failed), or no server could be
     * connected to. The client tries again by itself unless `once`: first the last server, or the
     * one after it if that was disconnected for its silence (UV_ETIMEDOUT). */
    void (*lost)(void *ctx, const struct err *e);
    void (*notified)(void *ctx, const char *payload); /* of LISTEN; may be NULL */
    /* The running statement is late. It continues, and completes as any other. May be NULL. */
    void (*slow)(void *ctx);
};

/* What went wrong with a statement:
 *   UV_ECANCELED   the client was closed
 *   UV_ENOTCONN    the connection broke before it was sent
 *   UV_ECONNRESET  the connection broke while it ran: it may have been carried out
 *   UV_EMSGSIZE    it sends a row of more than row_bytes
 *   UV_EIO         the server refused it; `sqlstate` says why, nothing was done. The text does not
 *                  quote values that did not fit (class 22): it may be logged */
struct pg_fault {
    int code;
    char sqlstate[6];
    unsigned position; /* in the statement, in characters from 1; 0: not known */
    const char *text;  /* borrowed for the call */
};

/* Exactly one of `res` and `f` is NULL. */
typedef void (*pg_done_cb)(void *ctx, uint64_t token, const PGresult *res,
                           const struct pg_fault *f);

/* The strings outlive the client. */
struct pg_statement {
    const char *name; /* unique on the connection: prepared on first use; NULL: plain text, may be
                         several statements, no arguments */
    const char *sql;
};

/* A statement whose caller knows no types. Arguments and cells are text, and the server infers the types
 * of the arguments (pg_args_text() only). */
struct pg_look_up {
    struct pg_statement st;
    /* Rows come one by one, before `done`, whose result then has none; NULL: it is only prepared.
     * `ctx` and `token` are those of `done`. */
    void (*row)(void *ctx, uint64_t token, const PGresult *row);
};

/* Starts connecting at once. Both structs are copied. */
struct pg_client *pg_client_new(uv_loop_t *loop, const struct pg_client_options *opt,
                                const struct pg_client_events *events, void *ctx);
/* Takes `args` (NULL: none), also on failure. UV_ENOTCONN: neither ready nor connecting for the
 * first time; nothing is called back. */
int pg_client_ask(struct pg_client *c, const struct pg_statement *st, struct pg_args *args,
                  pg_done_cb done, void *ctx, uint64_t token);
int pg_client_look_up(struct pg_client *c, const struct pg_look_up *l, struct pg_args *args,
                      pg_done_cb done, void *ctx, uint64_t token);
bool pg_client_takes(const struct pg_client *c); /* would pg_client_ask() accept? */
bool pg_client_ready(const struct pg_client *c);
/* Statements accepted and not complete. */
unsigned pg_client_pending(const struct pg_client *c);
/* Closes the connection and makes another one: the server is not what it should be. */
void pg_client_drop(struct pg_client *c, const char *why);
/* The same where another connection has found the server silent. */
void pg_client_leave(struct pg_client *c, const char *why);
/* The server is there again, others say: no need to wait for the next attempt. */
void pg_client_wake(struct pg_client *c);
/* Version of the server as 150003; 0: not ready. */
int pg_client_server_version(const struct pg_client *c);
/* Lets go of everything; what was accepted completes with UV_ECANCELED, in a later turn than this
 * call but before `closed`. */
void pg_client_close(struct pg_client *c, void (*closed)(void *ctx), void *ctx);

/* Cells of a result in binary format. */
int64_t pg_cell_int8(const PGresult *res, int row, int column);
int32_t pg_cell_int4(const PGresult *res, int row, int column);
bool pg_cell_bool(const PGresult *res, int row, int column);
struct slice pg_cell_text(const PGresult *res, int row, int column); /* NULL: absent */

#endif
