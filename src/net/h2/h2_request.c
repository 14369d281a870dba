#include "net/h2/h2_request.h"

#include "base/alloc.h"
#include "net/message/http_body.h"
#include "net/message/http_fields.h"
#include "net/message/http_head.h"

#include <stdlib.h>
#include <uv.h>

struct h2_request *h2_request_new(const struct http_limits *limits)
{
    struct h2_request *r = xcalloc(1, sizeof *r);
    http_request_init(&r->http, limits);
    strbuf_init(&r->words, limits->head_bytes);
    strbuf_init(&r->cookie, limits->head_bytes);
    return r;
}

void h2_request_free(struct h2_request *r)
{
    if (r) {
        http_request_clear(&r->http);
        strbuf_clear(&r->words);
        strbuf_clear(&r->cookie);
        free(r);
    }
}

static void h2_request_too_long(struct h2_request *r, int rc)
{
    bool long_head = rc == UV_ENOBUFS;
    http_fail(&r->http, long_head ? 431 : 503,
              long_head ? "the request head is too long" : "memory is short");
}

/* Keeps a word until the line can be put: its place and length. */
static struct slice h2_request_keep(struct h2_request *r, struct slice word)
{
    size_t from = r->words.len;
    int rc = strbuf_append(&r->words, word.p, word.n);
    if (rc) {
        h2_request_too_long(r, rc);
        return slice_of(NULL, 0);
    }
    return slice_of((const char *)(uintptr_t)from, word.n);
}

static struct slice h2_request_word(const struct h2_request *r, struct slice kept)
{
    return slice_of(kept.n ? r->words.data + (uintptr_t)kept.p : "", kept.n);
}

static void h2_request_pseudo(struct h2_request *r, struct slice name, struct slice value)
{
    if (slice_is(name, ":method")) {
        r->method = h2_request_keep(r, value);
    } else if (slice_is(name, ":path")) {
        r->path = h2_request_keep(r, value);
    } else if (slice_is(name, ":authority")) {
        r->authority = h2_request_keep(r, value);
    } else if (slice_is(name, ":scheme")) {
        r->scheme = h2_request_keep(r, value);
    }
}

/* Pseudo-header fields end where the others begin. The authority stands for the Host field. */
static void h2_request_put_line(struct h2_request *r)
{
    if (r->line) {
        return;
    }
    r->line = true;
    r->head = slice_is(h2_request_word(r, r->method), "HEAD");
    http_head_put_line(&r->http, h2_request_word(r, r->method), h2_request_word(r, r->path));
    if (r->authority.n) {
        http_head_put_field(&r->http, slice_str("host"), h2_request_word(r, r->authority));
    }
}

void h2_request_field(struct h2_request *r, struct slice name, struct slice value)
{
    if (r->http.state == HTTP_FAILED) {
        return; /* it will be refused; only the decoder needs the rest */
    }
    if (name.n && name.p[0] == ':') {
        h2_request_pseudo(r, name, value);
        return;
    }
    h2_request_put_line(r);
    if (slice_is(name, "cookie")) {
        int rc = r->cookie.len ? strbuf_append(&r->cookie, "; ", 2) : 0;
        rc = rc ? rc : strbuf_append(&r->cookie, value.p, value.n);
        if (rc) {
            h2_request_too_long(r, rc);
        }
        return;
    }
    if (slice_is(name, "host") && r->authority.n &&
        slice_eq_nocase(value, h2_request_word(r, r->authority))) {
        return; /* said twice; where they differ there are two Host fields, which is refused */
    }
    http_head_put_field(&r->http, name, value);
}

void h2_request_head_done(struct h2_request *r, bool ended)
{
    struct http_request *rq = &r->http;
    struct slice scheme = h2_request_word(r, r->scheme);
    h2_request_put_line(r);
    if (r->cookie.len && rq->state != HTTP_FAILED) {
        http_head_put_field(rq, slice_str("cookie"), strbuf_slice(&r->cookie));
    }
    strbuf_clear(&r->cookie);
    if (rq->state != HTTP_FAILED) {
        http_head_complete(rq);
    }
    if (!slice_is_nocase(scheme, "http") && !slice_is_nocase(scheme, "https")) {
        http_fail(rq, 400, "the scheme must be http or https");
    }
    strbuf_clear(&r->words);
    if (rq->state != HTTP_FAILED) {
        rq->state = ended ? HTTP_COMPLETE : HTTP_BODY;
    }
}

void h2_request_body(struct h2_request *r, const char *data, size_t len)
{
    http_body_append(&r->http, data, len);
    http_body_count(&r->http);
}

void h2_request_end(struct h2_request *r)
{
    if (r->http.state == HTTP_BODY) {
        r->http.state = HTTP_COMPLETE;
    }
}
