#include "auth/keyring.h"

#include "auth/jwt_cache.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/jitter.h"
#include "base/logging.h"
#include "base/program/read_file.h"
#include "base/require.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <uv.h>

enum {
    TICK_MS = 250,
    FILE_TICKS = 20, /* files are looked at every so many ticks */
    FETCH_TIMEOUT_MS = 10000,
    RETRY_FIRST_MS = 1000,
    RETRY_MOST_MS = 60000,
};

struct keyset {
    struct keyring *k;
    char *name, *where, *ca_file; /* owned; of a secret `where` is NULL */
    enum key_source source;
    unsigned wanted;     /* as configured; 0: all */
    unsigned algs;       /* what tokens may be signed with */
    struct jwks *keys;   /* a reference; NULL: not fetched yet */
    uint64_t generation; /* of the keys; never that of others */

    struct stat seen; /* of a file, when it was read */

    uint64_t refresh_ms, stale_ms, fresh_ms;
    uint64_t tried_ms, fetched_ms, due_ms;       /* loop time; 0: never */
    uint64_t fetch;                              /* id of the running request; 0: none */
    unsigned failures;                           /* in a row */
    unsigned char text_digest[JWT_DIGEST_BYTES]; /* of what the keys were read from */
};

struct keyring {
    size_t n;
    struct keyset *sets; /* owned */
    uint64_t generations;
    struct jitter jitter;
    struct jwt_cache *cache; /* owned */
    EVP_MD_CTX *md;          /* owned */
    struct loop *loop;       /* NULL: not started; so are the two below */
    struct http_client *client;
    struct auth_metrics *metrics;
    struct auth_metrics unseen; /* what is counted before the start */
    struct deadline tick;
    unsigned ticks;
};

/* ---------------------------------------------------------------- digests */

static void digest_start(struct keyring *k)
{
    REQUIRE(EVP_DigestInit_ex(k->md, EVP_sha256(), NULL) == 1);
}

static void digest_add(struct keyring *k, const void *p, size_t n)
{
    REQUIRE(EVP_DigestUpdate(k->md, p, n) == 1);
}

/* With its length, so that no two lists of texts look the same. */
static void digest_add_text(struct keyring *k, struct slice text)
{
    size_t n = text.p ? text.n + 1 : 0; /* an absent one is not an empty one */
    digest_add(k, &n, sizeof n);
    digest_add(k, text.p, text.n);
}

static void digest_end(struct keyring *k, unsigned char out[JWT_DIGEST_BYTES])
{
    REQUIRE(EVP_DigestFinal_ex(k->md, out, NULL) == 1);
}

/* Of everything that decides about a token but the time. */
static void question_digest(const struct keyset *s, struct slice token, const struct jwt_options *o,
                            unsigned char out[JWT_DIGEST_BYTES])
{
    struct keyring *k = s->k;
    const uint64_t fixed[] = {s->generation,   o->algs,    (uint64_t)o->leeway_s,
                              o->exp_optional, o->any_aud, o->aud_n};
    digest_start(k);
    digest_add(k, fixed, sizeof fixed);
    for (size_t i = 0; i < o->aud_n; i++) {
        digest_add_text(k, o->aud[i]);
    }
    digest_add_text(k, o->iss);
    digest_add_text(k, o->typ);
    digest_add_text(k, token);
    digest_end(k, out);
}

/* ---------------------------------------------------------------- keys */

/* A secret's final newline is the editor's. */
static struct slice without_newline(struct slice s)
{
    s.n -= s.n > 0 && s.p[s.n - 1] == '\n';
    s.n -= s.n > 0 && s.p[s.n - 1] == '\r';
    return s;
}

static int keyring_parse(const struct keyset *s, struct slice text, struct jwks **out,
                         struct err *e)
{
    switch (s->source) {
    case KEY_SECRET:
        return jwks_from_secret(text, s->algs, out, e);
    case KEY_SECRET_FILE:
        return jwks_from_secret(without_newline(text), s->algs, out, e);
    case KEY_PUBLIC_FILE:
        return jwks_from_pem(text, s->algs, out, e);
    case KEY_JWKS_FILE:
    case KEY_JWKS_URL:
    default:
        return jwks_parse(text, s->algs, s->name, out, e);
    }
}

/* A secret that is too short for an algorithm it was given for is an error, where a public key
 * that fits none may be one of several. */
static int check_secret(const struct keyset *s, const struct jwks *keys, struct err *e)
{
    unsigned missing = keys->symmetric ? s->wanted & ~keys->algs : 0;
    for (int i = 0; i < JWT_ALG_COUNT; i++) {
        if (missing & JWA_BIT(i)) {
            return err_set(e, UV_EINVAL, "the secret is too short for %s: at least %zu bytes",
                           jwa_table[i].name, jwa_table[i].digest_bytes);
        }
    }
    return 0;
}

static void update_gauge(struct keyring *k)
{
    k->metrics->key_sets_unavailable = 0;
    for (size_t i = 0; i < k->n; i++) {
        k->metrics->key_sets_unavailable += k->sets[i].keys == NULL;
    }
}

/* Makes the keys of what the source said. The same text again changes nothing, so that verified
 * tokens stay known; *is_new says so. On failure the old keys stay. */
static int keyset_take(struct keyset *s, struct slice text, bool *is_new, struct err *e)
{
    unsigned char digest[JWT_DIGEST_BYTES];
    struct jwks *keys = NULL;
    digest_start(s->k);
    digest_add(s->k, text.p, text.n);
    digest_end(s->k, digest);
    *is_new = !s->keys || CRYPTO_memcmp(digest, s->text_digest, sizeof digest) != 0;
    if (!*is_new) {
        return 0;
    }
    int rc = keyring_parse(s, text, &keys, e);
    rc = rc ? rc : check_secret(s, keys, e);
    if (rc) {
        jwks_free(keys);
        return rc;
    }
    jwks_free(s->keys);
    s->keys = keys;
    s->generation = ++s->k->generations;
    memcpy(s->text_digest, digest, sizeof digest);
    update_gauge(s->k);
    return 0;
}

/* ---------------------------------------------------------------- files */

/* Read at start, again when the file changes. */
static int read_key_file(struct keyset *s, bool *is_new, struct err *e)
{
    struct strbuf text;
    FILE *f = fopen(s->where, "re");
    if (!f) {
        return err_set(e, -errno, "%s: cannot be read: %s", s->where, uv_strerror(-errno));
    }
    strbuf_init(&text, JWKS_MAX_BYTES);
    int rc = fstat(fileno(f), &s->seen) ? -errno : read_stream(f, &text);
    if (rc) {
        (void)(rc == UV_ENOBUFS
                   ? err_set(e, UV_EINVAL, "%s: is longer than %d bytes", s->where,
                             (int)JWKS_MAX_BYTES)
                   : err_set(e, rc, "%s: cannot be read: %s", s->where, uv_strerror(rc)));
    }
    fclose(f); /* opened for reading: nothing to lose */
    if (rc == 0 && keyset_take(s, strbuf_slice(&text), is_new, e)) {
        rc = err_context(e, "%s", s->where);
    }
    if (text.data) {
        OPENSSL_cleanse(text.data, text.cap);
    }
    strbuf_clear(&text);
    return rc;
}

static bool key_file_changed(const struct keyset *s)
{
    struct stat now;
    return stat(s->where, &now) == 0 &&
           (now.st_mtim.tv_sec != s->seen.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != s->seen.st_mtim.tv_nsec || now.st_size != s->seen.st_size ||
            now.st_ino != s->seen.st_ino || now.st_dev != s->seen.st_dev);
}

/* Reads it where it has changed, or `force`; the old keys stay where that fails. */
static void reread_key_file(struct keyset *s, bool force)
{
    struct err e;
    bool is_new = false;
    if (!force && !key_file_changed(s)) {
        return;
    }
    if (read_key_file(s, &is_new, &e)) {
        s->k->metrics->key_read_failures++;
        log_error("keys", "the old keys stay: the file is invalid",
                  LOG_F(log_str("keys", s->name), log_str("error", e.text)));
        return;
    }
    s->k->metrics->key_reads++;
    if (is_new) {
        log_info("keys", "keys read again",
                 LOG_F(log_str("keys", s->name), log_uint("count", s->keys->n)));
    }
}

/* ---------------------------------------------------------------- URLs */

/* Fetched in the background, at start and then every refresh_s, sooner when that failed or a token
 * names a key that is not there. */
static void on_fetched(void *ctx, uint64_t token, const struct http_client_response *res,
                       const struct err *e);

/* So that brokers started together do not ask together: up to a tenth sooner. */
static uint64_t jittered(struct keyring *k, uint64_t ms)
{
    return jitter_between(&k->jitter, ms - ms / 10, ms);
}

static void failed(struct keyset *s, const char *why)
{
    uint64_t wait = (uint64_t)RETRY_FIRST_MS << (s->failures < 6 ? s->failures : 6);
    uint64_t most = s->refresh_ms < RETRY_MOST_MS ? s->refresh_ms : RETRY_MOST_MS;
    s->failures++;
    s->k->metrics->key_read_failures++;
    s->due_ms = loop_now(s->k->loop) + jittered(s->k, wait < most ? wait : most);
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
static int keyring_take(struct keyset *s, const struct http_client_response *res, struct err *e)
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
    struct keyset *s = ctx; /* lives as long as the keyring, which cancels running requests */
    struct err why;
    (void)token;
    s->fetch = 0;
    if (!res || keyring_take(s, res, &why)) {
        failed(s, res ? why.text : e->text);
        return;
    }
    s->failures = 0;
    s->fetched_ms = loop_now(s->k->loop);
    s->due_ms = s->fetched_ms + jittered(s->k, s->refresh_ms);
    s->k->metrics->key_reads++;
}

/* Fetches where it is due. */
static void keyset_tick(struct keyset *s)
{
    uint64_t now = loop_now(s->k->loop);
    if (s->keys && now - s->fetched_ms > s->stale_ms) {
        log_error("keys", "keys are too old to be used: they could not be fetched again",
                  LOG_F(log_str("keys", s->name), log_str("url", s->where)));
        jwks_free(s->keys);
        s->keys = NULL;
    }
    if (!s->fetch && now >= s->due_ms) {
        fetch(s);
    }
}

/* A token names a key that is not there. True: what there is may be out of date, ask again later.
 */
static bool keyset_look_for_more(struct keyset *s)
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

/* ---------------------------------------------------------------- tokens */

static enum jwt_outcome verify_anew(struct keyset *s, struct slice token,
                                    const struct jwt_options *o, int64_t now_s, struct jwt *out)
{
    enum jwt_outcome outcome = jwt_verify(s->keys, token, o, now_s, out);
    if (outcome == JWT_FAILED) {
        out->why = "memory is short";
    } else if (outcome == JWT_UNKNOWN_KEY && keyset_look_for_more(s)) {
        out->why = "the token's key is not known yet, keys are being fetched";
        return JWT_FAILED;
    }
    return outcome == JWT_UNKNOWN_KEY ? JWT_BAD : outcome;
}

static enum jwt_outcome keyring_count(struct auth_metrics *m, enum jwt_outcome outcome)
{
    m->tokens_verified += outcome == JWT_OK;
    m->tokens_refused += outcome == JWT_BAD;
    m->tokens_unanswered += outcome == JWT_FAILED;
    return outcome;
}

enum jwt_outcome keyset_verify(struct keyset *s, struct slice token, const struct jwt_options *o,
                               int64_t now_s, struct jwt *out)
{
    unsigned char digest[JWT_DIGEST_BYTES];
    struct keyring *k = s->k;
    if (!s->keys) {
        out->why = "keys are not available yet";
        return keyring_count(k->metrics, JWT_FAILED);
    }
    if (token.n > JWT_MAX_BYTES) { /* not even worth a digest */
        return keyring_count(k->metrics, jwt_verify(s->keys, token, o, now_s, out));
    }
    question_digest(s, token, o, digest);
    struct slice known = jwt_cache_get(k->cache, digest, now_s);
    if (known.p && strbuf_append(&out->claims, known.p, known.n) == 0) {
        k->metrics->tokens_cached++;
        return JWT_OK;
    }
    enum jwt_outcome outcome = verify_anew(s, token, o, now_s, out);
    if (outcome == JWT_OK) {
        jwt_cache_put(k->cache, digest, strbuf_slice(&out->claims), out->from_s, out->till_s);
        k->metrics->token_cache_bytes = jwt_cache_bytes(k->cache);
    }
    return keyring_count(k->metrics, outcome);
}

/* ---------------------------------------------------------------- sets */

struct keyset *keyring_find(struct keyring *k, struct slice name)
{
    for (size_t i = 0; k && i < k->n; i++) {
        if (slice_is(name, k->sets[i].name)) {
            return &k->sets[i];
        }
    }
    return NULL;
}

struct keyset *keyring_at(struct keyring *k, size_t i)
{
    return k && i < k->n ? &k->sets[i] : NULL;
}

const char *keyset_name(const struct keyset *s)
{
    return s->name;
}

unsigned keyset_algs(const struct keyset *s)
{
    return s->algs;
}

/* ---------------------------------------------------------------- time */

static void keyring_on_tick(struct deadline *d)
{
    struct keyring *k = container_of(d, struct keyring, tick);
    bool files = ++k->ticks % FILE_TICKS == 0;
    for (struct keyset *s = k->sets; s < k->sets + k->n; s++) {
        if (s->source == KEY_JWKS_URL) {
            keyset_tick(s);
        } else if (files && s->source != KEY_SECRET) {
            reread_key_file(s, false);
        }
    }
    update_gauge(k);
    deadline_arm(loop_deadline_class(k->loop, TICK_MS, keyring_on_tick), &k->tick);
}

void keyring_reload(struct keyring *k)
{
    for (size_t i = 0; k && i < k->n; i++) {
        if (k->sets[i].source == KEY_JWKS_URL) {
            k->sets[i].due_ms = 0;
        } else if (k->sets[i].source != KEY_SECRET) {
            reread_key_file(&k->sets[i], true);
        }
    }
}

/* ---------------------------------------------------------------- life */

static char *copy(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

/* What a source can be used with, before the configuration narrows it: a secret that came over the
 * network would let everybody sign who can read it. */
static unsigned algs_of_source(enum key_source source)
{
    switch (source) {
    case KEY_SECRET:
    case KEY_SECRET_FILE:
        return jwa_symmetric();
    case KEY_PUBLIC_FILE:
    case KEY_JWKS_URL:
        return jwa_asymmetric();
    case KEY_JWKS_FILE:
    default:
        return jwa_symmetric() | jwa_asymmetric();
    }
}

static int keyring_load(struct keyset *s, struct slice secret, struct err *e)
{
    bool is_new;
    int rc = 0;
    if (s->wanted & ~s->algs) {
        return err_set(e, UV_EINVAL,
                       "algorithms: HS256, HS384 and HS512 are of secrets, the others of public "
                       "keys");
    }
    if (s->source == KEY_SECRET) {
        rc = keyset_take(s, secret, &is_new, e);
    } else if (s->source != KEY_JWKS_URL) {
        rc = read_key_file(s, &is_new, e);
    }
    if (rc == 0 && s->keys) { /* a file that changes cannot change sides */
        s->algs &= s->keys->symmetric ? jwa_symmetric() : jwa_asymmetric();
    }
    return rc;
}

static int open_set(struct keyring *k, struct keyset *s, const struct keyset_options *o,
                    struct err *e)
{
    *s = (struct keyset){
        .k = k,
        .name = xstrdup(o->name),
        .where = o->source == KEY_SECRET ? NULL : xstrdup(o->where),
        .ca_file = copy(o->ca_file),
        .source = o->source,
        .wanted = o->algs,
        .algs = algs_of_source(o->source) & (o->algs ? o->algs : ~0U),
        .refresh_ms = (uint64_t)o->refresh_s * 1000,
        .stale_ms = (uint64_t)o->stale_s * 1000,
        .fresh_ms = o->fresh_ms,
    };
    k->n++;
    int rc = keyring_load(s, slice_str(o->where), e);
    return rc ? err_context(e, "keys.%s", o->name) : 0;
}

int keyring_open(struct keyring **out, const struct keyset_options *v, size_t n, size_t cache_bytes,
                 struct err *e)
{
    struct keyring *k = xcalloc(1, sizeof *k);
    jitter_init(&k->jitter);
    k->sets = xcalloc(n, sizeof *k->sets);
    k->cache = jwt_cache_new(cache_bytes);
    k->md = EVP_MD_CTX_new();
    k->metrics = &k->unseen;
    deadline_init(&k->tick);
    REQUIRE(k->md);
    for (size_t i = 0; i < n; i++) {
        int rc = open_set(k, &k->sets[i], &v[i], e);
        if (rc) {
            keyring_close(k);
            return rc;
        }
    }
    *out = k;
    return 0;
}

void keyring_start(struct keyring *k, struct loop *loop, struct http_client *client,
                   struct auth_metrics *metrics)
{
    k->loop = loop;
    k->client = client;
    k->metrics = metrics;
    metrics->key_sets = k->n;
    if (k->n > 0) {
        keyring_on_tick(&k->tick);
    }
}

void keyring_stop(struct keyring *k)
{
    for (size_t i = 0; k && k->client && i < k->n; i++) {
        if (k->sets[i].fetch) {
            http_client_cancel(k->client, k->sets[i].fetch);
            k->sets[i].fetch = 0;
        }
    }
    if (k) {
        deadline_disarm(&k->tick);
        k->client = NULL;
    }
}

void keyring_close(struct keyring *k)
{
    keyring_stop(k);
    if (!k) {
        return;
    }
    for (struct keyset *s = k->sets; s < k->sets + k->n; s++) {
        jwks_free(s->keys);
        free(s->name);
        free(s->where);
        free(s->ca_file);
    }
    jwt_cache_free(k->cache);
    EVP_MD_CTX_free(k->md);
    free(k->sets);
    free(k);
}
