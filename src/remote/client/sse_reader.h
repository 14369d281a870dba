/* Reads text/event-stream as the standard says (HTML, 9.2.6): lines that end with CR, LF or CRLF, a byte
 * order mark at the start, all of it in pieces of any size. Pure.
 *
 * An event without data is none, but its id counts. The last event may be cut off by the end of the
 * stream: it is not reported. */
#ifndef REMOTE_CLIENT_SSE_READER_H
#define REMOTE_CLIENT_SSE_READER_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

/* Borrowed for the call. Members are never absent. */
struct sse_event {
    struct slice id; /* the last one of the stream, this event's or an earlier one's; empty: none */
    struct slice type; /* "message" where the stream names none */
    struct slice data;
};

struct sse_reader_ops {
    void (*event)(void *ctx, const struct sse_event *ev);
    void (*retry)(void *ctx, uint64_t ms);
    void (*comment)(void *ctx, struct slice text); /* without the colon */
};

struct sse_reader {
    const struct sse_reader_ops *ops;
    void *ctx;
    struct strbuf line;        /* as far as it has come */
    struct strbuf data, type;  /* of the event that is being read */
    struct strbuf id, last_id; /* of that event, and of the last that was complete */
    bool has_data, after_cr, begun;
};

/* `max_bytes`: of a line, and of the data of an event. `ops` is borrowed until sse_reader_clear(). */
void sse_reader_init(struct sse_reader *r, const struct sse_reader_ops *ops, void *ctx,
                     size_t max_bytes);
void sse_reader_clear(struct sse_reader *r);
/* For another stream: forgets what was cut off, keeps the last id. */
void sse_reader_restart(struct sse_reader *r);
/* 0; UV_ENOBUFS: more than `max_bytes`; UV_ENOMEM. Nothing more can be read of the stream then. */
int sse_reader_feed(struct sse_reader *r, struct slice bytes);
/* Empty: no event has had one. Valid until the next call. */
struct slice sse_reader_last_id(const struct sse_reader *r);
/* As if an event with that id had come. 0, UV_ENOBUFS, UV_ENOMEM. */
int sse_reader_set_last_id(struct sse_reader *r, struct slice id);

#endif
