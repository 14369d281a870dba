/* Private to http_client.c (requests), http_client_curl.c (libcurl's sockets on the loop),
 * http_client_transfer.c (one request as libcurl sees it) and http_fetch.c (which shares the latter's
 * functions). */
#ifndef NET_CLIENT_HTTP_CLIENT_STATE_H
#define NET_CLIENT_HTTP_CLIENT_STATE_H

#include "base/strbuf.h"
#include "net/client/http_client.h"
#include "net/job_pool.h"

#include <curl/curl.h>

/* One request, from acceptance to its callback. */
struct http_transfer {
    struct job job; /* active: libcurl has it */
    struct http_client *client;
    CURL *easy;                 /* owned */
    struct curl_slist *headers; /* owned */
    struct strbuf head, body;   /* of the answer */
    bool too_large;
    char curl_says[CURL_ERROR_SIZE];
    struct err e; /* code 0: there is an answer */
    http_client_cb cb;
    void *ctx;
    uint64_t token;
};

struct http_client {
    struct loop *loop;
    struct http_client_options opt;
    struct net_metrics *metrics;
    CURLM *multi; /* owned */
    struct job_pool jobs;
    uv_timer_t curl_timer; /* when libcurl wants to be called */
    unsigned handles;      /* open, the pool's aside */
};

/* http_client_transfer.c */
int http_transfer_new(struct http_client *c, const struct http_client_request *rq,
                      struct http_transfer **out, struct err *e);
void http_transfer_free(struct http_transfer *t);
/* What libcurl's verdict means: fills t->e. */
void http_transfer_result(struct http_transfer *t, CURLcode rc);
/* The same as a code of http_client_cb. */
int http_client_code_of(CURLcode rc);
/* A line of an answer's head; those of an interim answer (1xx) are forgotten when the next begins. 0, or
 * what strbuf says. */
int http_client_take_head(struct strbuf *head, struct slice line);
/* Appends to a list of libcurl, which stays as it is on failure. 0, or UV_ENOMEM. */
int http_client_add_line(struct curl_slist **list, const char *line);
/* Checks it, too. 0, or a code with the reason in `e`. */
int http_client_add_header(struct curl_slist **list, const struct http_client_header *h,
                           struct err *e);

/* http_client_curl.c */
int http_curl_open(struct http_client *c, struct err *e);
/* Lets libcurl go of its idle connections. */
void http_curl_close(struct http_client *c);

/* http_client.c */
void http_client_transfer_done(struct http_transfer *t, CURLcode rc);
void http_client_handle_closed(struct http_client *c);

#endif
