/* One HTTP request: what the parser (http_parser.h) makes of the bytes of a client, or h2_request.h of its
 * fields. All slices point into the request's own memory (or at constants) and live until http_request_clear(). */
#ifndef NET_MESSAGE_HTTP_REQUEST_H
#define NET_MESSAGE_HTTP_REQUEST_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/message/http_bodies.h"

#include <stdbool.h>
#include <stdint.h>

struct tls_facts;
struct tls_info;

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
    int status;       /* 400, 413, 414, 417, 431, 501, 505; 503 when memory is short */
    const char *text; /* constant: what is wrong and what was expected */
};

struct http_request {
    const struct http_limits *limits;
    enum http_state state;
    struct http_failure fail;

    /* valid from HTTP_BODY on; after HTTP_FAILED where the head was complete (413, 417), otherwise
     * absent */
    enum http_method method;
    struct slice method_name;
    struct slice target;      /* as sent */
    struct slice path, query; /* undecoded; query without '?', absent where there was none; the
                               * path of "OPTIONS *" is "*" */
    struct slice host;        /* of the Host field, or of an absolute target */
    int minor;                /* HTTP/1.x */
    struct http_header *headers;
    size_t header_count;
    bool keep_alive;
    bool expect_continue; /* the client waits for 100 Continue before it sends the body */

    /* valid at HTTP_COMPLETE */
    struct strbuf body; /* of a POST; nothing here uses that of another method: it is checked and
                         * dropped */
    size_t body_bytes;  /* how long it is so far */
    struct http_body_share share; /* what the body counts for; ends with the request */

    /* from the connection, not from the bytes */
    struct slice request_id;     /* the one that a trusted proxy has given it; absent: none */
    bool secure;                 /* it came by TLS, to this broker or to a trusted proxy */
    bool redirect;               /* its listener sends clients without TLS to https */
    const struct tls_facts *tls; /* borrowed for the handler's call (tls_info.h); NULL: no TLS */
    const struct tls_info *tls_told; /* of tools: what to take for that; borrowed; NULL: nothing */

    /* private to the parser's parts */
    struct strbuf head;
    unsigned step; /* enum http_step of http_fields.h; 0: at the start */
    size_t mark;   /* where in the head the current word starts */
    unsigned empty_lines;
    struct slice method_span, target_span; /* offsets into head, until it is complete */
    size_t header_spans, header_cap;
    bool chunked;
    uint64_t body_left; /* of the body or of the current chunk */
    size_t chunk_line_bytes, chunk_ext_bytes, trailer_bytes;
};

/* Why it failed, and for a limit how much it is. Of HTTP_FAILED. */
void http_failure_text(const struct http_request *rq, char *out, size_t size);

void http_request_init(struct http_request *rq, const struct http_limits *limits);
void http_request_clear(struct http_request *rq);
/* `to` gets everything, `from` is as new. */
void http_request_move(struct http_request *to, struct http_request *from);
/* The first field of that name (case-insensitive); p == NULL when absent. */
struct slice http_request_header(const struct http_request *rq, const char *name);

#endif
