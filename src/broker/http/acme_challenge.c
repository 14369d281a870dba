#include "broker/http/acme_challenge.h"

#include "broker/broker_parts.h"
#include "broker/refusal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACME_PREFIX "/.well-known/acme-challenge/"
#define ACME_METHODS "GET, HEAD"

enum {
    TOKEN_MAX_BYTES = 128,      /* RFC 8555 asks for 128 bits of entropy, in base64url */
    CHALLENGE_MAX_BYTES = 4096, /* a token, a dot, a digest */
};

static bool acme_is_token(struct slice name)
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
static int acme_open_challenge(const char *webroot, const char *token)
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
static ssize_t acme_read_challenge(const char *webroot, struct slice token, char *out)
{
    char name[TOKEN_MAX_BYTES + 1];
    struct stat st;
    memcpy(name, token.p, token.n);
    name[token.n] = '\0';
    int fd = acme_open_challenge(webroot, name);
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

static void acme_answer(const struct broker *b, struct stream *s, const struct http_request *rq)
{
    static const char prefix[] = ACME_PREFIX;
    char body[CHALLENGE_MAX_BYTES];
    struct slice token = slice_of(rq->path.p + sizeof prefix - 1, rq->path.n - (sizeof prefix - 1));
    if (rq->method != HTTP_GET && rq->method != HTTP_HEAD_METHOD) {
        refuse_method(b->refusals, s, ACME_METHODS);
        return;
    }
    ssize_t n = acme_is_token(token) ? acme_read_challenge(b->opt.acme_webroot, token, body) : -1;
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

bool acme_challenge(const struct broker *b, struct stream *s, const struct http_request *rq)
{
    static const char prefix[] = ACME_PREFIX;
    if (!b->opt.acme_webroot || rq->path.n < sizeof prefix - 1 ||
        memcmp(rq->path.p, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    acme_answer(b, s, rq);
    return true;
}
