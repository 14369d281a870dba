/* Sends clients without TLS to https, where the listener says so (redirect_https). */
#ifndef BROKER_HTTP_HTTPS_REDIRECT_H
#define BROKER_HTTP_HTTPS_REDIRECT_H

#include "net/http/stream.h"
#include "net/message/http_request.h"

#include <stdbool.h>

struct broker;

/* True: the request has been answered. */
bool https_redirect(struct broker *b, struct stream *s, const struct http_request *rq);

#endif
