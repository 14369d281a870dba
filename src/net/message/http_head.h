/* What a complete head means: target, host, framing, expectations, persistence. */
#ifndef NET_MESSAGE_HTTP_HEAD_H
#define NET_MESSAGE_HTTP_HEAD_H

#include "net/message/http_request.h"

/* A head that came as fields, not as text (HTTP/2): first its line, then each field; both are copied
 * and counted against the limits as if they had been text. Bytes that may not stand there, and more
 * than the limits allow, make it HTTP_FAILED. Then http_head_complete(). */
void http_head_put_line(struct http_request *rq, struct slice method, struct slice target);
void http_head_put_field(struct http_request *rq, struct slice name, struct slice value);

/* rq->head holds the whole head, the words are still spans. Fills in the public members and goes on
 * to HTTP_BODY, HTTP_COMPLETE or HTTP_FAILED. */
void http_head_complete(struct http_request *rq);

/* The request failed before its head was complete: makes the fields before that point readable. */
void http_head_salvage(struct http_request *rq);

#endif
