/* What browsers on other origins may do. */
#include "net/message/http_cors.h"

#define ALLOWED_HEADERS                                                                            \
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID, X-Requested-With"

/* Takes back what was appended since `len`. */
static int http_cors_rollback_to(struct strbuf *out, size_t len, int rc)
{
    if (rc && out->data) {
        out->len = len;
        out->data[len] = '\0';
    }
    return rc;
}

/* Labels of a host and the dots between them: what may stand for the '*'. */
static bool origin_is_labels(struct slice s)
{
    bool ok = s.n > 0 && s.p[0] != '.' && s.p[s.n - 1] != '.';
    for (size_t i = 0; i < s.n && ok; i++) {
        char c = s.p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
             (c == '.' && s.p[i - 1] != '.');
    }
    return ok;
}

bool http_origin_matches(const char *listed, struct slice origin)
{
    const char *star = strstr(listed, "://*.");
    if (!star) {
        /* byte for byte: browsers serialise origins in one way only (URL Standard, "origin") */
        return slice_is(origin, listed);
    }
    size_t head = (size_t)(star - listed) + 3; /* "https://" */
    const char *tail = listed + head + 1;      /* ".a.example:444" */
    size_t tail_n = strlen(tail);
    return origin.n > head + tail_n && memcmp(origin.p, listed, head) == 0 &&
           memcmp(origin.p + origin.n - tail_n, tail, tail_n) == 0 &&
           origin_is_labels(slice_of(origin.p + head, origin.n - head - tail_n));
}

/* What the answer to a page of that origin names: the configured text, or where that is a pattern, what it
 * matches, which has nothing in it but a host. Absent: the origin is not allowed. */
static struct slice allowed_origin(const struct http_cors *cors, const struct http_request *rq)
{
    struct slice origin = http_request_header(rq, "Origin");
    for (size_t i = 0; i < cors->origin_count && origin.n; i++) {
        if (strcmp(cors->origins[i], "*") == 0) {
            return slice_str(cors->origins[i]);
        }
        if (http_origin_matches(cors->origins[i], origin)) {
            return origin;
        }
    }
    return slice_of(NULL, 0);
}

bool http_cors_allows(const struct http_cors *cors, const struct http_request *rq)
{
    return allowed_origin(cors, rq).p != NULL;
}

static int append_origin(const struct http_cors *cors, struct slice origin, struct strbuf *out)
{
    if (slice_is(origin, "*")) {
        return strbuf_append_str(out, "Access-Control-Allow-Origin: *\r\n");
    }
    return strbuf_printf(out, "Access-Control-Allow-Origin: %.*s\r\n%sVary: Origin\r\n",
                         (int)origin.n, origin.p,
                         cors->credentials ? "Access-Control-Allow-Credentials: true\r\n" : "");
}

static int append_headers(const struct http_cors *cors, struct strbuf *out)
{
    int rc = strbuf_append_str(out, "Access-Control-Allow-Headers: " ALLOWED_HEADERS);
    for (size_t i = 0; i < cors->header_count && rc == 0; i++) {
        rc = strbuf_printf(out, ", %s", cors->headers[i]);
    }
    return rc ? rc : strbuf_append_str(out, "\r\n");
}

int http_cors_fields(const struct http_cors *cors, const struct http_request *rq,
                     struct strbuf *out)
{
    struct slice origin = allowed_origin(cors, rq);
    bool varies = cors->origin_count && strcmp(cors->origins[0], "*") != 0;
    size_t before = out->len;
    int rc = origin.p ? append_origin(cors, origin, out)
             : varies ? strbuf_append_str(out, "Vary: Origin\r\n") /* as it does for others */
                      : 0;
    if (rc == 0 && origin.p) {
        rc = strbuf_append_str(out, "Access-Control-Expose-Headers: Retry-After, X-Request-Id\r\n");
    }
    return http_cors_rollback_to(out, before, rc);
}

int http_cors_preflight(const struct http_cors *cors, const struct http_request *rq,
                        const char *methods, struct strbuf *out)
{
    struct slice origin = allowed_origin(cors, rq);
    size_t before = out->len;
    if (!origin.p) {
        return 0;
    }
    int rc = append_origin(cors, origin, out);
    if (rc == 0 && http_request_header(rq, "Access-Control-Request-Method").p) {
        rc = append_headers(cors, out);
        rc = rc ? rc
                : strbuf_printf(out,
                                "Access-Control-Allow-Methods: %s\r\n"
                                "Access-Control-Max-Age: %u\r\n",
                                methods, cors->max_age_s);
    }
    return http_cors_rollback_to(out, before, rc);
}
