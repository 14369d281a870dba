#include "net/http/http_origin.h"

#include <string.h>

/* The field of that name; *several: there is more than one, which no browser sends. */
static struct slice origin_field(const struct http_request *rq, const char *name, bool *several)
{
    struct slice found = {NULL, 0};
    for (size_t i = 0; i < rq->header_count; i++) {
        if (slice_is_nocase(rq->headers[i].name, name)) {
            *several |= found.p != NULL;
            found = rq->headers[i].value;
        }
    }
    return found;
}

static bool origin_strip(struct slice *text, const char *start)
{
    size_t n = strlen(start);
    if (text->n < n || strncasecmp(text->p, start, n) != 0) {
        return false;
    }
    *text = slice_of(text->p + n, text->n - n);
    return true;
}

/* "a.example:443" of https is "a.example". */
static struct slice origin_without_port(struct slice host, const char *port)
{
    size_t n = strlen(port);
    if (host.n > n && memcmp(host.p + host.n - n, port, n) == 0) {
        host.n -= n;
    }
    return host;
}

/* The scheme is the client's view: a proxy in front may have taken TLS off. */
static bool origin_is_host(struct slice origin, struct slice host)
{
    const char *port = origin_strip(&origin, "https://")  ? ":443"
                       : origin_strip(&origin, "http://") ? ":80"
                                                          : NULL;
    if (!port || !host.n) {
        return false;
    }
    host = origin_without_port(host, port);
    origin = origin_without_port(origin, port);
    return origin.n == host.n && strncasecmp(origin.p, host.p, host.n) == 0;
}

static bool origin_is_listed(const struct http_cors *cors, const struct http_request *rq,
                             struct slice origin)
{
    for (size_t i = 0; i < cors->origin_count; i++) {
        if (slice_is(origin, cors->origins[i])) {
            return true;
        }
        if (strcmp(cors->origins[i], "*") == 0) {
            return !http_request_header(rq, "Cookie").p;
        }
    }
    return false;
}

enum http_site http_origin_site(const struct http_cors *cors, const struct http_request *rq)
{
    bool several = false;
    struct slice site = origin_field(rq, "Sec-Fetch-Site", &several);
    struct slice origin = origin_field(rq, "Origin", &several);
    bool own = site.p     ? slice_is(site, "same-origin") || slice_is(site, "none")
               : origin.p ? origin_is_host(origin, rq->host)
                          : true;
    if (several) {
        return HTTP_SITE_FOREIGN;
    }
    return own                                              ? HTTP_SITE_OWN
           : origin.n && origin_is_listed(cors, rq, origin) ? HTTP_SITE_LISTED
                                                            : HTTP_SITE_FOREIGN;
}
