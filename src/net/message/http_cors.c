/* What browsers on other origins may do. The configured text is echoed, never the request's. */
#include "net/message/http_cors.h"

#define ALLOWED_HEADERS                                                                            \
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID, X-Requested-With"

/* The configured origin that covers the request's; NULL when none does. */
static const char *allowed_origin(const struct http_cors *cors, const struct http_request *rq)
{
    struct slice origin = http_request_header(rq, "Origin");
    if (!origin.p || origin.n == 0) {
        return NULL;
    }
    for (size_t i = 0; i < cors->origin_count; i++) {
        /* byte for byte: browsers serialise origins in one way only (URL Standard, "origin") */
        if (slice_is(origin, cors->origins[i]) || strcmp(cors->origins[i], "*") == 0) {
            return cors->origins[i];
        }
    }
    return NULL;
}

bool http_cors_allows(const struct http_cors *cors, const struct http_request *rq)
{
    return allowed_origin(cors, rq) != NULL;
}

static int append_origin(const struct http_cors *cors, const char *origin, struct strbuf *out)
{
    if (strcmp(origin, "*") == 0) {
        return strbuf_append_str(out, "Access-Control-Allow-Origin: *\r\n");
    }
    return strbuf_printf(out, "Access-Control-Allow-Origin: %s\r\n%sVary: Origin\r\n", origin,
                         cors->credentials ? "Access-Control-Allow-Credentials: true\r\n" : "");
}

int http_cors_fields(const struct http_cors *cors, const struct http_request *rq,
                     struct strbuf *out)
{
    const char *origin = allowed_origin(cors, rq);
    bool varies = cors->origin_count && strcmp(cors->origins[0], "*") != 0;
    return origin   ? append_origin(cors, origin, out)
           : varies ? strbuf_append_str(out, "Vary: Origin\r\n") /* as it does for others */
                    : 0;
}

int http_cors_preflight(const struct http_cors *cors, const struct http_request *rq,
                        const char *methods, struct strbuf *out)
{
    const char *origin = allowed_origin(cors, rq);
    size_t before = out->len;
    if (!origin) {
        return 0;
    }
    int rc = append_origin(cors, origin, out);
    if (rc == 0 && http_request_header(rq, "Access-Control-Request-Method").p) {
        rc = strbuf_printf(out,
                           "Access-Control-Allow-Methods: %s\r\n"
                           "Access-Control-Allow-Headers: " ALLOWED_HEADERS "\r\n"
                           "Access-Control-Max-Age: %u\r\n",
                           methods, cors->max_age_s);
    }
    if (rc && out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return rc;
}
