/* Incremental HTTP/1.1 request parser: strict (RFC 9112), pure, bounded, fuzzed.
 *
 *   struct http_request rq;
 *   http_request_init(&rq, &limits);
 *   used = http_parser_feed(&rq, data, len);
 *   rq.state: HTTP_HEAD (wants more), HTTP_BODY (head is valid and readable, body wants more),
 *             HTTP_COMPLETE, HTTP_FAILED (rq.fail says status and text; close after answering)
 *   http_request_clear(&rq);
 *
 * feed() stops behind the request it completed: the rest of the input is the next pipelined one.
 * How the input is cut into pieces never changes the outcome. All slices point into the request's
 * own memory (or at constants) and live until http_request_clear().
 *
 * Parts: http_parser.c (request line, the way through), http_fields.c (field lines, of the head
 * and of trailers), http_head.c (what a complete head means), http_body.c (fixed and chunked). */
#ifndef NET_MESSAGE_HTTP_PARSER_H
#define NET_MESSAGE_HTTP_PARSER_H

#include "net/message/http_request.h"

/* Returns the bytes consumed (all of them unless the request completed or failed). */
size_t http_parser_feed(struct http_request *rq, const char *data, size_t len);

#endif
