#include "event/sse_frame.h"

#include "base/decimal.h"
#include "event/event.h"

#include <uv.h>

/* "retry: 4294967295\n" and "id: 18446744073709551615-end\n" with room to spare */
enum { NUMBER_LINE_MAX = 40 };

static const char data_prefix[] = "data: ";
static const char event_prefix[] = "event: ";

struct layout {
    char retry[NUMBER_LINE_MAX], id[NUMBER_LINE_MAX];
    size_t retry_n, id_n; /* the id is without its mark */
    bool event;
    bool plain; /* the data is one line */
    bool block; /* ends with a blank line */
};

static bool has_byte(struct slice s, char c)
{
    return s.n && memchr(s.p, c, s.n);
}

static char *sse_frame_put(char *at, const char *p, size_t n)
{
    if (n) {
        memcpy(at, p, n);
    }
    return at + n;
}

/* Cuts one line off *rest; CR, LF and CRLF end it. false behind the last one: a text that ends with
 * a line end has an empty last line, so that the reader gets that end back. */
static bool next_line(struct slice *rest, struct slice *line)
{
    if (!rest->p) {
        return false;
    }
    size_t i = 0;
    while (i < rest->n && rest->p[i] != '\r' && rest->p[i] != '\n') {
        i++;
    }
    *line = slice_of(rest->p, i);
    if (i == rest->n) {
        *rest = (struct slice){NULL, 0};
        return true;
    }
    size_t end = rest->p[i] == '\r' && i + 1 < rest->n && rest->p[i + 1] == '\n' ? 2 : 1;
    *rest = slice_of(rest->p + i + end, rest->n - i - end);
    return true;
}

/* An empty line is "data:" alone. */
static size_t data_line_size(struct slice line)
{
    return sizeof data_prefix + line.n -
           (line.n == 0 ? 1 : 0); /* its NUL stands for the line end */
}

static size_t data_size(struct slice data, bool plain)
{
    size_t size = 0;
    struct slice line;
    if (plain) {
        return data_line_size(data);
    }
    while (next_line(&data, &line)) {
        size += data_line_size(line);
    }
    return size;
}

/* The space of "data: " is the one that the reader removes, so that a text which begins with a
 * space keeps it. */
static char *put_data_line(char *at, struct slice line)
{
    at = sse_frame_put(at, data_prefix, sizeof data_prefix - (line.n == 0 ? 2 : 1));
    at = sse_frame_put(at, line.p, line.n);
    *at = '\n';
    return at + 1;
}

static char *sse_frame_put_data(char *at, struct slice data, bool plain)
{
    struct slice line;
    if (plain) {
        return put_data_line(at, data);
    }
    while (next_line(&data, &line)) {
        at = put_data_line(at, line);
    }
    return at;
}

static char *put_comment(char *at, struct slice comment)
{
    *at++ = ':';
    for (size_t i = 0; i < comment.n; i++) {
        char c = comment.p[i];
        if (c == '\r' || c == '\n') {
            c = ' ';
        }
        *at++ = c;
    }
    *at = '\n';
    return at + 1;
}

/* "NAME: N\n" */
static size_t sse_frame_put_number(char *out, struct slice name, uint64_t n, struct slice suffix)
{
    char *at = sse_frame_put(out, name.p, name.n);
    at += decimal_put(at, n);
    at = sse_frame_put(at, suffix.p, suffix.n);
    *at++ = '\n';
    return (size_t)(at - out);
}

static size_t sse_frame_measure(const struct sse_fields *f, struct layout *l)
{
    *l = (struct layout){
        .event = f->event.n && !slice_is(f->event, "message"),
        .plain = f->data.p && !has_byte(f->data, '\n') && !has_byte(f->data, '\r'),
        .block = f->data.p || f->id || f->event.n,
    };
    if (f->retry_ms) {
        l->retry_n =
            sse_frame_put_number(l->retry, slice_str("retry: "), f->retry_ms, slice_of(NULL, 0));
    }
    if (f->id) {
        l->id_n = sse_frame_put_number(l->id, slice_str("id: "), f->id,
                                       slice_str(f->ends ? EVENT_ID_END : ""));
    }
    return (f->comment.p ? f->comment.n + 2 : 0) + l->retry_n + l->id_n +
           (l->id_n && f->mark.n ? f->mark.n + 1 : 0) +
           (l->event ? sizeof event_prefix + f->event.n : 0) + data_size(f->data, l->plain) +
           (l->block ? 1 : 0);
}

/* `event` is checked at publish; what a format returns is checked here. */
static bool event_ok(const struct sse_fields *f)
{
    return !has_byte(f->event, '\r') && !has_byte(f->event, '\n') && !has_byte(f->event, '\0');
}

static void write_fields(char *at, const struct sse_fields *f, const struct layout *l)
{
    if (f->comment.p) {
        at = put_comment(at, f->comment);
    }
    at = sse_frame_put(at, l->retry, l->retry_n);
    at = sse_frame_put(at, l->id, l->id_n);
    if (l->id_n && f->mark.n) {
        at[-1] = EVENT_MARK_SEPARATOR;
        at = sse_frame_put(at, f->mark.p, f->mark.n);
        *at++ = '\n';
    }
    if (l->event) {
        at = sse_frame_put(at, event_prefix, sizeof event_prefix - 1);
        at = sse_frame_put(at, f->event.p, f->event.n);
        *at++ = '\n';
    }
    if (f->data.p) {
        at = sse_frame_put_data(at, f->data, l->plain);
    }
    if (l->block) {
        *at = '\n';
    }
}

struct frame *sse_frame(const struct sse_fields *f)
{
    struct layout l;
    struct frame *frame = event_ok(f) ? frame_new(sse_frame_measure(f, &l)) : NULL;
    if (frame) {
        write_fields(frame->bytes, f, &l);
    }
    return frame;
}

int sse_frame_append(const struct sse_fields *f, struct strbuf *out)
{
    struct layout l;
    if (!event_ok(f)) {
        return UV_EINVAL;
    }
    size_t size = sse_frame_measure(f, &l);
    int rc = strbuf_reserve(out, size);
    if (rc == 0) {
        write_fields(out->data + out->len, f, &l);
        out->len += size;
        out->data[out->len] = '\0';
    }
    return rc;
}
