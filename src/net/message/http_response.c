/* Bytes of answers, and JSON text for problem documents (RFC 9457). Called by whatever implements
 * stream.h. Either all of an answer is appended or nothing. */
#include "net/message/http_response.h"

#include "base/text/json_text.h"

#include <uv.h>

/* X(code, reason phrase): RFC 9110 15, RFC 6585 */
#define HTTP_STATUSES(X)                                                                           \
    X(100, "Continue")                                                                             \
    X(200, "OK")                                                                                   \
    X(201, "Created")                                                                              \
    X(202, "Accepted")                                                                             \
    X(204, "No Content")                                                                           \
    X(301, "Moved Permanently")                                                                    \
    X(302, "Found")                                                                                \
    X(303, "See Other")                                                                            \
    X(304, "Not Modified")                                                                         \
    X(307, "Temporary Redirect")                                                                   \
    X(308, "Permanent Redirect")                                                                   \
    X(400, "Bad Request")                                                                          \
    X(401, "Unauthorized")                                                                         \
    X(403, "Forbidden")                                                                            \
    X(404, "Not Found")                                                                            \
    X(405, "Method Not Allowed")                                                                   \
    X(406, "Not Acceptable")                                                                       \
    X(408, "Request Timeout")                                                                      \
    X(409, "Conflict")                                                                             \
    X(410, "Gone")                                                                                 \
    X(411, "Length Required")                                                                      \
    X(412, "Precondition Failed")                                                                  \
    X(413, "Content Too Large")                                                                    \
    X(414, "URI Too Long")                                                                         \
    X(415, "Unsupported Media Type")                                                               \
    X(417, "Expectation Failed")                                                                   \
    X(421, "Misdirected Request")                                                                  \
    X(422, "Unprocessable Content")                                                                \
    X(426, "Upgrade Required")                                                                     \
    X(428, "Precondition Required")                                                                \
    X(429, "Too Many Requests")                                                                    \
    X(431, "Request Header Fields Too Large")                                                      \
    X(500, "Internal Server Error")                                                                \
    X(501, "Not Implemented")                                                                      \
    X(502, "Bad Gateway")                                                                          \
    X(503, "Service Unavailable")                                                                  \
    X(504, "Gateway Timeout")                                                                      \
    X(505, "HTTP Version Not Supported")                                                           \
    X(507, "Insufficient Storage")

const char *http_status_text(int status)
{
    switch (status) {
#define X(code, text)                                                                              \
    case code:                                                                                     \
        return text;
        HTTP_STATUSES(X)
#undef X
    default:
        return "Unknown";
    }
}

/* Takes back what was appended since `len`. */
static int http_response_rollback_to(struct strbuf *out, size_t len, int rc)
{
    if (rc && out->data) {
        out->len = len;
        out->data[len] = '\0';
    }
    return rc;
}

static int append_status(int status, struct strbuf *out)
{
    int rc = strbuf_append_str(out, "HTTP/1.1 ");
    rc = rc ? rc : strbuf_append_decimal(out, (uint64_t)status);
    rc = rc ? rc : strbuf_append(out, " ", 1);
    rc = rc ? rc : strbuf_append_str(out, http_status_text(status));
    return rc ? rc : strbuf_append(out, "\r\n", 2);
}

static int append_length(size_t n, struct strbuf *out)
{
    int rc = strbuf_append_str(out, "Content-Length: ");
    rc = rc ? rc : strbuf_append_decimal(out, n);
    return rc ? rc : strbuf_append(out, "\r\n", 2);
}

static int append_type(const struct http_response *r, struct strbuf *out)
{
    if (!r->content_type) {
        return 0;
    }
    int rc = strbuf_append_str(out, "Content-Type: ");
    rc = rc ? rc : strbuf_append_str(out, r->content_type);
    return rc ? rc : strbuf_append_str(out, "\r\n");
}

int http_response_render(const struct http_response *r, struct http_framing f, struct strbuf *out)
{
    /* RFC 9110 8.6, 15.3.5, 15.4.5: these have neither a body nor a length of it */
    bool bodiless = r->status < 200 || r->status == 204 || r->status == 304;
    bool sized = !bodiless && !f.event_stream && !r->no_length;
    size_t body = r->content_type ? r->body.n : 0;
    size_t before = out->len;
    /* HTTP/1.0 clients keep the connection only when told so; the others do not mind */
    const char *connection =
        f.keep_alive && !f.event_stream ? "Connection: keep-alive\r\n" : "Connection: close\r\n";

    bool send_body = sized && !f.head_only && body > 0;
    /* one allocation for all that follows */
    int rc = strbuf_reserve(out, r->fields.n + r->more_fields.n + (send_body ? body : 0) + 320);
    if (rc == UV_ENOBUFS) {
        rc = 0; /* the guess was too big; the appends below know exactly */
    }
    rc = rc ? rc : append_status(r->status, out);
    rc = rc || bodiless ? rc : append_type(r, out);
    rc = rc || !sized ? rc : append_length(body, out);
    if (f.event_stream && f.chunks) {
        rc = rc ? rc : strbuf_append_str(out, "Transfer-Encoding: chunked\r\n");
    }
    rc = rc ? rc : strbuf_append_str(out, connection);
    if (r->hsts_s) {
        rc = rc ? rc : strbuf_printf(out, "Strict-Transport-Security: max-age=%u\r\n", r->hsts_s);
    }
    if (r->request_id) {
        rc = rc ? rc : strbuf_append_str(out, "X-Request-Id: ");
        rc = rc ? rc : strbuf_append_str(out, r->request_id);
        rc = rc ? rc : strbuf_append_str(out, "\r\n");
    }
    rc = rc ? rc : strbuf_append(out, r->fields.p, r->fields.n);
    rc = rc ? rc : strbuf_append(out, r->more_fields.p, r->more_fields.n);
    rc = rc ? rc : strbuf_append(out, "\r\n", 2);
    if (rc == 0 && send_body) {
        rc = strbuf_append(out, r->body.p, body);
    }
    return http_response_rollback_to(out, before, rc);
}

int http_problem(struct strbuf *out, int status, struct slice detail, const char *request_id)
{
    size_t before = out->len;
    int rc = strbuf_printf(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d",
                           http_status_text(status), status);
    if (rc == 0 && detail.p) {
        rc = strbuf_append_str(out, ",\"detail\":");
        rc = rc ? rc : json_text_quote(out, detail);
    }
    if (rc == 0 && request_id) {
        rc = strbuf_printf(out, ",\"request_id\":\"%s\"", request_id);
    }
    rc = rc ? rc : strbuf_append(out, "}", 1);
    return http_response_rollback_to(out, before, rc);
}

struct http_response http_response_of_refusal(int status, struct slice detail,
                                              const char *request_id, struct strbuf *body)
{
    bool later = status == 503 || status == 429;
    strbuf_init(body, 4096);
    if (http_problem(body, status, detail, request_id)) {
        strbuf_reset(body); /* the status alone still tells the client what to do */
    }
    return (struct http_response){
        .status = status,
        .content_type = HTTP_PROBLEM_TYPE,
        .body = strbuf_slice(body),
        .fields = slice_str(later ? HTTP_ANSWER_FIELDS "Retry-After: 5\r\n" : HTTP_ANSWER_FIELDS)};
}

int http_response_refusal(int status, struct slice detail, struct strbuf *out)
{
    struct strbuf body;
    struct http_response r = http_response_of_refusal(status, detail, NULL, &body);
    int rc = http_response_render(&r, (struct http_framing){0}, out);
    strbuf_clear(&body);
    return rc;
}
