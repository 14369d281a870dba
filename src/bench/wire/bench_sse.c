#include "bench/wire/bench_sse.h"

#include <string.h>

static void keep(struct bench_sse *s, const char *p, size_t n)
{
    if (n == 0) {
        return;
    }
    if (s->line_bytes < BENCH_SSE_HEAD) {
        size_t room = BENCH_SSE_HEAD - (size_t)s->line_bytes;
        memcpy(s->head + s->line_bytes, p, n < room ? n : room);
    }
    s->line_bytes += n;
    s->last = p[n - 1];
}

static bool take_name(struct slice *line, const char *name, size_t n)
{
    if (line->n <= n || memcmp(line->p, name, n) != 0 || line->p[n] != ':') {
        return false;
    }
    n += line->n > n + 1 && line->p[n + 1] == ' ' ? 2 : 1;
    *line = slice_of(line->p + n, line->n - n);
    return true;
}

/* `line` is the head of a line of `bytes` bytes. True when an event is complete. */
static bool bench_sse_take_line(struct bench_sse *s, struct slice line, uint64_t bytes,
                                struct bench_sse_event *out)
{
    if (bytes == 0) {
        s->last_id = s->id;
        bool complete = s->has_data;
        *out = s->event;
        s->event = (struct bench_sse_event){.marked = false};
        s->has_data = false;
        return complete;
    }
    size_t before = line.n, at = 0;
    if (take_name(&line, "data", 4)) {
        s->event.data_bytes += bytes - (before - line.n);
        if (!s->event.marked && bench_mark_find(line, &s->event.mark, &at)) {
            s->event.marked = true;
            s->event.whole = at == 0 && !s->has_data;
        }
        s->has_data = true;
    } else if (take_name(&line, "event", 5)) {
        s->event.gap = slice_is(line, "gap");
        s->event.position = slice_is(line, "position");
        s->event.live = slice_is(line, "live");
    } else if (take_name(&line, "id", 2)) {
        s->id = 0;
        for (size_t i = 0; i < line.n && line.p[i] >= '0' && line.p[i] <= '9'; i++) {
            s->id = s->id * 10 + (uint64_t)(line.p[i] - '0');
        }
    }
    return false;
}

bool bench_sse_next(struct bench_sse *s, struct slice *in, struct bench_sse_event *out)
{
    while (in->n) {
        const char *lf = memchr(in->p, '\n', in->n);
        size_t n = lf ? (size_t)(lf - in->p) : in->n;
        struct slice line = slice_of(in->p, n < BENCH_SSE_HEAD ? n : BENCH_SSE_HEAD);
        uint64_t bytes = n;
        char last = n ? in->p[n - 1] : '\0';
        if (!lf || s->line_bytes) {
            keep(s, in->p, n);
            bytes = s->line_bytes;
            last = s->last;
            line = slice_of(s->head, bytes < BENCH_SSE_HEAD ? (size_t)bytes : BENCH_SSE_HEAD);
        }
        if (!lf) {
            *in = slice_of(in->p + n, 0);
            return false;
        }
        *in = slice_of(lf + 1, in->n - n - 1);
        s->line_bytes = 0;
        if (bytes && last == '\r') {
            line.n -= line.n == bytes;
            bytes--;
        }
        if (bench_sse_take_line(s, line, bytes, out)) {
            return true;
        }
    }
    return false;
}
