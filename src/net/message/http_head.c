/* Meaning of a complete head: RFC 9112 3.2 (target, Host), 6 (framing), 9.3 (persistence), RFC 9110
 * 10.1.1 (Expect). Where two readers could disagree about a message's length or addressee, the
 * request is refused: that disagreement is what request smuggling lives on. */
#include "net/message/http_head.h"

#include "base/decimal.h"
#include "net/message/http_body.h"
#include "net/message/http_fields.h"

#include <stdint.h>
#include <uv.h>

/* The fields that steer the parser. */
struct facts {
    struct slice host, content_length, transfer_encoding;
    unsigned hosts, content_lengths, transfer_encodings;
    bool close, keep_alive;
    bool expects_continue, expects_other;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice http_head_trim(struct slice s)
{
    while (s.n && is_space(s.p[0])) {
        s = slice_of(s.p + 1, s.n - 1);
    }
    while (s.n && is_space(s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

/* Cuts the first element off a comma-separated list. */
static struct slice next_element(struct slice *list)
{
    const char *comma = memchr(list->p, ',', list->n);
    size_t n = comma ? (size_t)(comma - list->p) : list->n;
    struct slice element = http_head_trim(slice_of(list->p, n));
    size_t skip = comma ? n + 1 : n;
    *list = slice_of(list->p + skip, list->n - skip);
    return element;
}

static void note_connection(struct facts *f, struct slice list)
{
    while (list.n) {
        struct slice option = next_element(&list);
        f->close |= slice_is_nocase(option, "close");
        f->keep_alive |= slice_is_nocase(option, "keep-alive");
    }
}

static void http_head_note_field(struct facts *f, const struct http_header *h)
{
    switch (h->name.n) {
    case 4:
        if (slice_is_nocase(h->name, "Host")) {
            f->host = h->value;
            f->hosts++;
        }
        break;
    case 6:
        if (slice_is_nocase(h->name, "Expect")) {
            bool known = slice_is_nocase(h->value, "100-continue");
            f->expects_continue |= known;
            f->expects_other |= !known;
        }
        break;
    case 10:
        if (slice_is_nocase(h->name, "Connection")) {
            note_connection(f, h->value);
        }
        break;
    case 14:
        if (slice_is_nocase(h->name, "Content-Length")) {
            f->content_length = h->value;
            f->content_lengths++;
        }
        break;
    case 17:
        if (slice_is_nocase(h->name, "Transfer-Encoding")) {
            f->transfer_encoding = h->value;
            f->transfer_encodings++;
        }
        break;
    default:
        break;
    }
}

static struct slice http_head_resolve(const struct http_request *rq, struct slice span)
{
    return slice_of(rq->head.data + (uintptr_t)span.p, span.n);
}

static enum http_method method_of(struct slice name)
{
    static const struct {
        const char *name;
        enum http_method method;
    } known[] = {{"GET", HTTP_GET},
                 {"POST", HTTP_POST},
                 {"HEAD", HTTP_HEAD_METHOD},
                 {"OPTIONS", HTTP_OPTIONS},
                 {"DELETE", HTTP_DELETE}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (slice_is(name, known[i].name)) {
            return known[i].method;
        }
    }
    return HTTP_OTHER;
}

static bool is_port(struct slice s)
{
    uint64_t port;
    return s.n == 0 ||
           decimal_parse(s, UINT16_MAX, &port); /* "host:" is allowed (RFC 3986 3.2.3) */
}

static bool is_ipv6(struct slice s)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char ip[16];
    if (s.n >= sizeof text || memchr(s.p, '%', s.n)) {
        return false;
    }
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return uv_inet_pton(AF_INET6, text, ip) == 0;
}

/* reg-name or IPv4 (RFC 3986 3.2.2), without the escapes and commas that no host name needs and a
 * joined pair of Host fields would bring. */
static bool is_host_name(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && (c == '\0' || !strchr("-._~!$&'()*+;=", c))) {
            return false;
        }
    }
    return s.n > 0;
}

/* uri-host [ ":" port ] */
static bool is_authority(struct slice s)
{
    struct slice host = s, port = {NULL, 0};
    if (s.n && s.p[0] == '[') {
        const char *end = memchr(s.p, ']', s.n);
        if (!end || !is_ipv6(slice_of(s.p + 1, (size_t)(end - s.p) - 1))) {
            return false;
        }
        size_t n = (size_t)(end - s.p) + 1;
        port = slice_of(end + 1, s.n - n);
        return port.n == 0 || (port.p[0] == ':' && is_port(slice_of(port.p + 1, port.n - 1)));
    }
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    if (colon) {
        host.n = (size_t)(colon - s.p);
        port = slice_of(colon + 1, s.n - host.n - 1);
    }
    return is_host_name(host) && is_port(port);
}

static bool starts_with_nocase(struct slice s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && strncasecmp(s.p, prefix, n) == 0;
}

/* Length of "http://" or "https://" in front of an absolute-form target, else 0. */
static size_t scheme_length(struct slice target)
{
    return starts_with_nocase(target, "http://")    ? 7
           : starts_with_nocase(target, "https://") ? 8
                                                    : 0;
}

/* Splits the target into authority (absolute-form only), path and query. */
static bool read_target(struct http_request *rq, struct slice *authority)
{
    struct slice rest = rq->target;
    size_t scheme = scheme_length(rest);
    if (scheme) {
        rest = slice_of(rest.p + scheme, rest.n - scheme);
        size_t n = 0;
        while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?') {
            n++;
        }
        *authority = slice_of(rest.p, n);
        rest = slice_of(rest.p + n, rest.n - n);
    } else if (rest.p[0] != '/' && !(slice_is(rest, "*") && rq->method == HTTP_OPTIONS)) {
        http_fail(rq, 400, "the request target must start with / or be an http:// URL");
        return false;
    }
    const char *mark = rest.n ? memchr(rest.p, '?', rest.n) : NULL;
    rq->path = slice_of(rest.p, mark ? (size_t)(mark - rest.p) : rest.n);
    if (mark) {
        rq->query = slice_of(mark + 1, rest.n - rq->path.n - 1);
    }
    if (rq->path.n == 0) {
        rq->path = slice_str("/"); /* RFC 9110 4.2.3 */
    }
    return true;
}

static bool check_host(struct http_request *rq, const struct facts *f, struct slice authority)
{
    const char *wrong = NULL;
    if (f->hosts > 1) {
        wrong = "more than one Host field";
    } else if (f->hosts == 0 && rq->minor > 0) {
        wrong = "no Host field";
    } else if (f->hosts && !is_authority(f->host)) {
        wrong = "the Host field must be HOST or HOST:PORT";
    } else if (authority.p && !is_authority(authority)) {
        wrong = "the authority of the request target must be HOST or HOST:PORT";
    } else if (authority.p && f->hosts && !slice_eq_nocase(authority, f->host)) {
        wrong = "the authority of the request target and the Host field differ";
    }
    if (wrong) {
        http_fail(rq, 400, wrong);
        return false;
    }
    rq->host = f->hosts ? f->host : authority;
    return true;
}

static void read_transfer_encoding(struct http_request *rq, struct slice list)
{
    if (slice_is_nocase(list, "chunked")) {
        rq->chunked = true;
        return;
    }
    const char *comma = memrchr(list.p, ',', list.n);
    size_t before = comma ? (size_t)(comma - list.p) + 1 : 0;
    struct slice rest = slice_of(list.p, before);
    struct slice last = http_head_trim(slice_of(list.p + before, list.n - before));
    bool once = slice_is_nocase(last, "chunked");
    while (once && rest.n) {
        once = !slice_is_nocase(next_element(&rest), "chunked");
    }
    if (once) {
        http_fail(rq, 501, "the only transfer coding served is chunked");
    } else { /* the length cannot be known (RFC 9112 6.3) */
        http_fail(rq, 400, "Transfer-Encoding must end with chunked, once");
    }
}

static void read_content_length(struct http_request *rq, struct slice text)
{
    uint64_t length = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            text.n = 0;
            break;
        }
        if (length > UINT64_MAX / 16) { /* a long number is a long body, it must not wrap around */
            http_fail(rq, 413, "the request body is too long");
            return;
        }
        length = length * 10 + (uint64_t)(text.p[i] - '0');
    }
    if (text.n == 0) {
        http_fail(rq, 400, "Content-Length must be decimal digits");
        return;
    }
    rq->body_left = length;
}

static void read_framing(struct http_request *rq, const struct facts *f)
{
    if (f->transfer_encodings && f->content_lengths) {
        http_fail(rq, 400, "both Content-Length and Transfer-Encoding");
    } else if (f->content_lengths > 1) {
        http_fail(rq, 400, "more than one Content-Length field");
    } else if (f->transfer_encodings > 1) {
        http_fail(rq, 400, "more than one Transfer-Encoding field");
    } else if (f->transfer_encodings && rq->minor == 0) {
        http_fail(rq, 400, "Transfer-Encoding in an HTTP/1.0 request");
    } else if (f->transfer_encodings) {
        read_transfer_encoding(rq, f->transfer_encoding);
    } else if (f->content_lengths) {
        read_content_length(rq, f->content_length);
    }
}

static bool http_head_is_all(struct slice s, unsigned byte_class)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!http_byte_is(s.p[i], byte_class)) {
            return false;
        }
    }
    return true;
}

/* Where the copy is, and `extra` bytes that the text of it would have besides. */
static struct slice http_head_put(struct http_request *rq, struct slice s, size_t extra)
{
    size_t from = rq->head.len;
    static const char filler[] = "    ";
    if (rq->state == HTTP_FAILED) {
        return slice_of(NULL, 0);
    }
    int rc = strbuf_append(&rq->head, s.p, s.n);
    rc = rc ? rc : strbuf_append(&rq->head, filler, extra);
    if (rc) {
        http_fail(rq, rc == UV_ENOBUFS ? 431 : 503,
                  rc == UV_ENOBUFS ? "the request head is too long" : "memory is short");
    }
    return http_span(from, from + s.n);
}

void http_head_put_line(struct http_request *rq, struct slice method, struct slice target)
{
    rq->minor = 1; /* what the rules for persistence and Host are about */
    if (target.n > rq->limits->target_bytes) {
        http_fail(rq, 414, "the request target is too long");
    } else if (method.n == 0 || !http_head_is_all(method, BYTE_TOKEN)) {
        http_fail(rq, 400, "the method must be a token");
    } else if (target.n == 0 || (target.p[0] != '/' && !slice_is(target, "*")) ||
               !http_head_is_all(target, BYTE_TARGET)) {
        http_fail(rq, 400,
                  "the path must start with / and have no byte that must be written as %XX");
    }
    rq->method_span = http_head_put(rq, method, 1);
    rq->target_span = http_head_put(rq, target, 1);
}

void http_head_put_field(struct http_request *rq, struct slice name, struct slice value)
{
    if (name.n == 0 || !http_head_is_all(name, BYTE_TOKEN)) {
        http_fail(rq, 400, "a field name must be a token");
    } else if (!http_head_is_all(value, BYTE_VALUE)) {
        http_fail(rq, 400, "a control character in a field value");
    }
    if (rq->state == HTTP_FAILED || !http_fields_add_header(rq)) {
        return;
    }
    struct http_header *h = &rq->headers[rq->header_spans - 1];
    h->name = http_head_put(rq, name, 2);
    h->value = http_head_put(rq, value, 2);
}

void http_head_complete(struct http_request *rq)
{
    struct facts f = {.hosts = 0};
    struct slice authority = {NULL, 0};
    rq->method_name = http_head_resolve(rq, rq->method_span);
    rq->target = http_head_resolve(rq, rq->target_span);
    rq->method = method_of(rq->method_name);
    rq->header_count = rq->header_spans;
    for (size_t i = 0; i < rq->header_count; i++) {
        struct http_header *h = &rq->headers[i];
        h->name = http_head_resolve(rq, h->name);
        h->value = http_head_trim(http_head_resolve(rq, h->value));
        http_head_note_field(&f, h);
    }
    rq->keep_alive = !f.close && (rq->minor > 0 || f.keep_alive);
    if (slice_is(rq->method_name, "CONNECT")) {
        http_fail(rq, 501, "CONNECT is not served: this is not a proxy");
        return;
    }
    if (!read_target(rq, &authority) || !check_host(rq, &f, authority)) {
        return;
    }
    read_framing(rq, &f);
    if (f.expects_other) {
        http_fail(rq, 417, "the only expectation served is 100-continue");
    } else if (rq->body_left > rq->limits->body_bytes) {
        http_fail(rq, 413, "the request body is too long");
    }
    if (rq->state == HTTP_FAILED) {
        return;
    }
    /* an HTTP/1.0 client does not know what 100 means (RFC 9110 10.1.1) */
    rq->expect_continue = f.expects_continue && rq->minor > 0 && (rq->chunked || rq->body_left);
    http_body_start(rq);
}

void http_head_salvage(struct http_request *rq)
{
    while (rq->state == HTTP_FAILED && rq->header_count < rq->header_spans) {
        struct http_header *h = &rq->headers[rq->header_count];
        size_t end = (uintptr_t)h->value.p + h->value.n;
        if (!h->value.p || end > rq->head.len) {
            return; /* nothing behind it is there either */
        }
        h->name = http_head_resolve(rq, h->name);
        h->value = http_head_trim(http_head_resolve(rq, h->value));
        rq->header_count++;
    }
}
