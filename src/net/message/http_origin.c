#include "net/message/http_origin.h"

#include <string.h>
#include <sys/socket.h>
#include <uv.h>

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
    return slice_eq_nocase(origin, host);
}

static bool origin_is_listed(const struct http_cors *cors, const struct http_request *rq,
                             struct slice origin)
{
    for (size_t i = 0; i < cors->origin_count; i++) {
        if (http_origin_matches(cors->origins[i], origin)) {
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

static bool origin_is_loopback_v4(struct slice name)
{
    char text[16];
    unsigned char ip[4];
    if (name.n >= sizeof text) {
        return false;
    }
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    return uv_inet_pton(AF_INET, text, ip) == 0 && ip[0] == 127;
}

bool http_host_is_local(struct slice host, char *const *hosts, size_t host_count)
{
    const char *end = host.n && *host.p == '[' ? memchr(host.p, ']', host.n) : NULL;
    const char *colon = end ? NULL : memchr(host.p, ':', host.n);
    struct slice name = host;
    if (end || colon) {
        name.n = (size_t)((end ? end + 1 : colon) - host.p);
    }
    bool found = slice_is_nocase(name, "localhost") || slice_is_nocase(name, "localhost.") ||
                 slice_is(name, "[::1]") || origin_is_loopback_v4(name);
    for (size_t i = 0; i < host_count && !found; i++) {
        found = slice_is_nocase(name, hosts[i]);
    }
    return found;
}
