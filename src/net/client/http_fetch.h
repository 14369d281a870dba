/* One HTTP or HTTPS request of a command: it blocks, and passes the body on as it comes. libcurl
 * does the protocol. For programs that have nothing else to do; the broker itself uses
 * http_client.h. */
#ifndef NET_CLIENT_HTTP_FETCH_H
#define NET_CLIENT_HTTP_FETCH_H

#include "base/err.h"
#include "base/slice.h"
#include "net/client/http_client.h"

#include <stdbool.h>
#include <stddef.h>

/* Keeps the connection for the next request. */
struct http_fetch;

/* Everything is borrowed for the call. */
struct http_fetch_request {
    const char *method; /* "GET", "POST" */
    const char *url;    /* see http_client_check_url() */
    const char *socket; /* path of a Unix socket to connect to, whatever the URL says; NULL: none */
    const struct http_client_header *headers;
    size_t header_count;
    struct slice body;   /* of a POST; absent: empty */
    const char *ca_file; /* PEM, instead of the system's authorities; NULL: those */
    bool h2;             /* HTTP/2 where the server has it (TLS); else HTTP/1.1 */
    bool gzip;           /* asks for a compressed body; it is passed on unpacked */
    unsigned connect_ms; /* to connect; > 0 */
    unsigned silence_ms; /* longest time without a byte; > 0 */
    /* A piece of the body. False: enough was read. */
    bool (*on_body)(void *ctx, struct http_fetch *f, struct slice bytes);
    bool (*stop)(void *ctx); /* asked several times a second; true: give up. NULL: never */
    void *ctx;
};

struct http_fetch_result {
    int status;               /* 0: no head came */
    bool stopped;             /* by on_body or stop; no error */
    bool h2;                  /* what was spoken */
    double connect_s, head_s; /* from the start until it was connected, until the first byte came */
};

/* NULL: libcurl cannot start. */
struct http_fetch *http_fetch_new(void);
/* NULL is fine. */
void http_fetch_free(struct http_fetch *f);

/* 0: the answer was read to its end, or stopped. Otherwise a code as of http_client_cb, with the
 * reason in `e`; `out` has what is known. */
int http_fetch_run(struct http_fetch *f, const struct http_fetch_request *rq,
                   struct http_fetch_result *out, struct err *e);

/* Of the answer that is being read, or was read last. */
int http_fetch_status(const struct http_fetch *f);
/* The last field of that name; absent: none. Borrowed until the next request. */
struct slice http_fetch_header(const struct http_fetch *f, const char *name);

#endif
