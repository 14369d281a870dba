/* Incremental HTTP/1.1 request parser: strict (RFC 9112), pure, bounded, fuzzed.
 *
 *   struct http_request rq;
 *   http_request_init(&rq, &limits);
 *   used = http_request_feed(&rq, data, len);
 *   rq.state: HTTP_HEAD (wants more), HTTP_BODY (head is valid and readable, body wants more),
 *             HTTP_COMPLETE, HTTP_FAILED (rq.fail says status and text; close after answering)
 *   http_request_clear(&rq);
 *
 * feed() stops behind the request it completed: the rest of the input is the next pipelined one.
 * All slices point into the request's own memory and live until http_request_clear(). */
#ifndef NET_HTTP_REQUEST_H
#define NET_HTTP_REQUEST_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

struct http_limits {
    size_t target_bytes; /* longer: 414 */
    size_t head_bytes;   /* request line and fields together; longer: 431 */
    size_t headers;      /* more fields: 431 */
    size_t body_bytes;   /* longer: 413 */
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD_METHOD,
    HTTP_POST,
    HTTP_OPTIONS,
    HTTP_DELETE,
    HTTP_OTHER, /* a valid token that nothing here serves */
};

enum http_state { HTTP_HEAD, HTTP_BODY, HTTP_COMPLETE, HTTP_FAILED };

struct http_header {
    struct slice name, value; /* value without surrounding white space */
};

struct http_failure {
    int status;       /* 400, 413, 414, 417, 431, 501, 505 */
    const char *text; /* constant: what is wrong and what was expected */
};

struct http_request {
    const struct http_limits *limits;
    enum http_state state;
    struct http_failure fail;

    /* valid from HTTP_BODY on */
    enum http_method method;
    struct slice method_name;
    struct slice target;      /* as sent */
    struct slice path, query; /* of origin-form or absolute-form; undecoded; query without '?' */
    struct slice host;        /* of the Host field */
    int minor;                /* HTTP/1.x */
    struct http_header *headers;
    size_t header_count;
    bool keep_alive;
    bool expect_continue; /* the client waits for 100 Continue before it sends the body */

    /* valid at HTTP_COMPLETE */
    struct strbuf body;

    /* private to http_request.c */
    struct strbuf head;
    size_t head_scan;
    bool chunked;
    uint64_t body_left;
    unsigned chunk_state;
    size_t chunk_line_bytes;
    size_t trailer_bytes;
};

void http_request_init(struct http_request *rq, const struct http_limits *limits);
void http_request_clear(struct http_request *rq);
/* Returns the bytes consumed (all of them unless the request completed or failed). */
size_t http_request_feed(struct http_request *rq, const char *data, size_t len);
/* The first field of that name (case-insensitive); p == NULL when absent. */
struct slice http_request_header(const struct http_request *rq, const char *name);

#endif
