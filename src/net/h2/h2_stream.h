/* What a handler may do with one request of an HTTP/2 connection: implements stream.h upon
 * h2_session.h. */
#ifndef NET_H2_H2_STREAM_H
#define NET_H2_H2_STREAM_H

#include "net/http/stream.h"

/* For `struct h2_stream` of h2_session.h. */
extern const struct stream_ops h2_stream_ops;

#endif
