#include "event/publish/public_route.h"

#include "base/text/hex.h"
#include "base/utf8.h"
#include "event/topic.h"

#include <stdlib.h>
#include <uv.h>

static bool public_route_is_hole(struct slice segment)
{
    return segment.n > 2 && segment.p[0] == '{' && segment.p[segment.n - 1] == '}';
}

/* How many names in braces it has, if `path` fits; else -1. */
static int public_route_fit(const char *pattern, struct slice path)
{
    struct slice want = slice_str(pattern), have = path, w, h;
    int holes = 0;
    while (topic_next_segment(&want, &w)) {
        if (!topic_next_segment(&have, &h)) {
            return -1;
        }
        bool hole = public_route_is_hole(w);
        if (hole ? h.n == 0 : !slice_eq(w, h)) {
            return -1;
        }
        holes += hole;
    }
    return topic_next_segment(&have, &h) ? -1 : holes;
}

/* Unlike in a query '+' is itself. */
static int public_route_decode(struct slice raw, char **at, struct slice *out)
{
    char *to = *at;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (c == '%') {
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

static int public_route_take(const char *pattern, struct slice path, size_t holes,
                             struct http_query *params)
{
    struct slice want = slice_str(pattern), have = path, w, h;
    params->params = calloc(holes, sizeof *params->params);
    params->bytes = malloc(path.n);
    char *at = params->bytes;
    int rc = params->params && params->bytes ? 0 : UV_ENOMEM;
    while (rc == 0 && topic_next_segment(&want, &w) && topic_next_segment(&have, &h)) {
        if (public_route_is_hole(w)) {
            struct http_param *one = &params->params[params->count++];
            one->name = slice_of(w.p + 1, w.n - 2);
            rc = public_route_decode(h, &at, &one->value);
        }
    }
    return rc;
}

const struct public_route *public_route_find(const struct public_routes *routes, struct slice path,
                                             struct http_query *params, int *rc)
{
    if (params) {
        *params = (struct http_query){.params = NULL};
        *rc = 0;
    }
    for (size_t i = 0; i < routes->n; i++) {
        int holes = public_route_fit(routes->v[i].path, path);
        if (holes >= 0 && params) {
            *rc = holes ? public_route_take(routes->v[i].path, path, (size_t)holes, params) : 0;
        }
        if (holes >= 0) {
            return &routes->v[i];
        }
    }
    return NULL;
}
