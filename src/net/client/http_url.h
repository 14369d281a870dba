/* Builds the URL of an outbound request: where it goes is fixed by an operator, what is asked comes
 * from a program that may pass on a stranger's words. Nothing it adds can change the server, leave
 * the path below the base, or become another header. Pure. */
#ifndef NET_CLIENT_HTTP_URL_H
#define NET_CLIENT_HTTP_URL_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"

struct http_url_param {
    struct slice name, value;
};

struct http_url_parts {
    struct slice path;            /* as it goes over the wire, "/a/b%20c"; absent: none */
    const struct slice *segments; /* or this: any bytes each, encoded here */
    size_t segment_count;
    const struct http_url_param *query; /* any bytes, encoded here */
    size_t query_count;
};

/* Appends `base` (an URL that http_client_check_url() accepts, without a query) with the parts to
 * `out`. UV_EINVAL, with a reason: the path does not begin with '/', has a character that must be
 * encoded, a "?" or "#", a "." or ".." segment in whatever disguise, or an encoded control
 * character; UV_EMSGSIZE: too long for `out`. */
int http_url_join(struct strbuf *out, const char *base, const struct http_url_parts *parts,
                  struct err *e);

#endif
