/* Query strings of subscribe and publish requests. One pass to count, one to decode: two
 * allocations whatever the number of pairs. */
#include "net/message/http_query.h"

#include "base/text/hex.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <uv.h>

/* Cuts the piece before the first `separator` (or all) off `rest`. */
static void cut(struct slice *rest, char separator, struct slice *piece)
{
    const char *at = rest->n ? memchr(rest->p, separator, rest->n) : NULL;
    size_t n = at ? (size_t)(at - rest->p) : rest->n;
    size_t skip = at ? n + 1 : n;
    *piece = slice_of(rest->p, n);
    *rest = slice_of(rest->p ? rest->p + skip : NULL, rest->n - skip);
}

static size_t http_query_count_pairs(struct slice query)
{
    size_t count = 0;
    while (query.n) {
        struct slice pair;
        cut(&query, '&', &pair);
        count += pair.n > 0; /* "a&&b" has two pairs (URL Standard 5.1) */
    }
    return count;
}

/* Decodes to `*at` and moves it. */
static int http_query_decode(struct slice raw, char **at, struct slice *out)
{
    char *to = *at;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = raw.n - i > 2 ? hex_value(raw.p[i + 1]) : -1;
            int low = raw.n - i > 2 ? hex_value(raw.p[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return UV_EINVAL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0') {
            return UV_EINVAL;
        }
        *to++ = c;
    }
    *out = slice_of(*at, (size_t)(to - *at));
    *at = to;
    return utf8_ok(*out) ? 0 : UV_EINVAL;
}

int http_query_parse(struct http_query *q, struct slice query)
{
    *q = (struct http_query){.params = NULL};
    size_t count = http_query_count_pairs(query);
    if (count > HTTP_QUERY_MAX_PARAMS) {
        return UV_E2BIG;
    }
    if (count == 0) {
        return 0;
    }
    q->params = calloc(count, sizeof *q->params);
    q->bytes = malloc(query.n);
    int rc = q->params && q->bytes ? 0 : UV_ENOMEM;
    char *at = q->bytes;
    while (rc == 0 && query.n) {
        struct slice pair, name;
        cut(&query, '&', &pair);
        if (pair.n == 0) {
            continue;
        }
        struct http_param *param = &q->params[q->count++];
        cut(&pair, '=', &name);
        rc = http_query_decode(name, &at, &param->name);
        if (rc == 0) {
            rc = http_query_decode(pair, &at, &param->value);
        }
    }
    if (rc) {
        http_query_clear(q);
    }
    return rc;
}

void http_query_clear(struct http_query *q)
{
    free(q->params);
    free(q->bytes);
    *q = (struct http_query){.params = NULL};
}

struct slice http_query_get(const struct http_query *q, const char *name)
{
    for (size_t i = 0; i < q->count; i++) {
        if (slice_is(q->params[i].name, name)) {
            return q->params[i].value;
        }
    }
    return slice_of(NULL, 0);
}
