/* CONTRACT between the broker and whatever carries bytes: one HTTP exchange.
 *
 * A stream is born when the head of a request is complete, and is handed to the http_handlers: with
 * its head, where its body is still to come, and when it is complete. It ends in exactly one of two
 * ways: answered by stream_respond(), or opened as an event stream by stream_open(),
 * written to, and closed. HTTP/1.1 (exchange.c) and HTTP/2 (h2_stream.c) implement it.
 *
 * Lifetime: the implementation owns the stream. Others keep its `id` and look it up with
 * http_server_stream(); only the owner set by stream_set_owner() may keep the pointer, until
 * `closed` was called or it called stream_close() / stream_respond() itself. No callback runs
 * inside a call the owner makes. */
#ifndef NET_HTTP_STREAM_H
#define NET_HTTP_STREAM_H

#include "net/close_reason.h"
#include "net/frame.h"
#include "net/message/http_response.h"
#include "net/message/request_id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct stream;

struct stream_events {
    /* The bytes given to stream_queue() have left; stream_write() may be called again. */
    void (*writable)(struct stream *s);
    /* The client sends no more: it has left, or only closed its half of the connection. NULL: the
     * difference does not matter. May close this stream. */
    void (*half_closed)(struct stream *s);
    /* The stream is gone, for a reason that did not come from the owner. Last call. */
    void (*closed)(struct stream *s, enum close_reason why);
};

enum { STREAM_MAX_BUFS = 512 };

/* What stream_write() takes. Borrowed for the call. */
struct stream_bytes {
    const uv_buf_t *bufs;
    unsigned count; /* at most STREAM_MAX_BUFS */
    /* Not 0: there is one buffer; so many bytes before it hold the size of an HTTP/1.1 chunk that is
     * exactly its bytes, CRLF included, and CRLF follows it. */
    unsigned chunk_head;
    size_t total; /* of all bufs */
};

struct stream_ops {
    const char *protocol; /* for people: "HTTP/1.1", "HTTP/2" */
    int (*set_fields)(struct stream *s, struct slice fields);
    void (*request_id)(const struct stream *s, struct request_id *out);
    int (*respond)(struct stream *s, const struct http_response *r);
    int (*open)(struct stream *s, const struct http_response *head);
    ssize_t (*write)(struct stream *s, const struct stream_bytes *bytes);
    int (*queue)(struct stream *s, struct frame *f, size_t offset);
    void (*close)(struct stream *s, enum close_reason why);
    struct stream *(*next)(const struct stream *s, bool forward);
    void (*prefetch)(const struct stream *s);
    void (*take_body)(struct stream *s);
};

struct stream {
    const struct stream_ops *ops;
    const struct stream_events *events; /* NULL until stream_set_owner() */
    void *owner;
    uint64_t id; /* never reused */
};

static inline void stream_set_owner(struct stream *s, const struct stream_events *ev, void *owner)
{
    s->events = ev;
    s->owner = owner;
}

/* Fields ("Name: value\r\n" each) that its answer has besides, whatever it will be. Copied; the last
 * call counts. 0, or a negative UV_E*: it has none. Those of a request that has got its id from a
 * proxy begin with X-Request-Id (http_dispatch.c). */
__attribute__((warn_unused_result)) static inline int stream_set_fields(struct stream *s,
                                                                        struct slice fields)
{
    return s->ops->set_fields(s, fields);
}

/* What its answer has as X-Request-Id. Of a stream that is open, the broker's own. */
static inline void stream_request_id(const struct stream *s, struct request_id *out)
{
    s->ops->request_id(s, out);
}

/* Of a stream whose head the handler got: its body may come. Until then nothing more of it is read. Once. */
static inline void stream_take_body(struct stream *s)
{
    s->ops->take_body(s);
}

/* Answers completely; the stream is gone afterwards, also on error (negative UV_E*). */
static inline int stream_respond(struct stream *s, const struct http_response *r)
{
    return s->ops->respond(s, r);
}

/* Sends the head (r->body is ignored) and turns the exchange into an event stream.
 * Negative UV_E*: the caller must stream_close(). */
static inline int stream_open(struct stream *s, const struct http_response *head)
{
    return s->ops->open(s, head);
}

/* Hands bytes to the kernel in one system call, or, where several streams share a connection, leaves
 * them to the one at the end of the turn. Returns how many it took (0 when it takes none:
 * then stream_queue() something to be told when it does), or a negative UV_E*: the caller must
 * stream_close(). Not to be called while a queued frame is pending. */
static inline ssize_t stream_write(struct stream *s, const struct stream_bytes *bytes)
{
    return s->ops->write(s, bytes);
}

/* One frame as what it takes; `buf` is the caller's. */
static inline struct stream_bytes stream_frame_bytes(struct frame *f, uv_buf_t *buf)
{
    *buf = uv_buf_init(f->bytes, f->len);
    return (struct stream_bytes){.bufs = buf, .count = 1, .total = f->len};
}
static inline ssize_t stream_write_frame(struct stream *s, struct frame *f)
{
    uv_buf_t buf;
    struct stream_bytes bytes = stream_frame_bytes(f, &buf);
    return stream_write(s, &bytes);
}

/* It is about to be written to: fetches what that takes into the caches. */
static inline void stream_prefetch(const struct stream *s)
{
    s->ops->prefetch(s);
}

/* Leaves the rest of one frame, from `offset`, to be written when the peer takes it; `writable`
 * follows. At most one at a time: this is all the queue a connection has. Takes a reference of its
 * own. Fails only with negative UV_E*: the caller must stream_close(). */
static inline int stream_queue(struct stream *s, struct frame *f, size_t offset)
{
    return s->ops->queue(s, f, offset);
}

/* The nearest stream of the same connection that was asked for later (or earlier) and has an owner;
 * NULL: none, or the order means nothing to this client. Borrowed until the loop goes on. */
static inline struct stream *stream_later(const struct stream *s)
{
    return s->ops->next(s, true);
}
static inline struct stream *stream_earlier(const struct stream *s)
{
    return s->ops->next(s, false);
}

/* Ends an event stream (or an unanswered exchange). What was written before still arrives; what is
 * queued for a peer that takes nothing is waited for only when draining. The client can tell an end
 * that is wanted from a failure, where the protocol allows it. The stream is gone for the caller. */
static inline void stream_close(struct stream *s, enum close_reason why)
{
    s->ops->close(s, why);
}

#endif
