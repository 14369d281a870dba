/* Event streams as one gzip member each (RFC 1952), compressed once for all members of an audience.
 *
 * A body is a head, deflate blocks that end at byte boundaries, and a foot with checksum and length.
 * Blocks of three kinds follow each other:
 *   shared    by the audience's encoder, which refers back to everything since it was last emptied (an
 *             epoch): for bodies that have every byte since then, and nothing in between;
 *   alone     of a batch, which refers to nothing before it: for all others of the audience;
 *   stored    not compressed: for what concerns one stream only.
 *
 * An epoch ends after so many bytes or so much silence; with the next one all that are live join. A
 * body adds up its checksum when it leaves an epoch, not with every batch. */
#ifndef AUDIENCE_GZIP_H
#define AUDIENCE_GZIP_H

#include "audience/metrics.h"
#include "base/container/list.h"
#include "base/strbuf.h"
#include "net/frame.h"
#include "net/http/stream.h"
#include "net/message/http_chunk.h"

#include <zlib.h>

enum {
    GZIP_EPOCH_BYTES = 64 * 1024,
    GZIP_EPOCH_SILENCE_MS = 5000,
    GZIP_BEHIND_BYTES = 64 * 1024, /* compressed for those behind, per turn */
    GZIP_ENCODER_BYTES = 272 * 1024,
    GZIP_FRAME_HEAD = HTTP_CHUNK_HEAD_MAX, /* in frames for bodies: room for the head of a chunk */
};

/* What is kept of the body of one stream. Starts as all zero, with `begun` for the caller to set. */
struct gzip_body {
    uint32_t epoch; /* it is part of; 0: none */
    uint32_t crc;   /* of everything before that */
    uint32_t bytes;
};

/* Of one audience. */
struct gzip_encoder {
    struct gzip_pool *pool;
    z_stream z;
    uint32_t epoch;      /* never used again for another one */
    uint32_t crc, bytes; /* of its plain bytes */
    uint32_t old_epoch;  /* the one before */
    uint32_t old_crc, old_bytes;
    uint64_t used_ms;
};

/* What all audiences share. */
struct gzip_pool {
    struct audience_metrics *metrics; /* borrowed */
    z_stream alone;                   /* for blocks of that kind */
    struct strbuf out;                /* scratch */
    uint32_t last_epoch;
    size_t most_bytes; /* of all encoders */
    size_t behind_left;
    uint64_t sought_ms; /* when somebody last looked for an encoder to take over */
};

/* The forms of one batch of plain bytes, made when somebody needs them. All zero: none. */
struct gzip_batch {
    struct frame *shared, *alone, *stored; /* references */
    uint32_t epoch;                        /* of `shared` */
    bool opens;                            /* `shared` is the first of its epoch */
    bool summed;
    uint32_t crc, crc_op; /* checksum of the plain bytes; what adds it to that of a body */
};

/* How far a body may share. */
enum gzip_use {
    GZIP_LIVE,   /* it gets what all live members get */
    GZIP_BEHIND, /* batches of its own, compressed while there is time for it */
    GZIP_STORED, /* nothing of it is to be compressed */
};

/* `most_bytes`: of memory, for encoders. Never NULL. */
struct gzip_pool *gzip_pool_new(size_t most_bytes, struct audience_metrics *metrics);
void gzip_pool_free(struct gzip_pool *p);
/* Another turn: those behind have time again. */
void gzip_pool_turn(struct gzip_pool *p);

/* NULL: no memory, or more than the pool may have. */
struct gzip_encoder *gzip_encoder_new(struct gzip_pool *p);
void gzip_encoder_free(struct gzip_encoder *e); /* NULL is fine */
/* Nobody would lose by it: its epoch is over by silence. Its bodies have to leave before it goes. */
bool gzip_encoder_is_idle(const struct gzip_encoder *e, uint64_t now_ms);

/* The batch's bytes for that body, which counts them as sent: a frame whose bytes begin at
 * GZIP_FRAME_HEAD; borrowed until gzip_batch_clear(). NULL: no memory; the body is of no use then.
 * `e` is the encoder of the body's audience, or NULL. */
struct frame *gzip_batch_for(struct gzip_pool *p, struct gzip_batch *batch, struct gzip_encoder *e,
                             struct gzip_body *body, const struct stream_bytes *plain,
                             enum gzip_use use, uint64_t now_ms);
void gzip_batch_clear(struct gzip_batch *batch);

/* The frame of gzip_batch_for() as what stream_write() takes; `buf` is the caller's. */
struct stream_bytes gzip_frame_bytes(struct frame *f, uv_buf_t *buf);

/* It will not be sent the audience's next batch, or something else before. */
void gzip_body_leave(struct gzip_body *body, const struct gzip_encoder *e);
/* Other bytes for that body, as a new reference; NULL: no memory. `begins`: with its head. `ends`: with
 * its foot. It has left its epoch. */
struct frame *gzip_body_stored(struct gzip_body *body, struct slice plain, bool begins, bool ends);

#endif
