#include "base/strbuf.h"

#include "base/decimal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { STRBUF_MIN = 128 };

void strbuf_init(struct strbuf *b, size_t max)
{
    *b = (struct strbuf){.max = max};
}

void strbuf_clear(struct strbuf *b)
{
    free(b->data);
    strbuf_init(b, b->max);
}

void strbuf_wipe(struct strbuf *b)
{
    if (b->data) {
        explicit_bzero(b->data, b->cap);
    }
    strbuf_clear(b);
}

void strbuf_reset(struct strbuf *b)
{
    b->len = 0;
    if (b->data) {
        b->data[0] = '\0';
    }
}

int strbuf_reserve(struct strbuf *b, size_t n)
{
    if (n > b->max || b->len > b->max - n) {
        return UV_ENOBUFS;
    }
    size_t want = b->len + n + 1;
    if (want <= b->cap) {
        return 0;
    }
    size_t cap = b->cap ? b->cap * 2 : STRBUF_MIN;
    if (cap < want) {
        cap = want;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        return UV_ENOMEM;
    }
    data[b->len] = '\0';
    b->data = data;
    b->cap = cap;
    return 0;
}

int strbuf_append(struct strbuf *b, const char *p, size_t n)
{
    int rc = strbuf_reserve(b, n);
    if (rc) {
        return rc;
    }
    if (n) {
        memcpy(b->data + b->len, p, n);
    }
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int strbuf_append_str(struct strbuf *b, const char *text)
{
    return strbuf_append(b, text, strlen(text));
}

int strbuf_append_decimal(struct strbuf *b, uint64_t n)
{
    char digits[DECIMAL_MAX];
    return strbuf_append(b, digits, decimal_put(digits, n));
}

int strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return UV_EINVAL;
    }
    int rc = strbuf_reserve(b, (size_t)n);
    if (rc) {
        return rc;
    }
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

void strbuf_consume(struct strbuf *b, size_t n)
{
    if (n >= b->len) {
        strbuf_reset(b);
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

struct slice strbuf_slice(const struct strbuf *b)
{
    return slice_of(b->data ? b->data : "", b->len);
}

char *strbuf_detach(struct strbuf *b)
{
    char *data = b->data;
    strbuf_init(b, b->max);
    return data;
}
