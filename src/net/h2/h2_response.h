/* An answer as the fields of an HTTP/2 response. Pure. */
#ifndef NET_H2_H2_RESPONSE_H
#define NET_H2_H2_RESPONSE_H

#include "net/message/http_response.h"

#include <nghttp2/nghttp2.h>

enum { H2_RESPONSE_FIELDS_MAX = 64 };

struct h2_response {
    nghttp2_nv nv[H2_RESPONSE_FIELDS_MAX]; /* point into the answer, and in here */
    size_t n;
    bool send_body;
    char status[4], length[24], hsts[32];
};

/* 0, or UV_ENOBUFS: more fields than fit, or one that is not "Name: value\r\n". */
__attribute__((warn_unused_result)) int
h2_response_of(const struct http_response *r, struct http_framing f, struct h2_response *out);

#endif
