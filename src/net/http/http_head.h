/* What a complete head means: target, host, framing, expectations, persistence. */
#ifndef NET_HTTP_HTTP_HEAD_H
#define NET_HTTP_HTTP_HEAD_H

#include "net/http/http_request.h"

/* rq->head holds the whole head, the words are still spans. Fills in the public members and goes on
 * to HTTP_BODY, HTTP_COMPLETE or HTTP_FAILED. */
void http_head_complete(struct http_request *rq);

#endif
