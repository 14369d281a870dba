/* Request heads: paths with {topic} and {n} filled in. See bench_state.h. */
#include "bench/bench_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void bench_note(struct bench *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!b->error[0]) {
        vsnprintf(b->error, sizeof b->error, fmt, ap);
    }
    va_end(ap);
}

static int append_path(struct bench *b, struct strbuf *out, const char *path, uint32_t topic)
{
    static const char name[] = "{topic}", number[] = "{n}";
    const char *brace;
    char text[32];
    while ((brace = strchr(path, '{')) != NULL) {
        bool full = strncmp(brace, name, sizeof name - 1) == 0;
        bool bare = strncmp(brace, number, sizeof number - 1) == 0;
        size_t skip = full ? sizeof name - 1 : bare ? sizeof number - 1 : 1;
        int n = full   ? snprintf(text, sizeof text, "%08x-%u", b->run, topic)
                : bare ? snprintf(text, sizeof text, "%u", topic)
                       : snprintf(text, sizeof text, "{");
        int rc = strbuf_append(out, path, (size_t)(brace - path));
        rc = rc ? rc : strbuf_append(out, text, (size_t)n);
        if (rc) {
            return rc;
        }
        path = brace + skip;
    }
    return strbuf_append_str(out, path);
}

int bench_request_append(struct bench *b, struct strbuf *out, const char *method, const char *path,
                         uint32_t topic)
{
    int rc = strbuf_append_str(out, method);
    rc = rc ? rc : strbuf_append(out, " ", 1);
    rc = rc ? rc : append_path(b, out, path, topic);
    rc = rc ? rc : strbuf_append_str(out, " HTTP/1.1\r\n");
    return rc ? rc : strbuf_append(out, b->fields.data, b->fields.len);
}
