/* Bodies: fixed length (RFC 9112 6.2) and chunked (RFC 9112 7.1). */
#ifndef NET_MESSAGE_HTTP_BODY_H
#define NET_MESSAGE_HTTP_BODY_H

#include "net/message/http_request.h"

/* From rq->chunked and rq->body_left: HTTP_BODY, or HTTP_COMPLETE when there is none. */
void http_body_start(struct http_request *rq);
/* In state HTTP_BODY. Returns the bytes consumed. */
size_t http_body_feed(struct http_request *rq, const char *data, size_t len);

/* Counts what has come of the body so far. Fails where there is no room for it (http_bodies.h). */
void http_body_count(struct http_request *rq);
/* A piece of a body that is framed by other means (HTTP/2). Fails beyond the limit. */
void http_body_append(struct http_request *rq, const char *data, size_t len);

#endif
