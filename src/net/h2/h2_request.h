/* The fields of an HTTP/2 request as the request that handlers get (RFC 9113 8.3). nghttp2 has
 * checked their form before: names in lower case, pseudo-header fields first and complete, nothing
 * that belongs to a connection. */
#ifndef NET_H2_H2_REQUEST_H
#define NET_H2_H2_REQUEST_H

#include "net/message/http_request.h"

struct h2_request {
    struct http_request http;
    struct slice method, path, authority, scheme; /* in `words` as offsets, until done */
    struct strbuf words;                          /* the pseudo-header fields */
    struct strbuf cookie;                         /* its crumbs, joined (RFC 9113 8.2.3) */
    bool line;                                    /* http_head_put_line() was called */
    bool head;                                    /* the method is HEAD */
    size_t unconsumed;                            /* of its body, not yet given back as window */
    size_t given; /* of its body, given back while it was not the oldest */
};

/* Never NULL. */
struct h2_request *h2_request_new(const struct http_limits *limits);
void h2_request_free(struct h2_request *r); /* NULL is fine */
/* One field, in the order they came. */
void h2_request_field(struct h2_request *r, struct slice name, struct slice value);
/* All fields are there: r->http.state is HTTP_BODY (`ended`: HTTP_COMPLETE) or HTTP_FAILED. */
void h2_request_head_done(struct h2_request *r, bool ended);
/* A piece of the body. */
void h2_request_body(struct h2_request *r, const char *data, size_t len);
/* The body is complete. */
void h2_request_end(struct h2_request *r);

#endif
