/* Cross-origin fields (WHATWG Fetch, "CORS protocol") from a configured list of origins. Pure. */
#ifndef NET_MESSAGE_HTTP_CORS_H
#define NET_MESSAGE_HTTP_CORS_H

#include "base/strbuf.h"
#include "net/message/http_request.h"

struct http_cors {
    char **
        origins; /* origins ("https://app.example"), patterns of their hosts ("*.app.example"), or "*" alone */
    size_t origin_count;
    char **headers; /* of requests, besides those that everyone needs; or "*" */
    size_t header_count;
    bool credentials;   /* Access-Control-Allow-Credentials: true; never together with "*" */
    unsigned max_age_s; /* how long a preflight may be cached */
};

/* Is it the one of the list? The host "*.a.example" is each name below a.example, not that itself. */
bool http_origin_matches(const char *listed, struct slice origin);
/* Do browsers show the answer to a page of the request's Origin? */
bool http_cors_allows(const struct http_cors *cors, const struct http_request *rq);
/* Appends the fields for an actual answer ("Access-Control-Allow-Origin: ...\r\n", "Vary:
 * Origin\r\n" ...). When the request has no Origin, or it is not allowed, only that the answer depends
 * on it, where it does. */
__attribute__((warn_unused_result)) int
http_cors_fields(const struct http_cors *cors, const struct http_request *rq, struct strbuf *out);
/* Appends the fields for a preflight (OPTIONS with Access-Control-Request-Method); `methods` is the
 * list the path serves, e.g. "GET, HEAD, POST, OPTIONS". */
__attribute__((warn_unused_result)) int http_cors_preflight(const struct http_cors *cors,
                                                            const struct http_request *rq,
                                                            const char *methods,
                                                            struct strbuf *out);

#endif
