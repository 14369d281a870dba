/* Outbound HTTP and HTTPS: what the broker itself asks other servers, on the loop, never blocking.
 *
 * libcurl does the protocol, TLS and the look-up of names (on threads of its own); the loop watches
 * its sockets. One client per process, so that its caps hold for all callers: at most `max_active`
 * requests are on the wire, at most `max_queued` wait, the rest is refused. Not for those few that
 * the broker itself cannot do without: they are `own`.
 *
 * Meant for servers that an operator has named, not for addresses that a stranger chooses: still,
 * redirects are answers and not followed, only http and https exist, proxies of the environment are
 * ignored, certificates are verified (TLS 1.2 or later), and bodies are taken as they come (no
 * decompression, which could be a bomb). */
#ifndef NET_CLIENT_HTTP_CLIENT_H
#define NET_CLIENT_HTTP_CLIENT_H

#include "base/err.h"
#include "base/slice.h"
#include "net/loop.h"
#include "net/metrics.h"

#include <stddef.h>
#include <stdint.h>

struct http_client;

enum {
    HTTP_CLIENT_URL_MAX_BYTES = 8 * 1024,
    HTTP_CLIENT_HEADERS_MAX_BYTES = 32 * 1024, /* of an answer */
};

struct http_client_options {
    unsigned max_active; /* requests on the wire at once */
    unsigned max_queued; /* that wait for one of those to end */
    unsigned max_idle;   /* connections kept open for the next request */
};

struct http_client_header {
    struct slice name, value;
};

/* Everything is copied. */
struct http_client_request {
    bool own;        /* no cap is asked, none is filled: its caller has few at a time */
    bool post;       /* else GET */
    const char *url; /* see http_client_check_url() */
    const struct http_client_header *headers;
    size_t header_count;
    struct slice body;         /* of a POST; absent: empty */
    unsigned timeout_ms;       /* for everything, waiting included; > 0 */
    size_t max_response_bytes; /* of the body: a longer one is UV_EMSGSIZE */
    const char *ca_file;       /* PEM, instead of the system's authorities; NULL: those */
};

/* A complete answer, whatever its status. Borrowed for the call. */
struct http_client_response {
    int status;
    struct slice body; /* never absent */
    struct slice head; /* of http_client_header() */
};

/* Exactly one of `res` and `e` is NULL. Codes of `e`:
 *   UV_ETIMEDOUT     no complete answer in time
 *   UV_ENOTCONN      no connection: name unknown, refused, unreachable
 *   UV_EACCES        TLS: the certificate, or what was negotiated, is not to be trusted
 *   UV_ECONNRESET    the connection ended before the answer did; the request may have been carried
 *                    out
 *   UV_EPROTO        what came is not HTTP
 *   UV_EMSGSIZE      more body than max_response_bytes, or more head than is sane
 *   UV_ECANCELED     the client was closed */
typedef void (*http_client_cb)(void *ctx, uint64_t token, const struct http_client_response *res,
                               const struct err *e);

/* Borrows loop and metrics until it is closed. NULL: libcurl cannot start; `e` says why. */
struct http_client *http_client_new(struct loop *loop, const struct http_client_options *opt,
                                    struct net_metrics *metrics, struct err *e);
/* 0: accepted; `cb` is called exactly once, from a flush step after this call, unless the request
 * is cancelled. Otherwise nothing is called, and `e` says why: UV_EINVAL (URL, header, timeout),
 * UV_EAGAIN (all of max_active and max_queued taken), UV_ECANCELED (closing). `id` may be NULL. */
int http_client_start(struct http_client *c, const struct http_client_request *rq,
                      http_client_cb cb, void *ctx, uint64_t token, uint64_t *id, struct err *e);
/* Nothing is called back for it any more; a connection that it used is closed. An id that is done
 * is no mistake. */
void http_client_cancel(struct http_client *c, uint64_t id);
/* What was accepted completes with UV_ECANCELED, in a later turn than this call but before
 * `closed` (may be NULL); by then no handle of the client is left. Requests are refused from now
 * on, until http_client_free(). */
void http_client_close(struct http_client *c, void (*closed)(void *ctx), void *ctx);
/* After `closed`, or the end of the loop. NULL is fine. */
void http_client_free(struct http_client *c);

/* The last field of that name (any case), without the white space around it; absent: none. */
struct slice http_client_header(const struct http_client_response *res, const char *name);

/* Of the libcurl found at run time. */
const char *http_client_libcurl_version(void);
/* An absolute http or https URL with a host, without user, password and fragment? 0, or UV_EINVAL
 * with a reason. */
int http_client_check_url(const char *url, struct err *e);
/* "Name: value" taken apart, borrowed from `line`; an absent name where there is no colon. */
struct http_client_header http_client_split_header(const char *line);
/* May it be sent? A name must be a token (RFC 9110, 5.6.2) and not one of those that frame a
 * message or belong to one connection; a value has no control character but the tab. */
int http_client_check_header(const struct http_client_header *h, struct err *e);

#endif
