/* See edge_routes.h. */
#include "broker/edge_routes.h"

#include "broker/broker_parts.h"
#include "broker/refusal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACME_PREFIX "/.well-known/acme-challenge/"
#define ACME_METHODS "GET, HEAD"

enum {
    TOKEN_MAX_BYTES = 128,      /* RFC 8555 asks for 128 bits of entropy, in base64url */
    CHALLENGE_MAX_BYTES = 4096, /* a token, a dot, a digest */
};

/* ---------------------------------------------------------------- challenges (RFC 8555, 8.3) */

static bool edge_is_token(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_';
        if (!good) {
            return false;
        }
    }
    return name.n > 0 && name.n <= TOKEN_MAX_BYTES;
}

/* Below the webroot nothing is followed that leads elsewhere. -1: not there. */
static int edge_open_challenge(const char *webroot, const char *token)
{
    static const char *const steps[] = {".well-known", "acme-challenge"};
    int at = open(webroot, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && at >= 0; i++) {
        int next = openat(at, steps[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        (void)close(at);
        at = next;
    }
    if (at < 0) {
        return -1;
    }
    int fd = openat(at, token, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    (void)close(at);
    return fd;
}

/* Answers the bytes read; -1: there is no such file, or it is not what it should be. */
static ssize_t edge_read_challenge(const char *webroot, struct slice token, char *out)
{
    char name[TOKEN_MAX_BYTES + 1];
    struct stat st;
    memcpy(name, token.p, token.n);
    name[token.n] = '\0';
    int fd = edge_open_challenge(webroot, name);
    if (fd < 0) {
        return -1;
    }
    ssize_t n = -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= CHALLENGE_MAX_BYTES) {
        n = read(fd, out, CHALLENGE_MAX_BYTES);
    }
    (void)close(fd);
    return n;
}

static void edge_challenge(const struct broker *b, struct stream *s, const struct http_request *rq)
{
    static const char prefix[] = ACME_PREFIX;
    char body[CHALLENGE_MAX_BYTES];
    struct slice token = slice_of(rq->path.p + sizeof prefix - 1, rq->path.n - (sizeof prefix - 1));
    if (rq->method != HTTP_GET && rq->method != HTTP_HEAD_METHOD) {
        refuse_method(b->refusals, s, ACME_METHODS);
        return;
    }
    ssize_t n = edge_is_token(token) ? edge_read_challenge(b->opt.acme_webroot, token, body) : -1;
    if (n < 0) {
        refuse(b->refusals, s, 404, slice_str("there is no such challenge"));
        return;
    }
    struct http_response r = {.status = 200,
                              .content_type = "application/octet-stream",
                              .body = slice_of(body, (size_t)n),
                              .fields = slice_str(HTTP_ANSWER_FIELDS)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
}

/* ---------------------------------------------------------------- to https */

/* The host without its port; both were checked by the parser. */
static struct slice edge_host_name(struct slice host)
{
    const char *from = host.n && host.p[0] == '[' ? memchr(host.p, ']', host.n) : host.p;
    const char *colon = from ? memchr(from, ':', host.n - (size_t)(from - host.p)) : NULL;
    return colon ? slice_of(host.p, (size_t)(colon - host.p)) : host;
}

static void edge_redirect(const struct broker *b, struct stream *s, const struct http_request *rq)
{
    struct strbuf fields;
    struct slice host = edge_host_name(rq->host);
    char port[8] = "";
    if (host.n == 0 || rq->path.n == 0 || rq->path.p[0] != '/') { /* HTTP/1.0, "OPTIONS *" */
        refuse(
            b->refusals, s, 400,
            slice_str(
                "this listener sends clients to https: the request must name a host and a path"));
        return;
    }
    if (b->opt.https_port != 443) {
        snprintf(port, sizeof port, ":%u", b->opt.https_port);
    }
    strbuf_init(&fields, rq->limits->head_bytes + 4096);
    int rc =
        strbuf_printf(&fields, HTTP_ANSWER_FIELDS "Location: https://%.*s%s%.*s%s%.*s\r\n",
                      (int)host.n, host.p, port, (int)rq->path.n, rq->path.p,
                      rq->query.p ? "?" : "", (int)rq->query.n, rq->query.p ? rq->query.p : "");
    rc = rc ? rc : http_cors_fields(&b->opt.cors, rq, &fields);
    if (rc) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        struct http_response r = {.status = 308, .fields = strbuf_slice(&fields)};
        (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    }
    strbuf_clear(&fields);
}

bool edge_route(const struct broker *b, struct stream *s, const struct http_request *rq)
{
    static const char prefix[] = ACME_PREFIX;
    if (b->opt.acme_webroot && rq->path.n >= sizeof prefix - 1 &&
        memcmp(rq->path.p, prefix, sizeof prefix - 1) == 0) {
        edge_challenge(b, s, rq);
        return true;
    }
    if (rq->redirect && !rq->secure) {
        edge_redirect(b, s, rq);
        return true;
    }
    return false;
}
