#include "net/message/http_chunk.h"

#include "base/require.h"

unsigned http_chunk_head_before(char *end, uint32_t n)
{
    char *at = end;
    *--at = '\n';
    *--at = '\r';
    do {
        *--at = "0123456789abcdef"[n & 15];
        n >>= 4;
    } while (n);
    return (unsigned)(end - at);
}

void http_chunk_plan(struct http_chunk_write *w, uint32_t left, size_t total)
{
    char *end = w->text + sizeof w->text;
    char *at = end;
    REQUIRE(total > 0 && total <= UINT32_MAX);
    w->total = total;
    w->before = total < left ? total : left;
    w->tail = slice_of(NULL, 0);
    if (total > left) {
        at -= http_chunk_head_before(end, (uint32_t)total - left);
        w->tail = slice_str(HTTP_CHUNK_END);
    }
    if (left && total >= left) {
        *--at = '\n';
        *--at = '\r';
    }
    w->middle = slice_of(at, (size_t)(end - at));
}

static struct slice http_chunk_rest(struct slice whole, size_t gone)
{
    return gone < whole.n ? slice_of(whole.p + gone, whole.n - gone) : slice_of(NULL, 0);
}

size_t http_chunk_taken(const struct http_chunk_write *w, size_t n, uint32_t *left,
                        struct slice *rest)
{
    uint32_t fresh = (uint32_t)(w->total - w->before);
    *rest = slice_of(NULL, 0);
    if (n == 0) {
        return 0;
    }
    if (n < w->before || w->middle.n == 0) {
        *left -= (uint32_t)n;
        return n;
    }
    n -= w->before;
    if (n < w->middle.n) {
        *rest = http_chunk_rest(w->middle, n);
        *left = fresh;
        return w->before;
    }
    n -= w->middle.n;
    if (n < fresh) {
        *left = fresh - (uint32_t)n;
        return w->before + n;
    }
    *rest = http_chunk_rest(w->tail, n - fresh);
    *left = 0;
    return w->total;
}
