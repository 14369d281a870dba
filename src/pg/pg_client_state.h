/* Private to pg_client.c (statements) and pg_connect.c (getting connected). */
#ifndef PG_PG_CLIENT_STATE_H
#define PG_PG_CLIENT_STATE_H

#include "base/container/list.h"
#include "pg/pg_client.h"

/* When there are more, all are deallocated: the queries of a policy come and go with it. */
enum { PG_PREPARED_MAX = 256 };

enum pg_state {
    PG_WAITING,    /* for the next attempt */
    PG_RESOLVING,  /* a name, on a pool thread */
    PG_CONNECTING, /* libpq's handshake */
    PG_SETTING_UP, /* opt.setup runs */
    PG_READY,
    PG_BROKEN, /* it is closed in the next turn of the loop */
    PG_CLOSED,
};

/* What is under way for the running statement. */
enum pg_step { PG_STEP_RUN, PG_STEP_PREPARE, PG_STEP_FORGET };

/* A poll handle lives for one step of the handshake, or for the life of a connection: the kernel
 * may give a new socket the number of the old one, which epoll would not notice. */
struct pg_poll {
    uv_poll_t handle;
    int events; /* asked for */
    struct pg_client *client;
};

/* A statement and where its result goes. */
struct pg_job {
    struct list node;
    struct pg_statement st;
    struct pg_args args;
    pg_done_cb done;
    void *ctx;
    uint64_t token;
    void (*row)(void *ctx, uint64_t token, const PGresult *row); /* of a look-up */
    bool only_prepare;
    bool again; /* it was prepared a second time */
};

struct pg_client {
    uv_loop_t *loop;
    struct pg_client_options opt;
    struct pg_client_events events;
    void *ctx;
    enum pg_state state;
    bool fresh; /* the first attempt is still under way: statements may wait for it */

    PGconn *conn;         /* owned */
    struct pg_poll *poll; /* owned; NULL: none */
    uv_timer_t timer;     /* of the state: the next attempt, giving up on an answer */
    uint64_t due;         /* when it was to fire, loop time */
    bool excused;         /* this statement or attempt has had its second chance */

    /* the attempt */
    size_t host;               /* in conninfo->hosts; kept for the next pass to begin with */
    size_t tried;              /* hosts of this pass before it */
    size_t silent;             /* 1 + the host that did not answer in time last; 0: none */
    size_t avoided;            /* `silent` at the beginning of this pass */
    struct addrinfo *found;    /* owned: addresses of the host */
    struct addrinfo *address;  /* the one being tried, in `found` */
    uv_getaddrinfo_t *resolve; /* owned while a look-up runs */
    unsigned attempts;         /* passes over all servers since it last went well */
    uint64_t ready_at;         /* loop time */
    struct err last;           /* why the last attempt failed */
    char words[256];           /* the server's text about the end of the session; "": none */

    /* statements */
    struct list queue;
    struct pg_job *running; /* owned */
    enum pg_step step;      /* of `running` */
    bool forget;            /* the prepared statements must be deallocated */
    PGresult *result;       /* owned: of `running`, so far */
    bool row_came;          /* of `running`, since that was looked at */
    uint64_t row_from;      /* pg_socket_consumed() when the last one came */
    const char *prepared[PG_PREPARED_MAX];
    unsigned prepared_count;
    unsigned pending;

    unsigned handles; /* open */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* pg_fault.c */
bool pg_result_good(const PGresult *res);
/* True when `res` is no answer to the statement, and the statement may have been carried out: the
 * server or a pooler ends the session with it, whatever its SQLSTATE (a PANIC at commit has that of
 * a full disk), or libpq made it up when the connection broke. */
bool pg_result_ends_session(const PGresult *res);
/* The server says why it is about to end the session: shut down, idle for too long, ended by an
 * administrator, a crash of another one. */
bool pg_notice_ends_session(const PGresult *notice);
/* Describes the refusal `res`. Uses the buffer `text` when the words are not those of `res`. */
void pg_fault_read(struct pg_fault *f, char *text, size_t size, const PGresult *res);

/* pg_connect.c */
void pg_connect_start(struct pg_client *c); /* a new pass over the servers */
void pg_connect_wait(struct pg_client *c);  /* the same after a while */
void pg_connect_forget(struct pg_client *c);
void pg_connect_refuse(struct pg_client *c, const char *why); /* on to the next server */
void pg_connect_elsewhere(struct pg_client *c); /* the next pass begins with another server */
void pg_connect_silent(struct pg_client *c);    /* the same; this one has not answered in time */
void pg_poll_drop(struct pg_client *c);
int pg_poll_begin(struct pg_client *c, int events, uv_poll_cb cb);

/* pg_client.c */
void pg_client_connected(struct pg_client *c);
void pg_client_fail_all(struct pg_client *c, int running_code, int code, const char *why);
void pg_client_handle_closed(struct pg_client *c);
void pg_client_timer(struct pg_client *c, uint64_t ms, uv_timer_cb cb);
/* Called by a timer that would blame the server for not answering. True when this process itself
 * stood still, so that the answer may lie in the socket: `cb` is called again a little later. */
bool pg_client_was_away(struct pg_client *c, uv_timer_cb cb);

#endif
