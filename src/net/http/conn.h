/* One client connection: HTTP/1.1 over one socket.
 *
 * Reads requests, hands them to the server's handler as exchanges (streams), sends their answers in
 * order. Owns one libuv handle, one partial request, the exchanges, and at most one write in
 * flight. Used by listener.c (birth), exchange.c (answers) and http_server.c (closing all). Answers
 * leave in the order of the requests, whatever the order they are given in. */
#ifndef NET_HTTP_CONN_H
#define NET_HTTP_CONN_H

#include "net/http/http_service.h"

/* Most bytes of answers that may wait for a connection's socket. */
enum { CONN_OUT_MAX_BYTES = 32 << 20 };

/* What the connection waits for: which deadline runs. */
enum conn_wait {
    CONN_WAIT_NOTHING, /* for the broker to answer, or for events */
    CONN_WAIT_HEAD,
    CONN_WAIT_BODY,
    CONN_WAIT_IDLE,
    CONN_WAIT_PEER,   /* a write in flight must make progress */
    CONN_WAIT_LINGER, /* the answer is out; the client should close */
};

struct conn_write; /* bytes handed to libuv, see conn.c */

struct conn {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    struct http_server *server;
    struct list node; /* in server->conns */
    uint64_t id;      /* for logs; never reused in a process */
    struct peer_address peer;
    struct http_request *rq; /* being read, or complete and waiting its turn; NULL: none */
    struct strbuf backlog;   /* bytes read but not parsed yet: a later request */
    struct list exchanges;   /* oldest first */
    unsigned exchange_count;
    struct strbuf out;        /* answers on their way to the socket */
    struct conn_write *write; /* in flight; NULL: none */
    struct frame *queued;     /* the one frame left by stream_queue(), to be written next */
    size_t queued_offset;
    size_t write_left; /* of the write in flight, when the deadline was armed */
    struct task flush; /* writes `out` at the end of the turn */
    struct deadline deadline;
    enum conn_wait wait;
    enum close_reason close_why; /* with close_when_written */
    bool reading, eof, streaming, closing, close_when_written, lingering;
    bool barrier;       /* nothing behind the exchange under way may start */
    bool last;          /* nothing behind it is handled at all: its answer says close */
    bool served;        /* at least one request was handled */
    bool continue_sent; /* 100 Continue, for rq */
    bool counted;       /* in server->addresses */
};

/* One request and its answer; born when the request is complete, gone when the answer has left for
 * `out`. exchange.c implements its stream. */
struct exchange {
    struct stream stream;
    struct conn *conn;
    struct list node; /* in conn->exchanges */
    struct http_framing framing;
    bool done;         /* answered, waiting for those before it */
    struct strbuf out; /* the fields of stream_set_fields(); then the answer, while it waits */
};

/* Made by the listener: an initialised, not yet accepted handle. NULL: no memory. */
struct conn *conn_new(struct http_server *server, bool is_unix);
/* The handle was accepted: starts reading. */
void conn_start(struct conn *c);
/* Ends the connection now; idempotent. Streams still open hear `closed`. */
void conn_close(struct conn *c, enum close_reason why);
/* Ends it once what waits for the socket has left. */
void conn_close_when_written(struct conn *c, enum close_reason why);
/* Goes on after anything changed: parses, dispatches, flushes, arms the right deadline. */
void conn_progress(struct conn *c);
/* Moves the answers whose turn has come to `out`, in order, and frees their exchanges. */
int conn_release_answers(struct conn *c);
/* Writes `out` and then `bufs` with one system call. Returns the bytes of `bufs` taken, or a
 * negative UV_E*. What is left of `out` stays and is written as soon as the peer takes it. */
ssize_t conn_write_now(struct conn *c, const uv_buf_t *bufs, unsigned count);

#endif
