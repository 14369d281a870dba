#include "broker/segment.h"

#include "base/xalloc.h"
#include "broker/broker_state.h"
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>

/* Large frames cost an iovec each; two more per frame for what lies between. */
enum { SEGMENT_MAX_LARGE = SEGMENT_MAX_BUFS / 2 - 1 };

void segment_init(struct segment *g, size_t turn_bytes, size_t event_bytes)
{
    g->audience = NULL;
    g->count = g->buf_count = g->large_count = g->passed = 0;
    g->bytes = 0;
    g->failed = false;
    g->framed = (struct event_list){0};
    /* the frame that fills it may be all line ends, each of which costs "data:" */
    strbuf_init(&g->small, turn_bytes + 8 * SEGMENT_LARGE_BYTES);
    /* a format may add to what it was given, but not without end */
    g->format_max = 2 * event_bytes + 4096;
    /* every event must fit: a byte may become \u00XX */
    g->json_max = 6 * (event_bytes + EVENT_TOPIC_MAX_BYTES + EVENT_TYPE_MAX_BYTES) +
                  EVENT_ATTRS_MAX_BYTES + 256;
    strbuf_init(&g->format_data, g->format_max);
    strbuf_init(&g->format_event, EVENT_TYPE_MAX_BYTES);
}

static void empty(struct segment *g)
{
    for (unsigned i = 0; i < g->count; i++) {
        frame_unref(g->ends[i].large);
    }
    g->count = g->buf_count = g->large_count = g->passed = 0;
    g->bytes = 0;
    g->told = 0;
    g->failed = false;
    strbuf_reset(&g->small);
}

void segment_reset(struct segment *g)
{
    empty(g);
    for (size_t i = 0; i < g->framed.n; i++) {
        frame_unref(g->framed.v[i]->raw_frame);
        g->framed.v[i]->raw_frame = NULL;
    }
    event_list_clear(&g->framed);
    g->audience = NULL;
}

void segment_clear(struct segment *g)
{
    segment_reset(g);
    strbuf_clear(&g->small);
    strbuf_clear(&g->format_data);
    strbuf_clear(&g->format_event);
}

void segment_begin(struct segment *g, struct audience *a, uint64_t from)
{
    empty(g);
    g->audience = a;
    g->from = g->upto = from;
}

bool segment_full(const struct broker *b, const struct segment *g)
{
    return g->failed || g->bytes >= b->opt.turn_bytes || g->count == SEGMENT_MAX_FRAMES ||
           g->large_count == SEGMENT_MAX_LARGE;
}

/* Large frames in the built-in format are the same for every audience: made once per turn. */
static struct frame *large_frame(struct segment *g, struct event *ev, const struct sse_fields *f,
                                 bool built_in)
{
    if (!built_in) {
        return sse_frame(f);
    }
    if (!ev->raw_frame) {
        ev->raw_frame = sse_frame(f);
        if (!ev->raw_frame) {
            return NULL;
        }
        event_list_push(&g->framed, event_ref(ev));
    }
    return frame_ref(ev->raw_frame);
}

static void begin_frame(struct segment *g, const struct event *ev)
{
    g->ends[g->count] =
        (struct segment_end){.id = ev->id, .passed = g->passed, .small_from = g->small.len};
}

static void end_frame(struct broker *b, struct segment *g, size_t size)
{
    b->metrics->frames++;
    g->bytes += size;
    g->ends[g->count].end = g->bytes;
    g->count++;
}

/* Only memory is in the way of a frame: the types of events are checked, the buffer is large enough
 * for what fits a turn. */
static void append(struct broker *b, struct segment *g, struct event *ev,
                   const struct sse_fields *f, bool built_in)
{
    struct segment_end *end = &g->ends[g->count];
    size_t size = 0;
    begin_frame(g, ev);
    if (f->data.n >= SEGMENT_LARGE_BYTES) {
        end->large = large_frame(g, ev, f, built_in);
        if (!end->large) {
            g->failed = true;
            return;
        }
        size = end->large->len;
        g->large_count++;
    } else {
        if (sse_frame_append(f, &g->small)) {
            g->failed = true;
            return;
        }
        size = g->small.len - end->small_from;
    }
    end_frame(b, g, size);
    g->told = f->id ? f->id : g->told;
}

/* A frame that was made for another audience. */
static void append_shared(struct broker *b, struct segment *g, const struct event *ev,
                          struct frame *frame)
{
    begin_frame(g, ev);
    if (frame->len >= SEGMENT_LARGE_BYTES) {
        g->ends[g->count].large = frame_ref(frame);
        g->large_count++;
    } else if (strbuf_append(&g->small, frame->bytes, frame->len)) {
        g->failed = true;
        return;
    }
    end_frame(b, g, frame->len);
    g->told = ev->id;
}

static void append_failure(struct broker *b, struct segment *g, struct event *ev)
{
    /* never the raw data instead: it may hold what the format removes */
    char comment[64];
    int n = snprintf(comment, sizeof comment, "skipped id=%" PRIu64 " reason=format-error", ev->id);
    struct sse_fields f = {.comment = slice_of(comment, (size_t)n)};
    append(b, g, ev, &f, false);
}

/* Whether another audience could be served by what this one gets. */
static bool is_shared(const struct broker *b)
{
    return b->metrics->audiences > 1;
}

/* True: another audience has asked the same, and this one has the answer now. */
static bool append_known(struct broker *b, struct segment *g, struct event *ev)
{
    uint64_t keys[POLICY_FORMAT_KEYS_MAX];
    if (!is_shared(b) || b->memo.entries == 0) {
        return false;
    }
    size_t n = b->policy->ops->format_keys(b->policy, &g->audience->binding, keys);
    const struct frame_memo_entry *known = frame_memo_find(&b->memo, ev->id, keys, n);
    if (!known) {
        return false;
    }
    b->metrics->format_memo_hits++;
    if (known->result == FORMAT_FAILED) {
        append_failure(b, g, ev);
    } else if (known->result == FORMAT_DELIVER) {
        append_shared(b, g, ev, known->frame);
    }
    return true;
}

/* Remembers what the format came to; `appended`: it is the last of the segment. */
static void remember(struct broker *b, const struct segment *g, const struct event *ev,
                     uint64_t key, enum format_result result, bool appended)
{
    struct frame *frame = NULL;
    if (key == 0 || !is_shared(b) || (result == FORMAT_DELIVER && !appended)) {
        return;
    }
    if (result == FORMAT_DELIVER) {
        const struct segment_end *end = &g->ends[g->count - 1];
        struct slice small =
            slice_of(g->small.data + end->small_from, g->small.len - end->small_from);
        if (!frame_memo_has_room(&b->memo, end->large ? end->large->len : small.n)) {
            return;
        }
        frame = end->large ? frame_ref(end->large) : frame_copy(small);
        if (!frame) {
            return; /* no memory: the next audience asks again */
        }
    }
    frame_memo_put(&b->memo, ev->id, key, result, frame);
    frame_unref(frame);
}

void segment_pass(struct segment *g, uint64_t id)
{
    g->upto = id;
    g->passed++;
}

void segment_add(struct broker *b, struct segment *g, struct event *ev, bool judged)
{
    struct audience *a = g->audience;
    const struct policy_ops *policy = b->policy->ops;
    segment_pass(g, ev->id);
    if (a->binding.filter >= 0 && !judged) {
        b->metrics->filter_calls++;
        if (!policy->filter(b->policy, &a->binding, ev)) {
            return;
        }
    }
    struct sse_fields f = {.id = ev->id, .event = event_type(ev), .data = event_data(ev)};
    if (a->binding.format == POLICY_FORMAT_RAW) {
        append(b, g, ev, &f, true);
        return;
    }
    if (append_known(b, g, ev)) {
        return;
    }
    struct formatted out = {g->format_data, g->format_event, 0};
    out.data.max = a->binding.format == POLICY_FORMAT_JSON ? g->json_max : g->format_max;
    strbuf_reset(&out.data);
    strbuf_reset(&out.event);
    b->metrics->format_calls++;
    enum format_result rc = policy->format(b->policy, &a->binding, ev, &out);
    g->format_data = out.data;
    g->format_event = out.event;
    unsigned before = g->count;
    if (rc == FORMAT_NO_MEMORY) {
        g->failed = true;
        return;
    }
    if (rc == FORMAT_FAILED) {
        append_failure(b, g, ev);
    } else if (rc == FORMAT_DELIVER) {
        f.data = strbuf_slice(&g->format_data);
        if (g->format_event.len) {
            f.event = strbuf_slice(&g->format_event);
        }
        append(b, g, ev, &f, false);
    }
    remember(b, g, ev, out.key, rc, g->count > before);
}

void segment_seal(struct segment *g)
{
    size_t small_done = 0;
    g->buf_count = 0;
    for (unsigned i = 0; i < g->count; i++) {
        const struct segment_end *end = &g->ends[i];
        if (!end->large) {
            continue;
        }
        if (end->small_from > small_done) {
            g->bufs[g->buf_count++] =
                uv_buf_init(g->small.data + small_done, (unsigned)(end->small_from - small_done));
            small_done = end->small_from;
        }
        g->bufs[g->buf_count++] = uv_buf_init(end->large->bytes, end->large->len);
    }
    if (g->small.len > small_done) {
        g->bufs[g->buf_count++] =
            uv_buf_init(g->small.data + small_done, (unsigned)(g->small.len - small_done));
    }
}

struct frame *segment_frame_at(const struct segment *g, size_t offset, size_t *frame_offset,
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
    const struct segment_end *end = &g->ends[lo];
    size_t begin = lo ? g->ends[lo - 1].end : 0;
    *index = lo;
    *frame_offset = offset - begin;
    if (end->large) {
        return frame_ref(end->large);
    }
    return frame_copy(slice_of(g->small.data + end->small_from, end->end - begin));
}
