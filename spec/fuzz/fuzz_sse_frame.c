/* SSE frames: what a reader written from the HTML standard (9.2.6) gets out of two frames in a row
 * is what was put in. Input: a byte of choices, then texts separated by 0xff. */
#include "event/sse_frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct text {
    char *p;
    size_t n;
};

#define MARK "g-7_.x"

struct reader {
    struct text data, event, comment;
    bool has_data_line;
    uint64_t id, retry;
    unsigned dispatched;
    struct text last_data, last_event;
    bool marked;
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void add(struct text *t, const char *p, size_t n)
{
    t->p = realloc(t->p, t->n + n + 1);
    require(t->p != NULL);
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

static void dispatch(struct reader *r)
{
    if (r->data.n) {
        free(r->last_data.p);
        free(r->last_event.p);
        r->last_data = r->data;
        r->last_data.n--; /* the LF behind the last line */
        r->last_event = r->event;
        r->dispatched++;
    } else {
        free(r->data.p);
        free(r->event.p);
    }
    r->data = r->event = (struct text){0};
}

static void read_field(struct reader *r, const char *name, size_t name_n, const char *p, size_t n)
{
    struct slice field = slice_of(name, name_n);
    char number[32];
    snprintf(number, sizeof number, "%.*s", n < 30 ? (int)n : 30, p);
    if (slice_is(field, "data")) {
        add(&r->data, p, n);
        add(&r->data, "\n", 1);
    } else if (slice_is(field, "event")) {
        r->event.n = 0;
        add(&r->event, p, n);
    } else if (slice_is(field, "id")) {
        char *end = NULL;
        r->id = strtoull(number, &end, 10);
        r->marked = strcmp(end, "~" MARK) == 0;
        require(r->marked || *end == '\0');
    } else {
        require(slice_is(field, "retry")); /* nothing else may ever appear */
        r->retry = strtoull(number, NULL, 10);
    }
}

static void read_line(struct reader *r, const char *p, size_t n)
{
    if (n == 0) {
        dispatch(r);
        return;
    }
    const char *colon = memchr(p, ':', n);
    require(colon != NULL);
    size_t name_n = (size_t)(colon - p);
    const char *value = colon + 1;
    size_t value_n = n - name_n - 1;
    if (name_n == 0) {
        r->comment.n = 0;
        add(&r->comment, value, value_n);
        return;
    }
    if (value_n && *value == ' ') {
        value++;
        value_n--;
    }
    read_field(r, p, name_n, value, value_n);
}

static void read_stream(struct reader *r, const char *p, size_t n)
{
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || p[i] == '\r') {
            read_line(r, p + start, i - start);
            i += p[i] == '\r' && i + 1 < n && p[i + 1] == '\n' ? 1 : 0;
            start = i + 1;
        }
    }
    require(start == n); /* ends with a complete line */
}

static struct text with_lf(struct slice s)
{
    struct text out = {0};
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\n' && i && s.p[i - 1] == '\r') {
            continue;
        }
        add(&out, s.p[i] == '\r' ? "\n" : &s.p[i], 1);
    }
    return out;
}

static bool same(const struct text *t, struct slice s)
{
    return slice_eq(slice_of(t->p, t->n), s);
}

static void check_comment(const struct reader *r, struct slice comment)
{
    require(r->comment.n == comment.n);
    for (size_t i = 0; i < comment.n; i++) {
        bool end = comment.p[i] == '\r' || comment.p[i] == '\n';
        require(r->comment.p[i] == (end ? ' ' : comment.p[i]));
    }
}

static void check(const struct reader *r, const struct sse_fields *f)
{
    require(r->id == f->id && r->retry == f->retry_ms);
    require(r->marked == (f->id && f->mark.n));
    require(r->dispatched == (f->data.p ? 2U : 0U));
    if (f->comment.p) {
        check_comment(r, f->comment);
    }
    if (f->data.p) {
        struct text want = with_lf(f->data);
        bool plain = f->event.n == 0 || slice_is(f->event, "message");
        require(same(&r->last_data, slice_of(want.p, want.n)));
        require(plain ? r->last_event.n == 0 : same(&r->last_event, f->event));
        free(want.p);
    }
}

static struct slice next_text(struct slice *rest)
{
    const char *end = rest->n ? memchr(rest->p, 0xff, rest->n) : NULL;
    struct slice text = slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
    size_t used = text.n + (end ? 1 : 0);
    *rest = slice_of(rest->p + used, rest->n - used);
    return text;
}

static void check_append(const struct sse_fields *f, const struct frame *frame)
{
    struct strbuf out;
    strbuf_init(&out, frame->len);
    require(sse_frame_append(f, &out) == 0);
    require(slice_eq(strbuf_slice(&out), slice_of(frame->bytes, frame->len)));
    strbuf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct slice rest = slice_of((const char *)data + 1, size - 1), none = {NULL, 0};
    struct slice event = next_text(&rest), comment = next_text(&rest);
    struct sse_fields f = {
        .id = data[0] & 1 ? UINT64_MAX >> (size % 64) : 0,
        .retry_ms = data[0] & 2 ? UINT32_MAX >> (size % 32) : 0,
        .mark = data[0] & 32 ? slice_str(MARK) : none,
        .event = data[0] & 4 ? event : none,
        .comment = data[0] & 8 ? comment : none,
        .data = data[0] & 16 ? rest : none,
    };
    struct frame *frame = sse_frame(&f);
    bool bad = f.event.n && (memchr(event.p, '\r', event.n) || memchr(event.p, '\n', event.n) ||
                             memchr(event.p, '\0', event.n));
    require(bad == (frame == NULL));
    if (frame) {
        struct reader r = {0};
        read_stream(&r, frame->bytes, frame->len);
        read_stream(&r, frame->bytes, frame->len);
        check(&r, &f);
        check_append(&f, frame);
        free(r.comment.p);
        free(r.last_data.p);
        free(r.last_event.p);
        frame_unref(frame);
    }
    return 0;
}
