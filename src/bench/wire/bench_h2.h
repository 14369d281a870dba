/* The client's side of HTTP/2 on one connection, upon nghttp2: requests without a body, and the bytes of their
 * answers. Windows are as large as they can be, so that the server alone decides how fast it sends. */
#ifndef BENCH_WIRE_BENCH_H2_H
#define BENCH_WIRE_BENCH_H2_H

#include "base/strbuf.h"
#include "bench/wire/bench_conn.h"

struct bench_h2;

/* One request and its answer. All zero at first. */
struct bench_h2_stream {
    int32_t id; /* 0: nothing was asked, or it is over */
    int status; /* of the answer; 0: not known yet */
    bool gzip;  /* it is compressed */
};

struct bench_h2_ops {
    /* Requests may be made. */
    void (*opened)(struct bench_h2 *h);
    /* Bytes came from the socket. */
    void (*reads)(struct bench_h2 *h, size_t bytes);
    void (*head)(struct bench_h2_stream *s);
    /* Borrowed for the call. */
    void (*body)(struct bench_h2_stream *s, struct slice bytes);
    /* The answer is complete, or was reset: says why. */
    void (*over)(struct bench_h2_stream *s, const char *why);
    /* As of bench_conn_ops. Its streams are over without being told. */
    void (*ended)(struct bench_h2 *h, int rc);
};

/* All zero at first. */
struct bench_h2 {
    struct bench_conn conn;
    const struct bench_h2_ops *ops;
    struct nghttp2_session *session; /* owned; NULL: not begun */
    struct strbuf out;               /* what the kernel has not taken */
};

/* One of `opened` and `ended` will be called; `ended` perhaps before this returns. Of an idle connection. */
void bench_h2_open(struct bench_h2 *h, struct bench_net *n, const struct bench_h2_ops *ops);
/* Asks for `path`. `fields`: "Name: value\r\n" each; Host among them is the authority. 0, UV_ENOBUFS: more fields
 * than fit, or another negative UV_E*. bench_h2_flush() sends it. */
int bench_h2_get(struct bench_h2 *h, struct bench_h2_stream *s, struct slice path,
                 struct slice fields);
/* Nothing more of it is wanted. */
void bench_h2_reset(struct bench_h2 *h, struct bench_h2_stream *s);
/* Sends what waits; again later when the kernel does not take it. */
void bench_h2_flush(struct bench_h2 *h);
void bench_h2_close(struct bench_h2 *h);
/* Of an idle one. */
void bench_h2_clear(struct bench_h2 *h);

#endif
