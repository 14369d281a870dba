/* See gzip.h. In this order: sums, blocks, encoders, batches, bodies. */
#include "audience/gzip.h"

#include "base/alloc.h"
#include "base/require.h"

#include <stdlib.h>

enum {
    LEVEL = 6,
    RAW = -15, /* deflate without a head, 32 KiB of window */
    MEMORY = 8,
    STORED_MAX = 65535,
    STORED_HEAD = 5,
    HEAD = 10,
    FOOT = 10, /* an empty last block, checksum, length */
    SCRATCH_KEPT_BYTES = 512 * 1024,
    OUT_MAX_BYTES = 256 << 20,
};

/* ---------------------------------------------------------------- sums */

static void gzip_body_add(struct gzip_body *body, uint32_t crc, uint32_t crc_op, uint32_t bytes)
{
    body->crc = (uint32_t)crc32_combine_op(body->crc, crc, crc_op);
    body->bytes += bytes;
}

void gzip_body_leave(struct gzip_body *body, const struct gzip_encoder *e)
{
    if (body->epoch == 0) {
        return;
    }
    REQUIRE(e && (body->epoch == e->epoch || body->epoch == e->old_epoch));
    bool now = body->epoch == e->epoch;
    uint32_t bytes = now ? e->bytes : e->old_bytes;
    uint32_t op = (uint32_t)crc32_combine_gen((z_off_t)bytes);
    gzip_body_add(body, now ? e->crc : e->old_crc, op, bytes);
    body->epoch = 0;
}

static void gzip_batch_sum(struct gzip_batch *batch, const struct stream_bytes *plain)
{
    uLong crc = crc32(0, NULL, 0);
    if (batch->summed) {
        return;
    }
    for (unsigned i = 0; i < plain->count; i++) {
        crc = crc32_z(crc, (const Bytef *)plain->bufs[i].base, plain->bufs[i].len);
    }
    batch->crc = (uint32_t)crc;
    batch->crc_op = (uint32_t)crc32_combine_gen((z_off_t)plain->total);
    batch->summed = true;
}

/* ---------------------------------------------------------------- blocks */

static char *gzip_put_le(char *at, uint32_t n, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *at++ = (char)(n >> (8 * i));
    }
    return at;
}

/* A frame for `n` bytes of a body, with room around them for what makes a chunk; NULL: no memory. */
static struct frame *gzip_frame_new(size_t n)
{
    struct frame *f = frame_new(GZIP_FRAME_HEAD + n + sizeof HTTP_CHUNK_END - 1);
    if (f) {
        f->len = (uint32_t)(GZIP_FRAME_HEAD + n);
        memcpy(f->bytes + f->len, HTTP_CHUNK_END, sizeof HTTP_CHUNK_END - 1);
        http_chunk_head_before(f->bytes + GZIP_FRAME_HEAD, (uint32_t)n);
    }
    return f;
}

struct stream_bytes gzip_frame_bytes(struct frame *f, uv_buf_t *buf)
{
    char head[GZIP_FRAME_HEAD];
    uint32_t n = f->len - GZIP_FRAME_HEAD;
    *buf = uv_buf_init(f->bytes + GZIP_FRAME_HEAD, n);
    return (struct stream_bytes){.bufs = buf,
                                 .count = 1,
                                 .total = n,
                                 .chunk_head = http_chunk_head_before(head + sizeof head, n)};
}

static size_t gzip_stored_size(size_t n)
{
    return n + (n + STORED_MAX - 1) / STORED_MAX * STORED_HEAD;
}

/* Stored blocks of bytes that come in pieces. */
struct gzip_storing {
    char *at;
    size_t left;  /* of all bytes */
    size_t block; /* of the block begun */
};

static void gzip_store(struct gzip_storing *s, const char *p, size_t n)
{
    while (n) {
        if (s->block == 0) {
            s->block = s->left < STORED_MAX ? s->left : STORED_MAX;
            *s->at++ = 0;
            s->at = gzip_put_le(s->at, (uint32_t)s->block, 2);
            s->at = gzip_put_le(s->at, ~(uint32_t)s->block, 2);
        }
        size_t part = n < s->block ? n : s->block;
        memcpy(s->at, p, part);
        s->at += part;
        s->block -= part;
        s->left -= part;
        p += part;
        n -= part;
    }
}

static struct frame *gzip_batch_stored(const struct stream_bytes *plain)
{
    struct frame *f = gzip_frame_new(gzip_stored_size(plain->total));
    if (f) {
        struct gzip_storing s = {.at = f->bytes + GZIP_FRAME_HEAD, .left = plain->total};
        for (unsigned i = 0; i < plain->count; i++) {
            gzip_store(&s, plain->bufs[i].base, plain->bufs[i].len);
        }
    }
    return f;
}

/* Everything so far can be read: `flush` of zlib, up to a byte boundary. */
static int gzip_deflate(struct gzip_pool *p, z_stream *z, const uv_buf_t *in, int flush)
{
    z->next_in = (Bytef *)in->base;
    z->avail_in = (uInt)in->len;
    do {
        int rc = strbuf_reserve(&p->out, in->len / 2 + 64);
        if (rc) {
            return rc;
        }
        size_t room = p->out.cap - p->out.len - 1;
        z->next_out = (Bytef *)p->out.data + p->out.len;
        z->avail_out = (uInt)room;
        (void)deflate(z, flush); /* Z_BUF_ERROR: there was nothing left to do */
        p->out.len += room - z->avail_out;
    } while (z->avail_out == 0);
    p->out.data[p->out.len] = '\0';
    return 0;
}

static struct frame *gzip_compress(struct gzip_pool *p, z_stream *z,
                                   const struct stream_bytes *plain)
{
    int rc = 0;
    strbuf_reset(&p->out);
    for (unsigned i = 0; rc == 0 && i < plain->count; i++) {
        rc = gzip_deflate(p, z, &plain->bufs[i], i + 1 == plain->count ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    }
    struct frame *f = rc ? NULL : gzip_frame_new(p->out.len);
    if (f) {
        memcpy(f->bytes + GZIP_FRAME_HEAD, p->out.data, p->out.len);
    }
    if (p->out.cap > SCRATCH_KEPT_BYTES) {
        strbuf_clear(&p->out);
    }
    return f;
}

/* ---------------------------------------------------------------- encoders */

struct gzip_pool *gzip_pool_new(size_t most_bytes, struct audience_metrics *metrics)
{
    struct gzip_pool *p = xcalloc(1, sizeof *p);
    p->metrics = metrics;
    p->most_bytes = most_bytes;
    p->behind_left = GZIP_BEHIND_BYTES;
    strbuf_init(&p->out, OUT_MAX_BYTES);
    int rc = deflateInit2(&p->alone, LEVEL, Z_DEFLATED, RAW, MEMORY, Z_DEFAULT_STRATEGY);
    REQUIRE(rc == Z_OK);
    return p;
}

void gzip_pool_free(struct gzip_pool *p)
{
    if (p) {
        (void)deflateEnd(&p->alone);
        strbuf_clear(&p->out);
        free(p);
    }
}

void gzip_pool_turn(struct gzip_pool *p)
{
    p->behind_left = GZIP_BEHIND_BYTES;
}

struct gzip_encoder *gzip_encoder_new(struct gzip_pool *p)
{
    if ((p->metrics->gzip_encoders + 1) * GZIP_ENCODER_BYTES > p->most_bytes) {
        return NULL;
    }
    struct gzip_encoder *e = xcalloc(1, sizeof *e);
    if (deflateInit2(&e->z, LEVEL, Z_DEFLATED, RAW, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(e);
        return NULL;
    }
    e->pool = p;
    p->metrics->gzip_encoders++;
    return e;
}

void gzip_encoder_free(struct gzip_encoder *e)
{
    if (e) {
        (void)deflateEnd(&e->z); /* Z_DATA_ERROR: it was in the middle of something */
        e->pool->metrics->gzip_encoders--;
        free(e);
    }
}

bool gzip_encoder_is_idle(const struct gzip_encoder *e, uint64_t now_ms)
{
    return now_ms - e->used_ms > GZIP_EPOCH_SILENCE_MS;
}

/* Nobody refers back any more. */
static void gzip_encoder_open_epoch(struct gzip_encoder *e)
{
    e->old_epoch = e->epoch;
    e->old_crc = e->crc;
    e->old_bytes = e->bytes;
    do {
        e->epoch = ++e->pool->last_epoch;
    } while (e->epoch == 0);
    e->crc = e->bytes = 0;
    e->pool->metrics->gzip_epochs++;
    (void)deflateReset(&e->z);
}

/* ---------------------------------------------------------------- batches */

/* In no epoch. */
static struct frame *gzip_batch_alone(struct gzip_pool *p, struct gzip_batch *batch,
                                      const struct stream_bytes *plain, enum gzip_use use)
{
    bool may = use == GZIP_LIVE || (use == GZIP_BEHIND && plain->total <= p->behind_left);
    if (use != GZIP_STORED && (batch->alone || may)) {
        if (!batch->alone) {
            p->behind_left -= use == GZIP_BEHIND ? plain->total : 0;
            (void)deflateReset(&p->alone);
            batch->alone = gzip_compress(p, &p->alone, plain);
        }
        return batch->alone;
    }
    if (!batch->stored) {
        batch->stored = gzip_batch_stored(plain);
    }
    return batch->stored;
}

static void gzip_batch_share(struct gzip_batch *batch, struct gzip_encoder *e,
                             const struct stream_bytes *plain, uint64_t now_ms)
{
    batch->opens = e->epoch == 0 || e->bytes >= GZIP_EPOCH_BYTES || gzip_encoder_is_idle(e, now_ms);
    if (batch->opens) {
        gzip_encoder_open_epoch(e);
    }
    gzip_batch_sum(batch, plain);
    batch->shared = gzip_compress(e->pool, &e->z, plain);
    batch->epoch = e->epoch;
    e->used_ms = now_ms;
    e->crc = (uint32_t)crc32_combine_op(e->crc, batch->crc, batch->crc_op);
    e->bytes += (uint32_t)plain->total;
}

static struct frame *gzip_batch_choose(struct gzip_pool *p, struct gzip_batch *batch,
                                       struct gzip_encoder *e, struct gzip_body *body,
                                       const struct stream_bytes *plain, enum gzip_use use,
                                       uint64_t now_ms)
{
    if (use == GZIP_LIVE && e) {
        if (batch->epoch == 0) {
            gzip_batch_share(batch, e, plain, now_ms);
        }
        if (batch->opens && body->epoch != batch->epoch) {
            gzip_body_leave(body, e);
            body->epoch = batch->epoch;
        }
        if (body->epoch == batch->epoch) {
            return batch->shared;
        }
    }
    REQUIRE(body->epoch == 0);
    gzip_batch_sum(batch, plain);
    gzip_body_add(body, batch->crc, batch->crc_op, (uint32_t)plain->total);
    return gzip_batch_alone(p, batch, plain, use);
}

struct frame *gzip_batch_for(struct gzip_pool *p, struct gzip_batch *batch, struct gzip_encoder *e,
                             struct gzip_body *body, const struct stream_bytes *plain,
                             enum gzip_use use, uint64_t now_ms)
{
    struct frame *f = gzip_batch_choose(p, batch, e, body, plain, use, now_ms);
    if (f) {
        p->metrics->gzip_plain += plain->total;
        p->metrics->gzip_sent += f->len - GZIP_FRAME_HEAD;
    }
    return f;
}

void gzip_batch_clear(struct gzip_batch *batch)
{
    frame_unref(batch->shared);
    frame_unref(batch->alone);
    frame_unref(batch->stored);
    *batch = (struct gzip_batch){0};
}

/* ---------------------------------------------------------------- bodies */

struct frame *gzip_body_stored(struct gzip_body *body, struct slice plain, bool begins, bool ends)
{
    static const char head[HEAD] = {0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
    REQUIRE(body->epoch == 0);
    struct frame *f =
        gzip_frame_new(gzip_stored_size(plain.n) + (begins ? HEAD : 0) + (ends ? FOOT : 0));
    if (!f) {
        return NULL;
    }
    struct gzip_storing s = {.at = f->bytes + GZIP_FRAME_HEAD, .left = plain.n};
    if (begins) {
        memcpy(s.at, head, HEAD);
        s.at += HEAD;
    }
    gzip_store(&s, plain.p, plain.n);
    if (plain.n) { /* zlib takes NULL for "from the start" */
        body->crc = (uint32_t)crc32_z(body->crc, (const Bytef *)plain.p, plain.n);
    }
    body->bytes += (uint32_t)plain.n;
    if (ends) {
        *s.at++ = 3;
        *s.at++ = 0;
        s.at = gzip_put_le(s.at, body->crc, 4);
        gzip_put_le(s.at, body->bytes, 4);
    }
    return f;
}
