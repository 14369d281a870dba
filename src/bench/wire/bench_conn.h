/* Client connections: many, cheap, on one libuv loop; plain or with TLS. */
#ifndef BENCH_WIRE_BENCH_CONN_H
#define BENCH_WIRE_BENCH_CONN_H

#include "base/slice.h"
#include "bench/wire/bench_tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <uv.h>

enum { BENCH_CONNS_PER_ADDRESS = 20000 }; /* below the 28,232 ports the kernel picks from */

struct bench_conn;

struct bench_conn_ops {
    void (*opened)(struct bench_conn *c);
    /* The bytes are borrowed for the call. May close the connection. */
    void (*data)(struct bench_conn *c, struct slice bytes);
    /* It could not be opened, or the other side ended it (UV_EOF, UV_ECONNRESET ...). It is being
     * closed. Not called after bench_conn_close(). */
    void (*ended)(struct bench_conn *c, int rc);
    /* The handle is gone: it may be opened again, or freed. May be NULL. */
    void (*closed)(struct bench_conn *c);
};

/* Where to, and what all connections share. */
struct bench_net {
    uv_loop_t *loop;
    struct sockaddr_storage to;
    /* Addresses 127.0.0.2, .3 ... to connect from in turn; 0: the kernel chooses. */
    unsigned sources;
    unsigned next_source;
    char *buffer;                  /* owned; lent to one read at a time */
    char *plain;                   /* owned; what TLS makes of it */
    struct bench_tls_context *tls; /* owned; NULL: connections are plain */
};

enum bench_conn_state { BENCH_CONN_IDLE, BENCH_CONN_OPENING, BENCH_CONN_OPEN, BENCH_CONN_CLOSING };

/* All zero at first. */
struct bench_conn {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct bench_net *net;
    const struct bench_conn_ops *ops;
    enum bench_conn_state state; /* OPENING until the handshake is done */
    struct bench_tls tls;
    bool h2;      /* set before it is opened: it is to speak HTTP/2 (bench_h2.h) */
    bool writing; /* libuv has bytes that the kernel did not take at once */
};

void bench_net_init(struct bench_net *n, uv_loop_t *loop, const struct sockaddr_storage *to,
                    unsigned sources);
/* From now on connections use TLS; `resume`: see bench_tls.h. 0, or UV_ENOMEM. */
int bench_net_use_tls(struct bench_net *n, bool resume);
void bench_net_clear(struct bench_net *n);

/* One of `opened` and `ended` will be called; `ended` perhaps before this returns. */
void bench_conn_open(struct bench_conn *c, struct bench_net *n, const struct bench_conn_ops *ops);
/* Writes what the kernel takes at once; the caller tries again later with the rest. Returns how
 * much it was, 0 too; or a negative UV_E*. */
int bench_conn_write(struct bench_conn *c, struct slice bytes);
/* Reads nothing, or goes on reading; for open ones. */
void bench_conn_pause(struct bench_conn *c, bool on);
/* No effect unless it is opening or open. */
void bench_conn_close(struct bench_conn *c);
/* Of an idle one: what it kept for the next time. */
void bench_conn_clear(struct bench_conn *c);

#endif
