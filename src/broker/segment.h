/* A run of an audience's events as bytes for a socket: what is handed to the kernel in one call,
 * and where each event ends, so that a short write says which events have left.
 *
 * One per broker, reused: small frames lie side by side in one buffer, large ones are shared frames
 * referred to by iovec. Members of an audience that stand at the same place share the segment. */
#ifndef BROKER_SEGMENT_H
#define BROKER_SEGMENT_H

#include "base/strbuf.h"
#include "broker/render.h"
#include "event/event.h"

#include <uv.h>

enum {
    SEGMENT_MAX_FRAMES = 4096,
    SEGMENT_MAX_BUFS = 512,
    SEGMENT_LARGE_BYTES = 8192, /* frames from this size on are not copied but shared */
};

struct segment_end {
    uint64_t id;         /* of the event */
    unsigned passed;     /* events considered up to and with it */
    size_t end;          /* offset behind its bytes in the segment */
    struct frame *large; /* a reference, or NULL: the bytes are in `small` */
    size_t small_from;   /* where they begin there */
};

struct segment {
    struct renderer *renderer;            /* borrowed */
    size_t turn_bytes;                    /* it is full with so many */
    uint64_t audience;                    /* id; 0: empty */
    const struct policy_binding *binding; /* of the audience; borrowed while events are added */
    uint64_t from, upto;                  /* everything in (from, upto] has been considered */
    struct strbuf small;
    struct segment_end ends[SEGMENT_MAX_FRAMES];
    unsigned count, large_count;
    unsigned passed; /* events considered */
    uint64_t told;   /* the last id in its bytes; 0: none */
    size_t bytes;
    bool failed; /* no memory for a frame: whom it was for must come again, or would miss it */
    uv_buf_t bufs[SEGMENT_MAX_BUFS];
    unsigned buf_count; /* 0 until segment_seal() */
    /* events whose raw_frame was made for this segment: dropped with it */
    struct event_list framed;
};

/* Borrows the renderer. */
struct segment *segment_new(struct renderer *renderer, size_t turn_bytes);
void segment_free(struct segment *g);
/* Empties it. */
void segment_reset(struct segment *g);
void segment_begin(struct segment *g, uint64_t audience, const struct policy_binding *binding,
                   uint64_t from);
/* Asks the audience's filter, unless the event has passed it (`judged`), and format, and appends
 * what they decide. Considered either way: `upto` becomes its id. */
void segment_add(struct segment *g, struct event *ev, bool judged);
/* The event of that id is not for the audience. */
void segment_pass(struct segment *g, uint64_t id);
/* No more events fit this turn, or it has failed. */
bool segment_full(const struct segment *g);
/* Fills bufs. */
void segment_seal(struct segment *g);
/* The frame that holds byte `offset` (< bytes) as a new reference, NULL when memory is short; its
 * place in ends[], and the offset within it. */
struct frame *segment_frame_at(const struct segment *g, size_t offset, size_t *frame_offset,
                               unsigned *index);

#endif
