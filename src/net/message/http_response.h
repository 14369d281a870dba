/* Bytes of an answer: status line, fields, body. Pure. */
#ifndef NET_MESSAGE_HTTP_RESPONSE_H
#define NET_MESSAGE_HTTP_RESPONSE_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>

struct frame;

struct http_response {
    int status;
    const char *content_type; /* NULL: no body, no Content-Type */
    struct slice body;        /* borrowed for the call */
    struct frame *frame;      /* that is all of it: need not be copied. Borrowed; NULL: none */
    bool no_length;           /* HEAD of what has no known length */
    struct slice fields;      /* further fields, "Name: value\r\n" each; borrowed */
    /* set by stream.h's implementation */
    struct slice more_fields; /* those of stream_set_fields() */
    const char *request_id;   /* X-Request-Id; NULL: more_fields have it, or there is none */
    unsigned hsts_s;          /* Strict-Transport-Security; 0: not sent */
};

struct http_framing {
    bool keep_alive : 1;   /* else "Connection: close" */
    bool head_only : 1;    /* answer to HEAD: Content-Length without the body */
    bool event_stream : 1; /* no Content-Length: the body is chunked, or ends with the connection */
    bool chunks : 1;       /* the client knows chunks: HTTP/1.1 */
};

/* Appends status line, fields, and body. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int
http_response_render(const struct http_response *r, struct http_framing f, struct strbuf *out);
/* An answer that refuses: a problem document, and after how long to come back (429, 503). It is in `body`, which is
 * the caller's to clear. `request_id`: X-Request-Id, NULL: it has none. */
struct http_response http_response_of_refusal(int status, struct slice detail,
                                              const char *request_id, struct strbuf *body);
/* Appends that answer for a whole connection, which it ends. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int http_response_refusal(int status, struct slice detail,
                                                              struct strbuf *out);
/* "OK", "Not Found", ...; "Unknown" for what the table does not hold. */
const char *http_status_text(int status);

/* Appends an RFC 9457 problem document {"type":"about:blank","title","status","detail"} plus, where
 * it is given (letters that JSON takes as they are), "request_id".
 * `detail` may hold any bytes: it is escaped, invalid UTF-8 is replaced by U+FFFD. */
__attribute__((warn_unused_result)) int http_problem(struct strbuf *out, int status,
                                                     struct slice detail, const char *request_id);

/* Every answer but a stream or a page: nobody keeps it, or takes it for something else. */
#define HTTP_ANSWER_FIELDS "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
#define HTTP_PROBLEM_TYPE "application/problem+json"

#endif
