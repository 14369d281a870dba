#include "audience/write_batch.h"

#include "base/alloc.h"
#include "base/require.h"
#include "net/message/http_chunk.h"

#include <stdlib.h>

/* Large frames cost an iovec each; two more per frame for what lies between. */
enum { SEGMENT_MAX_LARGE = STREAM_MAX_BUFS / 2 - 1 };

struct write_batch *write_batch_new(struct renderer *renderer, size_t turn_bytes)
{
    struct write_batch *g = xcalloc(1, sizeof *g);
    g->renderer = renderer;
    g->turn_bytes = turn_bytes;
    /* the frame that fills it may be all line ends, each of which costs "data:" */
    strbuf_init(&g->small,
                HTTP_CHUNK_HEAD_MAX + turn_bytes + 8 * WRITE_BATCH_LARGE_BYTES + sizeof "\r\n");
    return g;
}

static void segment_empty(struct write_batch *g)
{
    for (unsigned i = 0; i < g->count; i++) {
        frame_unref(g->ends[i].large);
    }
    g->count = g->large_count = g->passed = 0;
    g->sealed = (struct stream_bytes){.bufs = g->bufs};
    gzip_batch_clear(&g->gzip);
    g->bytes = 0;
    g->told = g->expired_end = 0;
    g->failed = g->last = false;
    strbuf_reset(&g->small);
}

void write_batch_reset(struct write_batch *g)
{
    segment_empty(g);
    for (size_t i = 0; i < g->framed.n; i++) {
        frame_unref(g->framed.v[i]->raw_frame);
        g->framed.v[i]->raw_frame = NULL;
    }
    event_list_clear(&g->framed);
    g->audience = 0;
}

void write_batch_free(struct write_batch *g)
{
    write_batch_reset(g);
    strbuf_clear(&g->small);
    free(g);
}

void write_batch_begin(struct write_batch *g, uint64_t audience,
                       const struct policy_binding *binding, uint64_t from)
{
    static const char room[HTTP_CHUNK_HEAD_MAX] = {0};
    segment_empty(g);
    g->failed = strbuf_append(&g->small, room, HTTP_CHUNK_HEAD_MAX) != 0;
    g->audience = audience;
    g->binding = binding;
    g->from = g->upto = from;
    g->snapshot = 0;
}

bool write_batch_full(const struct write_batch *g)
{
    return g->failed || g->last || g->bytes >= g->turn_bytes ||
           g->count == WRITE_BATCH_MAX_FRAMES || g->large_count == SEGMENT_MAX_LARGE;
}

/* Large frames in the built-in format are the same for every audience: made once per turn. */
static struct frame *segment_large_frame(struct write_batch *g, struct event *ev,
                                         const struct rendering *what)
{
    if (what->known) {
        return frame_ref(what->known);
    }
    if (!what->plain || what->fields.mark.n) {
        return sse_frame(&what->fields);
    }
    if (!ev->raw_frame) {
        ev->raw_frame = sse_frame(&what->fields);
        if (!ev->raw_frame) {
            return NULL;
        }
        event_list_push(&g->framed, event_ref(ev));
    }
    return frame_ref(ev->raw_frame);
}

/* Only memory is in the way of a frame: the types of events are checked, the buffer is large enough
 * for what fits a turn. */
static bool segment_append(struct write_batch *g, struct event *ev, const struct rendering *what)
{
    size_t n = what->known ? what->known->len : what->fields.data.n;
    struct write_batch_end *end = &g->ends[g->count];
    *end = (struct write_batch_end){
        .id = ev->id, .passed = g->passed, .since_us = ev->since_us, .small_from = g->small.len};
    if (n >= WRITE_BATCH_LARGE_BYTES) {
        end->large = segment_large_frame(g, ev, what);
        g->failed = end->large == NULL;
        g->large_count += end->large != NULL;
    } else {
        int rc = what->known ? strbuf_append(&g->small, what->known->bytes, what->known->len)
                             : sse_frame_append(&what->fields, &g->small);
        g->failed = rc != 0;
    }
    if (g->failed) {
        return false;
    }
    g->bytes += end->large ? end->large->len : g->small.len - end->small_from;
    end->end = g->bytes;
    g->count++;
    g->told = what->fields.id ? what->fields.id : g->told; /* a comment has none */
    end->told = g->told;
    g->renderer->metrics->frames++;
    return true;
}

void write_batch_pass(struct write_batch *g, uint64_t id)
{
    g->upto = id;
    g->passed++;
}

void write_batch_add(struct write_batch *g, struct event *ev, bool judged)
{
    struct rendering what;
    const struct render_order order = {
        .mode = RENDER_DELIVERY, .binding = g->binding, .event = ev, .judged = judged};
    write_batch_pass(g, ev->id);
    switch (render(g->renderer, &order, &what)) {
    case RENDER_EVENT:
        if (!segment_append(g, ev, &what)) {
            break;
        }
        g->last = what.ends;
        if (what.key) {
            const struct write_batch_end *end = &g->ends[g->count - 1];
            render_remember(
                g->renderer, &what, ev, end->large,
                slice_of(g->small.data + end->small_from, g->small.len - end->small_from));
        }
        break;
    case RENDER_FAILED:
        (void)segment_append(g, ev, &what); /* it has failed, then */
        break;
    case RENDER_NO_MEMORY:
        g->failed = true;
        break;
    case RENDER_EXPIRED:
        g->renderer->metrics->expired++;
        if (what.ends && !g->snapshot) { /* those have none that has expired */
            g->last = true;
            g->expired_end = ev->id;
        }
        break;
    case RENDER_FILTERED:
    case RENDER_LEFT_OUT:
        break;
    }
}

void write_batch_seal(struct write_batch *g)
{
    size_t small_done = HTTP_CHUNK_HEAD_MAX;
    size_t small_end = g->small.len;
    unsigned n = 0;
    bool alone = g->large_count == 0 && g->bytes && strbuf_append(&g->small, "\r\n", 2) == 0;
    for (unsigned i = 0; i < g->count; i++) {
        const struct write_batch_end *end = &g->ends[i];
        if (!end->large) {
            continue;
        }
        if (end->small_from > small_done) {
            g->bufs[n++] =
                uv_buf_init(g->small.data + small_done, (unsigned)(end->small_from - small_done));
            small_done = end->small_from;
        }
        g->bufs[n++] = uv_buf_init(end->large->bytes, end->large->len);
    }
    if (small_end > small_done) {
        g->bufs[n++] = uv_buf_init(g->small.data + small_done, (unsigned)(small_end - small_done));
    }
    g->sealed.count = n;
    g->sealed.total = g->bytes;
    g->sealed.chunk_head = alone ? http_chunk_head_before(g->bufs[0].base, (uint32_t)g->bytes) : 0;
}

struct frame *write_batch_frame_at(const struct write_batch *g, size_t offset, size_t *frame_offset,
                                   unsigned *index)
{
    unsigned lo = 0;
    unsigned hi = g->count;
    REQUIRE(offset < g->bytes);
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (g->ends[mid].end <= offset) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    const struct write_batch_end *end = &g->ends[lo];
    size_t begin = lo ? g->ends[lo - 1].end : 0;
    *index = lo;
    *frame_offset = offset - begin;
    if (end->large) {
        return frame_ref(end->large);
    }
    return frame_copy(slice_of(g->small.data + end->small_from, end->end - begin));
}
