/* Refuses what pages of other sites publish: such a page would publish with the cookies, the address and
 * the network of its visitor. Which site a page is of: net/message/http_origin.h. */
#ifndef BROKER_HTTP_CROSS_SITE_H
#define BROKER_HTTP_CROSS_SITE_H

#include "net/http/stream.h"
#include "net/message/http_request.h"

#include <stdbool.h>

struct broker;

/* True: answered with 403. */
bool cross_site_refuse(struct broker *b, struct stream *s, const struct http_request *rq);

#endif
