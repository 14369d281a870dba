/* A run of an audience's events as bytes for a socket: what is handed to the kernel in one call,
 * and where each event ends, so that a short write says which events have left.
 *
 * One per broker, reused: small frames lie side by side in one buffer, large ones are shared frames
 * referred to by iovec. Members of an audience that stand at the same place share the write batch.
 * What HTTP/1.1 puts around a chunk lies there, too, so that the common case is one buffer. */
#ifndef AUDIENCE_WRITE_BATCH_H
#define AUDIENCE_WRITE_BATCH_H

#include "audience/gzip.h"
#include "audience/render.h"
#include "base/strbuf.h"
#include "event/event.h"
#include "net/http/stream.h"

#include <uv.h>

enum {
    WRITE_BATCH_MAX_FRAMES = 4096,
    WRITE_BATCH_LARGE_BYTES = 8192, /* frames from this size on are not copied but shared */
};

struct write_batch_end {
    uint64_t id;         /* of the event */
    uint64_t told;       /* the last id in the bytes up to its end; 0: none */
    unsigned passed;     /* events considered up to and with it */
    uint32_t since_us;   /* of the event */
    size_t end;          /* offset behind its bytes in the write batch */
    struct frame *large; /* a reference, or NULL: the bytes are in `small` */
    size_t small_from;   /* where they begin there */
};

struct write_batch {
    struct renderer *renderer;            /* borrowed */
    size_t turn_bytes;                    /* it is full with so many */
    uint64_t audience;                    /* id; 0: empty */
    const struct policy_binding *binding; /* of the audience; borrowed while events are added */
    uint64_t from, upto;                  /* everything in (from, upto] has been considered */
    uint64_t snapshot;   /* of these the newest of each topic, as of that id; 0: of the log */
    struct strbuf small; /* behind room for the head of a chunk */
    struct write_batch_end ends[WRITE_BATCH_MAX_FRAMES];
    unsigned count, large_count;
    unsigned passed; /* events considered */
    uint64_t told;   /* the last id in its bytes; 0: none */
    size_t bytes;
    bool last;            /* its last event is the last of the streams that are given it */
    uint64_t expired_end; /* id of an expired event behind it that is, and is not in it; 0: none */
    bool failed; /* no memory for a frame: whom it was for must come again, or would miss it */
    uv_buf_t bufs[STREAM_MAX_BUFS];
    struct stream_bytes sealed; /* they; empty until write_batch_seal() */
    struct gzip_batch gzip;     /* the same, compressed */
    /* events whose raw_frame was made for this write batch: dropped with it */
    struct event_list framed;
};

/* Borrows the renderer. */
struct write_batch *write_batch_new(struct renderer *renderer, size_t turn_bytes);
void write_batch_free(struct write_batch *g);
/* Empties it. */
void write_batch_reset(struct write_batch *g);
void write_batch_begin(struct write_batch *g, uint64_t audience,
                       const struct policy_binding *binding, uint64_t from);
/* Asks the audience's filter, unless the event has passed it (`judged`), and format, and appends
 * what they decide. Considered either way: `upto` becomes its id. */
void write_batch_add(struct write_batch *g, struct event *ev, bool judged);
/* The event of that id is not for the audience. */
void write_batch_pass(struct write_batch *g, uint64_t id);
/* No more events fit this turn, none is to follow, or it has failed. */
bool write_batch_full(const struct write_batch *g);
/* Fills `sealed`. */
void write_batch_seal(struct write_batch *g);
/* The frame that holds byte `offset` (< bytes) as a new reference, NULL when memory is short; its
 * place in ends[], and the offset within it. */
struct frame *write_batch_frame_at(const struct write_batch *g, size_t offset, size_t *frame_offset,
                                   unsigned *index);

#endif
