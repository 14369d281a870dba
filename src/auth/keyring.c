#include "auth/keyring.h"

#include "auth/jwks_url.h"
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
    struct err why;   /* why it could not be read again; code 0: it could */

    struct jwks_url url;                         /* of a URL */
    unsigned char text_digest[JWT_DIGEST_BYTES]; /* of what the keys were read from */
};

struct keyring {
    size_t n;
    struct keyset *sets; /* owned */
    uint64_t generations;
    struct jitter jitter;
    struct jwt_cache *cache; /* owned */
    EVP_MD_CTX *md;          /* owned */
    struct loop *loop;       /* NULL: not started; so is the one below */
    struct auth_metrics *metrics;
    struct auth_metrics unseen; /* what is counted before the start */
    struct deadline tick;
    unsigned ticks;
};

/* ---------------------------------------------------------------- digests */

static void keyring_digest_start(struct keyring *k)
{
    REQUIRE(EVP_DigestInit_ex(k->md, EVP_sha256(), NULL) == 1);
}

static void keyring_digest_add(struct keyring *k, const void *p, size_t n)
{
    REQUIRE(EVP_DigestUpdate(k->md, p, n) == 1);
}

/* With its length, so that no two lists of texts look the same. */
static void keyring_digest_add_text(struct keyring *k, struct slice text)
{
    size_t n = text.p ? text.n + 1 : 0; /* an absent one is not an empty one */
    keyring_digest_add(k, &n, sizeof n);
    keyring_digest_add(k, text.p, text.n);
}

static void keyring_digest_end(struct keyring *k, unsigned char out[JWT_DIGEST_BYTES])
{
    REQUIRE(EVP_DigestFinal_ex(k->md, out, NULL) == 1);
}

/* Of everything that decides about a token but the time. */
static void keyset_question_digest(const struct keyset *s, struct slice token,
                                   const struct jwt_options *o, unsigned char out[JWT_DIGEST_BYTES])
{
    struct keyring *k = s->k;
    const uint64_t fixed[] = {s->generation,   o->algs,    (uint64_t)o->leeway_s,
                              o->exp_optional, o->any_aud, o->aud_n};
    keyring_digest_start(k);
    keyring_digest_add(k, fixed, sizeof fixed);
    for (size_t i = 0; i < o->aud_n; i++) {
        keyring_digest_add_text(k, o->aud[i]);
    }
    keyring_digest_add_text(k, o->iss);
    keyring_digest_add_text(k, o->typ);
    keyring_digest_add_text(k, token);
    keyring_digest_end(k, out);
}

/* ---------------------------------------------------------------- keys */

/* A secret's final newline is the editor's. */
static struct slice keyring_without_newline(struct slice s)
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
        return jwks_from_secret(keyring_without_newline(text), s->algs, out, e);
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
static int keyset_check_secret(const struct keyset *s, const struct jwks *keys, struct err *e)
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

static const struct err *keyset_trouble(const struct keyset *s)
{
    return s->source == KEY_JWKS_URL ? &s->url.why : &s->why;
}

static void keyring_update_gauge(struct keyring *k)
{
    k->metrics->key_sets_unavailable = k->metrics->key_sets_failing = 0;
    for (size_t i = 0; i < k->n; i++) {
        k->metrics->key_sets_unavailable += k->sets[i].keys == NULL;
        k->metrics->key_sets_failing += keyset_trouble(&k->sets[i])->code != 0;
    }
}

/* Makes the keys of what the source said. The same text again changes nothing, so that verified
 * tokens stay known; *is_new says so. On failure the old keys stay. */
static int keyset_take(struct keyset *s, struct slice text, bool *is_new, struct err *e)
{
    unsigned char digest[JWT_DIGEST_BYTES];
    struct jwks *keys = NULL;
    keyring_digest_start(s->k);
    keyring_digest_add(s->k, text.p, text.n);
    keyring_digest_end(s->k, digest);
    *is_new = !s->keys || CRYPTO_memcmp(digest, s->text_digest, sizeof digest) != 0;
    if (!*is_new) {
        return 0;
    }
    int rc = keyring_parse(s, text, &keys, e);
    rc = rc ? rc : keyset_check_secret(s, keys, e);
    if (rc) {
        jwks_free(keys);
        return rc;
    }
    jwks_free(s->keys);
    s->keys = keys;
    s->generation = ++s->k->generations;
    memcpy(s->text_digest, digest, sizeof digest);
    keyring_update_gauge(s->k);
    return 0;
}

/* ---------------------------------------------------------------- files */

/* Read at start, again when the file changes. */
static int keyset_read_file(struct keyset *s, bool *is_new, struct err *e)
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
    strbuf_wipe(&text);
    return rc;
}

static bool keyset_file_changed(const struct keyset *s)
{
    struct stat now;
    return stat(s->where, &now) == 0 &&
           (now.st_mtim.tv_sec != s->seen.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != s->seen.st_mtim.tv_nsec || now.st_size != s->seen.st_size ||
            now.st_ino != s->seen.st_ino || now.st_dev != s->seen.st_dev);
}

/* Reads it where it has changed, or `force`; the old keys stay where that fails. */
static void keyset_reread_file(struct keyset *s, bool force)
{
    struct err e;
    bool is_new = false;
    if (!force && !keyset_file_changed(s)) {
        return;
    }
    if (keyset_read_file(s, &is_new, &e)) {
        s->why = e;
        s->k->metrics->key_read_failures++;
        log_error("keys", "the old keys stay: the file is invalid",
                  LOG_F(log_str("keys", s->name), log_str("error", e.text)));
        return;
    }
    s->why = (struct err){0};
    s->k->metrics->key_reads++;
    if (is_new) {
        log_info("keys", "keys read again",
                 LOG_F(log_str("keys", s->name), log_uint("count", s->keys->n)));
    }
}

/* ---------------------------------------------------------------- URLs */

static int keyset_take_fetched(void *ctx, struct slice text, struct err *e)
{
    struct keyset *s = ctx;
    bool is_new;
    if (keyset_take(s, text, &is_new, e)) {
        return err_context(e, "the answer");
    }
    if (is_new) {
        log_info("keys", "keys fetched",
                 LOG_F(log_str("keys", s->name), log_uint("count", s->keys->n)));
    }
    return 0;
}

/* ---------------------------------------------------------------- tokens */

static enum jwt_outcome keyset_verify_uncached(struct keyset *s, struct slice token,
                                               const struct jwt_options *o, int64_t now_s,
                                               struct jwt *out)
{
    enum jwt_outcome outcome = jwt_verify(s->keys, token, o, now_s, out);
    if (outcome == JWT_FAILED) {
        out->why = "memory is short";
    } else if (outcome == JWT_UNKNOWN_KEY && s->source == KEY_JWKS_URL &&
               jwks_url_look_for_more(&s->url)) {
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
    keyset_question_digest(s, token, o, digest);
    struct slice known = jwt_cache_get(k->cache, digest, now_s);
    if (known.p && strbuf_append(&out->claims, known.p, known.n) == 0) {
        k->metrics->tokens_cached++;
        return JWT_OK;
    }
    enum jwt_outcome outcome = keyset_verify_uncached(s, token, o, now_s, out);
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

bool keyset_has_keys(const struct keyset *s)
{
    return s->keys != NULL;
}

const char *keyset_failure(const struct keyset *s)
{
    const struct err *e = keyset_trouble(s);
    return e->code ? e->text : NULL;
}

/* ---------------------------------------------------------------- time */

static void keyring_on_tick(struct deadline *d)
{
    struct keyring *k = container_of(d, struct keyring, tick);
    bool files = ++k->ticks % FILE_TICKS == 0;
    for (struct keyset *s = k->sets; s < k->sets + k->n; s++) {
        if (s->source == KEY_JWKS_URL) {
            if (!jwks_url_tick(&s->url)) {
                jwks_free(s->keys);
                s->keys = NULL;
            }
        } else if (files && s->source != KEY_SECRET) {
            keyset_reread_file(s, false);
        }
    }
    keyring_update_gauge(k);
    deadline_arm(loop_deadline_class(k->loop, TICK_MS, keyring_on_tick), &k->tick);
}

void keyring_reload(struct keyring *k)
{
    for (size_t i = 0; k && i < k->n; i++) {
        if (k->sets[i].source == KEY_JWKS_URL) {
            jwks_url_soon(&k->sets[i].url);
        } else if (k->sets[i].source != KEY_SECRET) {
            keyset_reread_file(&k->sets[i], true);
        }
    }
}

/* ---------------------------------------------------------------- life */

/* What a source can be used with, before the configuration narrows it: a secret that came over the
 * network would let everybody sign who can read it. */
static unsigned keyring_algs_of_source(enum key_source source)
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
        rc = keyset_read_file(s, &is_new, e);
    }
    if (rc == 0 && s->keys) { /* a file that changes cannot change sides */
        s->algs &= s->keys->symmetric ? jwa_symmetric() : jwa_asymmetric();
    }
    return rc;
}

static int keyring_open_set(struct keyring *k, struct keyset *s, const struct keyset_options *o,
                            struct err *e)
{
    *s = (struct keyset){
        .k = k,
        .name = xstrdup(o->name),
        .where = o->source == KEY_SECRET ? NULL : xstrdup(o->where),
        .ca_file = o->ca_file ? xstrdup(o->ca_file) : NULL,
        .source = o->source,
        .wanted = o->algs,
        .algs = keyring_algs_of_source(o->source) & (o->algs ? o->algs : ~0U),
    };
    s->url = (struct jwks_url){
        .name = s->name,
        .url = s->where,
        .ca_file = s->ca_file,
        .refresh_ms = (uint64_t)o->refresh_s * 1000,
        .stale_ms = (uint64_t)o->stale_s * 1000,
        .fresh_ms = o->fresh_ms,
        .take = keyset_take_fetched,
        .ctx = s,
        .jitter = &k->jitter,
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
        int rc = keyring_open_set(k, &k->sets[i], &v[i], e);
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
    k->metrics = metrics;
    metrics->key_sets = k->n;
    for (size_t i = 0; i < k->n; i++) {
        jwks_url_start(&k->sets[i].url, loop, client, metrics);
    }
    if (k->n > 0) {
        keyring_on_tick(&k->tick);
    }
}

void keyring_stop(struct keyring *k)
{
    for (size_t i = 0; k && i < k->n; i++) {
        jwks_url_stop(&k->sets[i].url);
    }
    if (k) {
        deadline_disarm(&k->tick);
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
