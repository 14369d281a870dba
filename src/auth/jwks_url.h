/* A key set behind a URL: when it is fetched. In the background, at the start and then every
 * `refresh_ms`; sooner when that failed, or when a token names a key that is not there. What was
 * fetched `stale_ms` ago may not be used any more. */
#ifndef AUTH_JWKS_URL_H
#define AUTH_JWKS_URL_H

#include "auth/metrics.h"
#include "base/err.h"
#include "base/jitter.h"
#include "net/client/http_client.h"
#include "net/loop.h"

struct jwks_url {
    /* set by the owner; borrowed */
    const char *name, *url;
    const char *ca_file; /* NULL: the system's authorities */
    uint64_t refresh_ms, stale_ms, fresh_ms;
    /* Reads keys from an answer; 0 also where they are the old ones. */
    int (*take)(void *ctx, struct slice text, struct err *e);
    void *ctx;
    struct jitter *jitter;

    struct loop *loop; /* NULL: not started; so are the two below */
    struct http_client *client;
    struct auth_metrics *metrics;
    uint64_t tried_ms, fetched_ms, due_ms; /* loop time; 0: never */
    uint64_t request;                      /* id of the running one; 0: none */
    unsigned failures;                     /* in a row */
    struct err why;                        /* of the last one; code 0: the last fetch went well */
    bool usable;                           /* what was fetched last may be used */
};

/* Borrows all three until jwks_url_stop(). */
void jwks_url_start(struct jwks_url *u, struct loop *loop, struct http_client *client,
                    struct auth_metrics *metrics);
/* Several times a second: fetches where that is due. False: what there is is too old to be used. */
bool jwks_url_tick(struct jwks_url *u);
/* Fetches at the next tick. */
void jwks_url_soon(struct jwks_url *u);
/* A token names a key that is not there. True: it is being fetched, ask again later. False: what there
 * is is `fresh_ms` young, or the URL is not fetched any more. */
bool jwks_url_look_for_more(struct jwks_url *u);
/* Cancels a running request. A second call is fine. */
void jwks_url_stop(struct jwks_url *u);

#endif
