/* What a test says of the TLS that a request came by. Tests speak HTTP to the broker, so it is a field of the request,
 * which is gone before the policy sees it. */
#ifndef TOOLS_TEST_TEST_TLS_H
#define TOOLS_TEST_TEST_TLS_H

#include "net/message/http_request.h"
#include "net/tls/tls_info.h"

struct test_tls {
    struct tls_info info;
    char version[16], cipher[64], sni[256], alpn[16];
    char subject[1024], issuer[1024], serial[96], sha256[96];
    char names[4096];
};

/* Takes the field out of `rq`, if it is there, and lets the request say what it says. `t` is the caller's, for as long
 * as the request is read. False: the field is not what scripts/lib/test_request.lua writes. */
__attribute__((warn_unused_result)) bool test_tls_take(struct test_tls *t, struct http_request *rq);

#endif
