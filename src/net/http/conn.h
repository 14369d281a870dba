/* One client connection: a socket, whatever is spoken on it.
 *
 * Owns one libuv handle, what was read and not taken yet, what waits to be written, and at most one
 * write in flight; knows the peer, the deadline that runs, and how to end. What the bytes mean is
 * the protocol's (http1.h): it embeds the connection, so that both are one allocation. Used by
 * listener.c (birth), the protocols, and http_server.c (closing all).
 *
 * All bytes to the socket go through conn_send(), or what it did not take through
 * conn_write_start(); all bytes from it come through conn_on_read(). */
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
struct conn_layer_ops;
struct tls_facts;

/* What may lie between a connection and its socket (conn_tls.h): it encrypts and decrypts. */
struct conn_layer {
    const struct conn_layer_ops *ops;
};

struct conn {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    const struct conn_protocol *protocol;
    struct conn_layer *layer; /* NULL: none. Owned, freed by its ops */
    struct http_server *server;
    struct list node; /* in server->conns */
    uint64_t id;      /* for logs; never reused in a process */
    struct peer_address peer;
    struct strbuf backlog;    /* read, but the protocol could not take it yet */
    struct strbuf out;        /* answers on their way to the socket */
    struct conn_write *write; /* in flight; NULL: none */
    struct frame *queued;     /* the one frame to be written next: of stream_queue(), or a body */
    size_t write_left;        /* of the write in flight, when the deadline was armed */
    struct task flush;        /* writes `out` at the end of the turn */
    struct deadline deadline;
    uint32_t queued_offset;
    enum conn_wait wait : 4;
    enum close_reason close_why : 8; /* with close_when_written */
    enum close_reason broke_why : 8; /* with broke */
    bool reading : 1;
    bool ended : 1; /* reading has ended, and conn_on_flush() has not dealt with that yet */
    bool broke : 1; /* not by EOF */
    bool eof : 1;   /* the peer sends no more */
    bool closing : 1;
    bool close_when_written : 1;
    bool lingering : 1;
    bool counted : 1;  /* in server->addresses */
    bool trusted : 1;  /* the peer is one of trusted_proxies */
    bool loopback : 1; /* it came to a loopback address: pages of other sites could lead it there */
    bool redirects : 1;   /* its listener sends clients to https */
    bool proxied : 1;     /* a proxy will say who the peer is */
    bool nameless : 1;    /* it named nobody: what fields say of that may be the client's words */
    bool layer_waits : 1; /* the layer has bytes of its own to be sent */
};

struct conn_layer_ops {
    /* conn_write_now(), by way of conn_send() and conn_write_start(). */
    ssize_t (*write)(struct conn *c, const uv_buf_t *bufs, unsigned count);
    /* What came from the socket; *plain is borrowed until the next call, for any connection. 0, UV_EOF: the
     * peer sends no more (*plain may hold its last bytes), or a negative UV_E*. */
    int (*decrypt)(struct conn *c, const char *data, size_t len, struct slice *plain);
    /* Says that nothing comes any more, if the socket has room for it. */
    void (*end)(struct conn *c);
    const struct tls_facts *(*facts)(const struct conn *c); /* the layer's */
    void (*free)(struct conn *c);
};

/* What is spoken. `c` is the first member of the protocol's own struct of `size` bytes. No function
 * but closed() is called once the connection is closing. */
struct conn_protocol {
    const char *name; /* in logs */
    size_t size;
    /* Its own members are zero. */
    void (*init)(struct conn *c);
    /* Takes what it may of bytes that came; returns how many. The others stay in c->backlog. */
    size_t (*take)(struct conn *c, const char *data, size_t len);
    /* The peer sends no more (c->eof). */
    void (*eof)(struct conn *c);
    /* Something will be written to the socket: appends what waits for that to c->out. NULL: nothing
     * does. */
    void (*gather)(struct conn *c);
    /* No write is in flight any more: more can be written. */
    void (*writable)(struct conn *c);
    /* Goes on after anything changed, with c->backlog as well. */
    void (*progress)(struct conn *c);
    /* Does it have a use for further bytes, or want to hear of their end? */
    bool (*wants_bytes)(const struct conn *c);
    /* Nothing is under way, so the connection may end when it drains or the peer sends no more. */
    bool (*idle)(const struct conn *c);
    /* What it waits for while no write is in flight: up to CONN_WAIT_IDLE. */
    enum conn_wait (*waits_for)(const struct conn *c);
    /* What it waited for did not come in time. NULL: then it just ends. */
    void (*timed_out)(struct conn *c, enum close_reason why);
    /* Sends a refusal of the whole connection, then ends it. */
    void (*refuse)(struct conn *c, int status, const char *text);
    /* The connection has ended: gives back everything, tells those who own streams. */
    void (*closed)(struct conn *c, enum close_reason why);
};

/* Made by the listener: an initialised, not yet accepted handle, which speaks server->protocol.
 * NULL: no memory. */
struct conn *conn_new(struct http_server *server, bool is_unix);
/* The handle was accepted: starts reading. */
void conn_start(struct conn *c);
/* Another protocol takes over, before the present one has anything under way. Its struct must not be
 * larger than the one of server->protocol. */
void conn_set_protocol(struct conn *c, const struct conn_protocol *p);
/* A proxy has said who the peer is; NULL: nobody. False: there are too many of that address, and it is being
 * refused. */
bool conn_admit(struct conn *c, const struct peer_address *peer);
/* Ends the connection now; idempotent. Streams still open hear `closed`. */
void conn_close(struct conn *c, enum close_reason why);
/* Ends it once what waits for the socket has left. */
void conn_close_when_written(struct conn *c, enum close_reason why);
/* Goes on after anything changed: the protocol first, then ends, reads, arms the right deadline. */
void conn_progress(struct conn *c);
/* What its deadline was for has come to pass: conn_progress() starts the next one from now. */
void conn_wait_over(struct conn *c);
/* Counts a refusal for limits.max_connections_per_address, and logs one in ten seconds. */
void conn_note_too_many(const struct conn *c, const struct peer_address *client);
/* Writes `out` and then `bufs` with one system call. Returns the bytes of `bufs` taken, or a
 * negative UV_E*. What is left of `out` stays and is written as soon as the peer takes it. */
ssize_t conn_write_now(struct conn *c, const uv_buf_t *bufs, unsigned count);

/* For what lies between the connection and its socket. */

/* Sends at once what the kernel takes. Returns how much that was, or UV_EAGAIN, or another UV_E*. */
ssize_t conn_send(const struct conn *c, const uv_buf_t *bufs, unsigned count);
/* Hands bytes to libuv, as the write in flight: there must be none. Takes `bytes` or a reference of `frame`,
 * whichever is given; from `from` to `to`. */
void conn_write_start(struct conn *c, char *bytes, struct frame *frame, size_t from, size_t to);
/* Bytes came from the socket. */
void conn_received(struct conn *c, const char *data, size_t len);

#endif
