#include "auth/jwks_url.h"

#include "auth/jwks.h"
#include "base/logging.h"

#include <uv.h>

enum {
    FETCH_TIMEOUT_MS = 10000,
    RETRY_FIRST_MS = 1000,
    RETRY_MOST_MS = 60000,
};

/* So that brokers started together do not ask together: up to a tenth sooner. */
static uint64_t jwks_url_jittered(struct jwks_url *u, uint64_t ms)
{
    return jitter_between(u->jitter, ms - ms / 10, ms);
}

static void jwks_url_failed(struct jwks_url *u, const char *why)
{
    uint64_t wait = (uint64_t)RETRY_FIRST_MS << (u->failures < 6 ? u->failures : 6);
    uint64_t most = u->refresh_ms < RETRY_MOST_MS ? u->refresh_ms : RETRY_MOST_MS;
    u->failures++;
    (void)err_set(&u->why, UV_EIO, "%s", why);
    u->metrics->key_read_failures++;
    u->due_ms = loop_now(u->loop) + jwks_url_jittered(u, wait < most ? wait : most);
    log_warn("keys",
             u->usable ? "keys cannot be fetched: the old ones are used" : "keys cannot be fetched",
             LOG_F(log_str("keys", u->name), log_str("url", u->url), log_str("error", why),
                   log_uint("failures", u->failures)));
}

static void jwks_url_on_response(void *ctx, uint64_t token, const struct http_client_response *res,
                                 const struct err *e)
{
    struct jwks_url *u = ctx; /* its owner cancels a running request */
    struct err why;
    (void)token;
    u->request = 0;
    if (!res) {
        jwks_url_failed(u, e->text);
        return;
    }
    int rc = res->status == 200 ? u->take(u->ctx, res->body, &why)
                                : err_set(&why, UV_EPROTO, "the answer was %d", res->status);
    if (rc) {
        jwks_url_failed(u, why.text);
        return;
    }
    u->usable = true;
    u->failures = 0;
    u->why = (struct err){0};
    u->fetched_ms = loop_now(u->loop);
    u->due_ms = u->fetched_ms + jwks_url_jittered(u, u->refresh_ms);
    u->metrics->key_reads++;
}

static void jwks_url_fetch(struct jwks_url *u)
{
    static const struct http_client_header accept = {{"Accept", 6}, {"application/json", 16}};
    struct err e;
    const struct http_client_request rq = {.own = true, /* one per set at most */
                                           .url = u->url,
                                           .headers = &accept,
                                           .header_count = 1,
                                           .timeout_ms = FETCH_TIMEOUT_MS,
                                           .max_response_bytes = JWKS_MAX_BYTES,
                                           .ca_file = u->ca_file};
    u->tried_ms = loop_now(u->loop);
    u->due_ms = u->tried_ms + u->refresh_ms;
    if (http_client_start(u->client, &rq, jwks_url_on_response, u, 0, &u->request, &e)) {
        u->request = 0;
        jwks_url_failed(u, e.text);
    }
}

void jwks_url_start(struct jwks_url *u, struct loop *loop, struct http_client *client,
                    struct auth_metrics *metrics)
{
    u->loop = loop;
    u->client = client;
    u->metrics = metrics;
}

bool jwks_url_tick(struct jwks_url *u)
{
    uint64_t now = loop_now(u->loop);
    if (u->usable && now - u->fetched_ms > u->stale_ms) {
        log_error("keys", "keys are too old to be used: they could not be fetched again",
                  LOG_F(log_str("keys", u->name), log_str("url", u->url)));
        u->usable = false;
    }
    if (!u->request && now >= u->due_ms) {
        jwks_url_fetch(u);
    }
    return u->usable;
}

void jwks_url_soon(struct jwks_url *u)
{
    u->due_ms = 0;
}

bool jwks_url_look_for_more(struct jwks_url *u)
{
    if (!u->client) {
        return false;
    }
    uint64_t now = loop_now(u->loop);
    if (now - u->fetched_ms < u->fresh_ms) {
        return false;
    }
    if (!u->request && now - u->tried_ms >= u->fresh_ms) {
        jwks_url_fetch(u);
    }
    return true;
}

void jwks_url_stop(struct jwks_url *u)
{
    if (u->request) {
        http_client_cancel(u->client, u->request);
    }
    u->request = 0;
    u->client = NULL;
}
