/* What a handler may do with one request of an HTTP/1.1 connection: implements stream.h upon http1.h. */
#ifndef NET_HTTP_EXCHANGE_H
#define NET_HTTP_EXCHANGE_H

#include "net/http/stream.h"

/* For `struct exchange` of http1.h. */
extern const struct stream_ops exchange_ops;

#endif
