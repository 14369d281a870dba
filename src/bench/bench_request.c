/* Request heads: paths with {run}, {topic}, {n} and {connection} filled in. See bench_run.h. */
#include "bench/bench_run.h"

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

/* What `brace` begins, as text; returns how many bytes of the path it stands for. */
static size_t fill_in(const struct bench *b, const char *brace, const struct bench_place *at,
                      char text[32])
{
    static const char run[] = "{run}", topic[] = "{topic}", number[] = "{n}",
                      connection[] = "{connection}";
    if (strncmp(brace, run, sizeof run - 1) == 0) {
        snprintf(text, 32, "%08x", b->run);
        return sizeof run - 1;
    }
    if (strncmp(brace, topic, sizeof topic - 1) == 0) {
        snprintf(text, 32, "%08x-%u", b->run, at->topic);
        return sizeof topic - 1;
    }
    if (strncmp(brace, number, sizeof number - 1) == 0) {
        snprintf(text, 32, "%u", at->topic);
        return sizeof number - 1;
    }
    if (strncmp(brace, connection, sizeof connection - 1) == 0) {
        snprintf(text, 32, "%u", at->connection);
        return sizeof connection - 1;
    }
    snprintf(text, 32, "{");
    return 1;
}

int bench_path_append(struct bench *b, struct strbuf *out, const char *path, struct bench_place at)
{
    const char *brace;
    char text[32];
    while ((brace = strchr(path, '{')) != NULL) {
        size_t skip = fill_in(b, brace, &at, text);
        int rc = strbuf_append(out, path, (size_t)(brace - path));
        rc = rc ? rc : strbuf_append_str(out, text);
        if (rc) {
            return rc;
        }
        path = brace + skip;
    }
    return strbuf_append_str(out, path);
}

int bench_request_append(struct bench *b, struct strbuf *out, const char *method, const char *path,
                         struct bench_place at)
{
    int rc = strbuf_append_str(out, method);
    rc = rc ? rc : strbuf_append(out, " ", 1);
    rc = rc ? rc : bench_path_append(b, out, path, at);
    rc = rc ? rc : strbuf_append_str(out, " HTTP/1.1\r\n");
    return rc ? rc : strbuf_append(out, b->fields.data, b->fields.len);
}
