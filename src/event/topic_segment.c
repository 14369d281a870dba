#include "event/topic_segment.h"

#include "base/text/hex.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <string.h>
#include <uv.h>

/* Does the byte at `i` belong to what cannot stand in a segment? Both bytes of U+0080 to U+009F do. */
static bool topic_segment_special(struct slice text, size_t i)
{
    unsigned char c = (unsigned char)text.p[i];
    bool c1_first = c == 0xc2 && i + 1 < text.n && (unsigned char)text.p[i + 1] < 0xa0;
    bool c1_second = c >= 0x80 && c < 0xa0 && i > 0 && (unsigned char)text.p[i - 1] == 0xc2;
    return c < 0x20 || c == 0x7f || c == '%' || c == '/' || c == '*' || c1_first || c1_second;
}

int topic_segment_append(struct strbuf *out, struct slice text)
{
    int rc = 0;
    size_t from = 0;
    for (size_t i = 0; i < text.n && rc == 0; i++) {
        if (topic_segment_special(text, i)) {
            rc = i > from ? strbuf_append(out, text.p + from, i - from) : 0;
            rc = rc ? rc : strbuf_printf(out, "%%%02X", (unsigned)(unsigned char)text.p[i]);
            from = i + 1;
        }
    }
    return rc || from == text.n ? rc : strbuf_append(out, text.p + from, text.n - from);
}

int topic_segment_decode(struct strbuf *out, struct slice segment)
{
    size_t start = out->len;
    int rc = 0;
    for (size_t i = 0; i < segment.n && rc == 0; i++) {
        char c = segment.p[i];
        if (c == '%') {
            int high = segment.n - i > 2 ? hex_value(segment.p[i + 1]) : -1;
            int low = segment.n - i > 2 ? hex_value(segment.p[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return UV_EINVAL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        rc = strbuf_append(out, &c, 1);
    }
    if (rc == 0 && out->len > start && !utf8_ok(slice_of(out->data + start, out->len - start))) {
        rc = UV_EINVAL;
    }
    return rc;
}

int topic_fill(struct strbuf *out, const char *pattern, const struct http_query *values)
{
    int rc = 0;
    while (rc == 0 && *pattern) {
        const char *open = strchr(pattern, '{');
        const char *close = open ? strchr(open, '}') : NULL;
        if (!close) {
            return strbuf_append_str(out, pattern);
        }
        rc = open > pattern ? strbuf_append(out, pattern, (size_t)(open - pattern)) : 0;
        struct slice name = slice_of(open + 1, (size_t)(close - open - 1));
        size_t i = 0;
        while (i < values->count && !slice_eq(values->params[i].name, name)) {
            i++;
        }
        rc = rc                   ? rc
             : i == values->count ? UV_ENOENT
                                  : topic_segment_append(out, values->params[i].value);
        pattern = close + 1;
    }
    return rc;
}
