#include "cli/cli_token_key.h"

#include "base/alloc.h"
#include "base/program/read_file.h"
#include "base/text/base64.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

enum { KEY_FILE_MAX_BYTES = JWKS_MAX_BYTES };

static bool token_key_is_secret(const struct config_keys *k)
{
    return k->secret || k->secret_file || k->jwks_file;
}

/* The set that was named, or the only one that may hold a secret. NULL after a message. */
static const struct config_keys *token_key_find_set(const struct options *o,
                                                    const struct config *cfg, const char *name)
{
    const struct config_keys *found = NULL;
    size_t candidates = 0;
    for (size_t i = 0; i < cfg->keys.n; i++) {
        const struct config_keys *k = &cfg->keys.v[i];
        if (name ? strcmp(k->name, name) == 0 : token_key_is_secret(k)) {
            found = k;
            candidates++;
        }
    }
    if (candidates == 1) {
        return found;
    }
    (void)options_refuse(o, "--key",
                         name         ? "%s: the configuration has no such key set"
                         : candidates ? "several key sets may sign%s: name one"
                                      : "the configuration has no secret to sign with%s: name a "
                                        "private key with --private-key FILE",
                         name ? name : "");
    return NULL;
}

static int token_key_set_secret(struct token_key *out, struct slice secret)
{
    if (secret.n == 0 || secret.n > JWT_SIGN_MAX_BYTES) {
        return UV_EINVAL;
    }
    out->signer = jwt_signer_new(JWK_OCT, secret);
    return out->signer ? 0 : UV_ENOMEM;
}

/* The first secret of a set, or the one of that id. */
static int token_key_from_jwks(struct token_key *out, struct slice text, const char *kid,
                               const char **why)
{
    size_t i, n = 0;
    const json_t *key;
    json_t *doc = json_loadb(text.p ? text.p : "", text.n, 0, NULL);
    int rc = UV_EINVAL;
    *why = "holds public keys only: name the private key with --private-key FILE";
    json_array_foreach(json_object_get(doc, "keys"), i, key)
    {
        const char *k = json_string_value(json_object_get(key, "k"));
        const char *id = json_string_value(json_object_get(key, "kid"));
        if (rc == 0 || !k || (kid && (!id || strcmp(id, kid) != 0))) {
            continue;
        }
        unsigned char *bytes = xmalloc(base64url_room(strlen(k)));
        rc = base64url_decode(slice_str(k), bytes, &n);
        rc = rc ? rc : token_key_set_secret(out, slice_of((const char *)bytes, n));
        free(bytes);
        out->kid = rc == 0 && id ? xstrdup(id) : NULL;
    }
    json_decref(doc);
    return rc;
}

/* 0, or the exit code after a message. */
static int token_key_from_set(const struct config_keys *k, const char *kid, struct token_key *out)
{
    const char *file = k->secret_file ? k->secret_file : k->jwks_file;
    const char *why = "holds no secret: name a private key with --private-key FILE";
    struct strbuf text;
    int rc = UV_EINVAL;
    strbuf_init(&text, KEY_FILE_MAX_BYTES);
    if (k->secret) {
        rc = token_key_set_secret(out, slice_str(k->secret));
    } else if (file) {
        rc = read_file(file, &text);
        why = rc ? uv_strerror(rc) : why;
    }
    if (rc == 0 && k->secret_file) {
        struct slice s = strbuf_slice(&text);
        s.n -= s.n && s.p[s.n - 1] == '\n'; /* as the broker reads it */
        s.n -= s.n && s.p[s.n - 1] == '\r';
        rc = token_key_set_secret(out, s);
        why = "is empty, or too long for a secret";
    } else if (rc == 0 && k->jwks_file) {
        rc = token_key_from_jwks(out, strbuf_slice(&text), kid, &why);
    }
    strbuf_clear(&text);
    if (rc) {
        fprintf(stderr, "tidegate token: keys.%s: %s%s%s\n", k->name, file ? file : "",
                file ? ": " : "", why);
    }
    return rc ? EX_DATAERR : 0;
}

/* 0, or the exit code after a message. */
static int token_key_from_file(const char *path, struct token_key *out)
{
    struct err e = {0};
    struct strbuf text;
    strbuf_init(&text, KEY_FILE_MAX_BYTES);
    int rc = read_file(path, &text);
    rc = rc ? err_set(&e, rc, "%s", uv_strerror(rc))
            : jwt_signer_from_pem(strbuf_slice(&text), &out->signer, &e);
    strbuf_clear(&text);
    if (rc) {
        fprintf(stderr, "tidegate token: %s: %s\n", path, e.text);
    }
    return rc == 0 ? 0 : rc == UV_EINVAL ? EX_DATAERR : EX_NOINPUT;
}

/* The one that was named; else the first that the set allows; else the first that fits the key. */
static int token_key_set_alg(const struct options *o, const struct config_keys *set,
                             const char *name, struct token_key *out)
{
    unsigned fits = jwa_of_type(jwt_signer_type(out->signer)), bit = 0;
    int alg = name ? jwa_find(slice_str(name)) : -1;
    for (size_t i = 0; set && alg < 0 && !name && i < set->algorithms.n; i++) {
        int one = jwa_find(slice_str(set->algorithms.v[i]));
        alg = one >= 0 && (fits & JWA_BIT(one)) ? one : -1;
    }
    while (!name && alg < 0 && bit < JWT_ALG_COUNT) {
        alg = fits & JWA_BIT(bit) ? (int)bit : -1;
        bit++;
    }
    if (alg < 0 || !(fits & JWA_BIT(alg))) {
        return options_refuse(o, "--alg", "%s: no algorithm that fits the key", name ? name : "");
    }
    out->alg = (enum jwt_alg)alg;
    return 0;
}

int token_key_open(const struct options *o, const struct config *cfg,
                   const struct token_key_words *w, struct token_key *out)
{
    const struct config_keys *set = NULL;
    *out = (struct token_key){.signer = NULL};
    if (w->set || !w->private_key) {
        set = token_key_find_set(o, cfg, w->set);
        if (!set) {
            return EX_USAGE;
        }
    }
    int code = w->private_key ? token_key_from_file(w->private_key, out)
                              : token_key_from_set(set, w->kid, out);
    if (code == 0 && w->kid) {
        free(out->kid);
        out->kid = xstrdup(w->kid);
    }
    return code ? code : token_key_set_alg(o, set, w->alg, out);
}

void token_key_close(struct token_key *k)
{
    jwt_signer_free(k->signer);
    free(k->kid);
}
