#include "remote/client/sse_reader.h"

#include "base/decimal.h"

enum { ID_MAX_BYTES = 1024, TYPE_MAX_BYTES = 1024, RETRY_MAX_MS = 24 * 3600 * 1000 };

static const char byte_order_mark[] = "\xef\xbb\xbf";

void sse_reader_init(struct sse_reader *r, const struct sse_reader_ops *ops, void *ctx,
                     size_t max_bytes)
{
    *r = (struct sse_reader){.ops = ops, .ctx = ctx};
    strbuf_init(&r->line, max_bytes);
    strbuf_init(&r->data, max_bytes);
    strbuf_init(&r->type, TYPE_MAX_BYTES);
    strbuf_init(&r->id, ID_MAX_BYTES);
    strbuf_init(&r->last_id, ID_MAX_BYTES);
}

void sse_reader_clear(struct sse_reader *r)
{
    strbuf_clear(&r->line);
    strbuf_clear(&r->data);
    strbuf_clear(&r->type);
    strbuf_clear(&r->id);
    strbuf_clear(&r->last_id);
}

static int sse_reader_copy(struct strbuf *to, struct slice text)
{
    strbuf_reset(to);
    return text.n ? strbuf_append(to, text.p, text.n) : 0;
}

static struct slice sse_reader_text(const struct strbuf *b)
{
    return slice_of(b->data ? b->data : "", b->len);
}

struct slice sse_reader_last_id(const struct sse_reader *r)
{
    return sse_reader_text(&r->last_id);
}

int sse_reader_set_last_id(struct sse_reader *r, struct slice id)
{
    int rc = sse_reader_copy(&r->id, id);
    return rc ? rc : sse_reader_copy(&r->last_id, id);
}

void sse_reader_restart(struct sse_reader *r)
{
    strbuf_reset(&r->line);
    strbuf_reset(&r->data);
    strbuf_reset(&r->type);
    r->has_data = r->after_cr = r->begun = false;
    /* it was no longer than last_id's limit when it was read */
    (void)!sse_reader_copy(&r->id, sse_reader_text(&r->last_id));
}

/* ---------------------------------------------------------------- lines */

static int sse_reader_dispatch(struct sse_reader *r)
{
    int rc = sse_reader_copy(&r->last_id, sse_reader_text(&r->id));
    if (rc == 0 && r->has_data) {
        struct sse_event ev = {.id = sse_reader_text(&r->last_id),
                               .type =
                                   r->type.len ? sse_reader_text(&r->type) : slice_str("message"),
                               .data = slice_of(r->data.data, r->data.len - 1)}; /* the last LF */
        r->ops->event(r->ctx, &ev);
    }
    strbuf_reset(&r->data);
    strbuf_reset(&r->type);
    r->has_data = false;
    return rc;
}

static int sse_reader_add_data(struct sse_reader *r, struct slice value)
{
    r->has_data = true;
    int rc = strbuf_append(&r->data, value.n ? value.p : "", value.n);
    return rc ? rc : strbuf_append(&r->data, "\n", 1);
}

static int sse_reader_field(struct sse_reader *r, struct slice name, struct slice value)
{
    uint64_t ms;
    if (slice_is(name, "data")) {
        return sse_reader_add_data(r, value);
    }
    if (slice_is(name, "event")) {
        return sse_reader_copy(&r->type, value);
    }
    if (slice_is(name, "id") && (value.n == 0 || !memchr(value.p, '\0', value.n))) {
        return sse_reader_copy(&r->id, value);
    }
    if (slice_is(name, "retry") && decimal_parse(value, RETRY_MAX_MS, &ms)) {
        r->ops->retry(r->ctx, ms);
    }
    return 0;
}

static int sse_reader_line(struct sse_reader *r, struct slice line)
{
    const size_t mark = sizeof byte_order_mark - 1;
    if (!r->begun && line.n >= mark && memcmp(line.p, byte_order_mark, mark) == 0) {
        line = slice_of(line.p + mark, line.n - mark);
    }
    r->begun = true;
    if (line.n == 0) {
        return sse_reader_dispatch(r);
    }
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == line.p) {
        r->ops->comment(r->ctx, slice_of(line.p + 1, line.n - 1));
        return 0;
    }
    struct slice name = colon ? slice_of(line.p, (size_t)(colon - line.p)) : line;
    struct slice value = colon ? slice_of(colon + 1, line.n - name.n - 1) : slice_of("", 0);
    if (value.n && *value.p == ' ') {
        value = slice_of(value.p + 1, value.n - 1);
    }
    return sse_reader_field(r, name, value);
}

/* Up to the first CR or LF; `n` if there is none. */
static size_t sse_reader_end_of_line(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] != '\r' && p[i] != '\n') {
        i++;
    }
    return i;
}

int sse_reader_feed(struct sse_reader *r, struct slice bytes)
{
    int rc = 0;
    while (bytes.n && rc == 0) {
        if (r->after_cr && *bytes.p == '\n') { /* the second half of CRLF */
            bytes = slice_of(bytes.p + 1, bytes.n - 1);
            r->after_cr = false;
            continue;
        }
        r->after_cr = false;
        size_t n = sse_reader_end_of_line(bytes.p, bytes.n);
        rc = strbuf_append(&r->line, bytes.p, n);
        if (rc == 0 && n < bytes.n) {
            r->after_cr = bytes.p[n] == '\r';
            rc = sse_reader_line(r, sse_reader_text(&r->line));
            strbuf_reset(&r->line);
            n++;
        }
        bytes = slice_of(bytes.p + n, bytes.n - n);
    }
    return rc;
}
