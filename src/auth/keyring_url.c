/* Key sets behind a URL: fetched in the background, at start and then every refresh_s, sooner when
 * that failed or a token names a key that is not there. See keyring.h. */
#include "auth/keyring_state.h"
#include "base/hash.h"
#include "base/logging.h"

#include <uv.h>

enum {
    FETCH_TIMEOUT_MS = 10000,
    RETRY_FIRST_MS = 1000,
    RETRY_MOST_MS = 60000,
};

static void on_fetched(void *ctx, uint64_t token, const struct http_client_response *res,
                       const struct err *e);

/* So that brokers started together do not ask together: up to a tenth sooner. */
static uint64_t jittered(uint64_t ms)
{
    struct hash_key random;
    hash_key_init(&random);
    return ms - random.k0 % (ms / 10 + 1);
}

static void failed(struct keyset *s, const char *why)
{
    uint64_t wait = (uint64_t)RETRY_FIRST_MS << (s->failures < 6 ? s->failures : 6);
    uint64_t most = s->refresh_ms < RETRY_MOST_MS ? s->refresh_ms : RETRY_MOST_MS;
    s->failures++;
    s->k->metrics->key_read_failures++;
    s->due_ms = loop_now(s->k->loop) + jittered(wait < most ? wait : most);
    log_warn("keys",
             s->keys ? "keys cannot be fetched: the old ones are used" : "keys cannot be fetched",
             LOG_F(log_str("keys", s->name), log_str("url", s->where), log_str("error", why),
                   log_uint("failures", s->failures)));
}

static void fetch(struct keyset *s)
{
    static const struct http_client_header accept = {{"Accept", 6}, {"application/json", 16}};
    struct err e;
    const struct http_client_request rq = {.own = true, /* one per set at most */
                                           .url = s->where,
                                           .headers = &accept,
                                           .header_count = 1,
                                           .timeout_ms = FETCH_TIMEOUT_MS,
                                           .max_response_bytes = JWKS_MAX_BYTES,
                                           .ca_file = s->ca_file};
    s->tried_ms = loop_now(s->k->loop);
    s->due_ms = s->tried_ms + s->refresh_ms;
    if (http_client_start(s->k->client, &rq, on_fetched, s, 0, &s->fetch, &e)) {
        s->fetch = 0;
        failed(s, e.text);
    }
}

/* What was answered, as keys. 0 also where they are the ones that are there. */
static int take(struct keyset *s, const struct http_client_response *res, struct err *e)
{
    bool is_new;
    if (res->status != 200) {
        return err_set(e, UV_EPROTO, "the answer was %d", res->status);
    }
    if (keyset_take(s, res->body, &is_new, e)) {
        return err_context(e, "the answer");
    }
    if (is_new) {
        log_info("keys", "keys fetched",
                 LOG_F(log_str("keys", s->name), log_uint("count", s->keys->n)));
    }
    return 0;
}

static void on_fetched(void *ctx, uint64_t token, const struct http_client_response *res,
                       const struct err *e)
{
    struct keyset *s = ctx; /* lives as long as the keyring, which cancels what is under way */
    struct err why;
    (void)token;
    s->fetch = 0;
    if (!res || take(s, res, &why)) {
        failed(s, res ? why.text : e->text);
        return;
    }
    s->failures = 0;
    s->fetched_ms = loop_now(s->k->loop);
    s->due_ms = s->fetched_ms + jittered(s->refresh_ms);
    s->k->metrics->key_reads++;
}

void keyset_tick(struct keyset *s)
{
    uint64_t now = loop_now(s->k->loop);
    if (s->keys && now - s->fetched_ms > s->stale_ms) {
        log_error("keys", "keys are too old to be used: they could not be fetched again",
                  LOG_F(log_str("keys", s->name), log_str("url", s->where)));
        jwks_unref(s->keys);
        s->keys = NULL;
    }
    if (!s->fetch && now >= s->due_ms) {
        fetch(s);
    }
}

bool keyset_look_for_more(struct keyset *s)
{
    if (s->source != KEY_JWKS_URL || !s->k->client) {
        return false;
    }
    uint64_t now = loop_now(s->k->loop);
    if (now - s->fetched_ms < s->fresh_ms) {
        return false;
    }
    if (!s->fetch && now - s->tried_ms >= s->fresh_ms) {
        fetch(s);
    }
    return true;
}
