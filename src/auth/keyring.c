#include "auth/keyring.h"

#include "auth/keyring_state.h"
#include "base/logging.h"
#include "base/xalloc.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <uv.h>

enum {
    TICK_MS = 250,
    FILE_TICKS = 20, /* files are looked at every so many ticks */
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

static enum jwt_outcome count(struct auth_metrics *m, enum jwt_outcome outcome)
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
        return count(k->metrics, JWT_FAILED);
    }
    if (token.n > JWT_MAX_BYTES) { /* not even worth a digest */
        return count(k->metrics, jwt_verify(s->keys, token, o, now_s, out));
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
    return count(k->metrics, outcome);
}

/* ---------------------------------------------------------------- sets */

/* A secret's final newline is the editor's. */
static struct slice without_newline(struct slice s)
{
    s.n -= s.n > 0 && s.p[s.n - 1] == '\n';
    s.n -= s.n > 0 && s.p[s.n - 1] == '\r';
    return s;
}

static int parse(const struct keyset *s, struct slice text, struct jwks **out, struct err *e)
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

int keyset_take(struct keyset *s, struct slice text, bool *is_new, struct err *e)
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
    int rc = parse(s, text, &keys, e);
    rc = rc ? rc : check_secret(s, keys, e);
    if (rc) {
        jwks_unref(keys);
        return rc;
    }
    jwks_unref(s->keys);
    s->keys = keys;
    s->generation = ++s->k->generations;
    memcpy(s->text_digest, digest, sizeof digest);
    update_gauge(s->k);
    return 0;
}

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

static void on_tick(struct deadline *d)
{
    struct keyring *k = container_of(d, struct keyring, tick);
    bool files = ++k->ticks % FILE_TICKS == 0;
    for (struct keyset *s = k->sets; s < k->sets + k->n; s++) {
        if (s->source == KEY_JWKS_URL) {
            keyset_tick(s);
        } else if (files && s->source != KEY_SECRET) {
            keyset_reread_file(s, false);
        }
    }
    update_gauge(k);
    deadline_arm(loop_deadline_class(k->loop, TICK_MS, on_tick), &k->tick);
}

void keyring_reload(struct keyring *k)
{
    for (size_t i = 0; k && i < k->n; i++) {
        if (k->sets[i].source == KEY_JWKS_URL) {
            k->sets[i].due_ms = 0;
        } else if (k->sets[i].source != KEY_SECRET) {
            keyset_reread_file(&k->sets[i], true);
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

static int load(struct keyset *s, struct slice secret, struct err *e)
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
        rc = keyset_read_file(s, &is_new, e);
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
    int rc = load(s, slice_str(o->where), e);
    return rc ? err_context(e, "keys.%s", o->name) : 0;
}

int keyring_open(struct keyring **out, const struct keyset_options *v, size_t n, size_t cache_bytes,
                 struct err *e)
{
    struct keyring *k = xcalloc(1, sizeof *k);
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
        on_tick(&k->tick);
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
        jwks_unref(s->keys);
        free(s->name);
        free(s->where);
        free(s->ca_file);
    }
    jwt_cache_free(k->cache);
    EVP_MD_CTX_free(k->md);
    free(k->sets);
    free(k);
}
