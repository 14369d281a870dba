#include "auth/jwk.h"

#include "base/alloc.h"
#include "base/text/base64.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    RSA_N_MAX_BYTES = JWK_RSA_MAX_BITS / 8 + 1, /* a leading zero is forgiven: RFC 7518, 6.3.1.1 */
    RSA_E_MAX_BYTES = 8,
    COORDINATE_MAX_BYTES = 48,
    ED25519_BYTES = 32,
};

struct curve {
    enum jwk_type type;
    const char *crv, *group;
    size_t bytes; /* of a coordinate */
};

static const struct curve curves[] = {{JWK_P256, "P-256", "prime256v1", 32},
                                      {JWK_P384, "P-384", "secp384r1", 48}};

/* ---------------------------------------------------------------- members */

/* The text member `name`; absent where there is none. UV_EINVAL: it is not a text. */
static int text_member(const json_t *json, const char *name, struct slice *out, struct err *e)
{
    const json_t *v = json_object_get(json, name);
    *out = slice_of(NULL, 0);
    if (v && !json_is_string(v)) {
        return err_set(e, UV_EINVAL, "\"%s\" is not a text", name);
    }
    if (v) {
        *out = slice_of(json_string_value(v), json_string_length(v));
    }
    return 0;
}

/* The bytes of the base64url member `name`, at most `max`, into `out`. */
static int bytes_member(const json_t *json, const char *name, unsigned char *out, size_t max,
                        size_t *n, struct err *e)
{
    struct slice text;
    int rc = text_member(json, name, &text, e);
    if (rc) {
        return rc;
    }
    if (!text.p) {
        return err_set(e, UV_EINVAL, "\"%s\" is missing", name);
    }
    if (base64url_room(text.n) > max + 4) {
        return err_set(e, UV_EINVAL, "\"%s\" is longer than %zu bytes", name, max);
    }
    if (base64url_decode(text, out, n) || *n == 0 || *n > max) {
        return err_set(e, UV_EINVAL, "\"%s\" is not base64url of 1 to %zu bytes", name, max);
    }
    return 0;
}

/* Is the key meant for checking signatures: RFC 7517, sections 4.2 and 4.3. */
static int check_use(const json_t *json, struct err *e)
{
    struct slice use;
    int rc = text_member(json, "use", &use, e);
    if (rc) {
        return rc;
    }
    if (use.p && !slice_is(use, "sig")) {
        return err_set(e, UV_EINVAL, "its \"use\" is not \"sig\"");
    }
    const json_t *ops = json_object_get(json, "key_ops");
    if (ops && !json_is_array(ops)) {
        return err_set(e, UV_EINVAL, "\"key_ops\" is not a list");
    }
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const char *op = json_string_value(json_array_get(ops, i));
        if (op && strcmp(op, "verify") == 0) {
            return 0;
        }
    }
    return ops ? err_set(e, UV_EINVAL, "its \"key_ops\" lack \"verify\"") : 0;
}

/* Narrows *algs to what "alg" says. */
static int apply_alg(const json_t *json, unsigned *algs, struct err *e)
{
    struct slice name;
    int rc = text_member(json, "alg", &name, e);
    if (rc || !name.p) {
        return rc;
    }
    int alg = jwa_find(name);
    if (alg < 0) {
        return err_set(e, UV_EINVAL, "its \"alg\" is none that is known here");
    }
    *algs &= JWA_BIT(alg);
    return 0;
}

/* ---------------------------------------------------------------- public keys */

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *new_rsa(const unsigned char *n, size_t n_len, const unsigned char *e, size_t e_len)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *bn_n = BN_bin2bn(n, (int)n_len, NULL), *bn_e = BN_bin2bn(e, (int)e_len, NULL);
    if (build && bn_n && bn_e && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn_n) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, bn_e)) {
        key = from_params("RSA", build);
    }
    BN_free(bn_n);
    BN_free(bn_e);
    OSSL_PARAM_BLD_free(build);
    return key;
}

/* `point`: uncompressed (SEC 1, section 2.3.3). */
static EVP_PKEY *new_ec(const char *group, const unsigned char *point, size_t n)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    if (build && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, n)) {
        key = from_params("EC", build);
    }
    OSSL_PARAM_BLD_free(build);
    return key;
}

static int parse_rsa(const json_t *json, EVP_PKEY **out, struct err *e)
{
    unsigned char n[RSA_N_MAX_BYTES + 4], ex[RSA_E_MAX_BYTES + 4];
    size_t n_len = 0, e_len = 0;
    int rc = bytes_member(json, "n", n, RSA_N_MAX_BYTES, &n_len, e);
    rc = rc ? rc : bytes_member(json, "e", ex, RSA_E_MAX_BYTES, &e_len, e);
    if (rc) {
        return rc;
    }
    *out = new_rsa(n, n_len, ex, e_len);
    return *out ? 0 : err_set(e, UV_EINVAL, "is not an RSA key");
}

static const struct curve *find_curve(struct slice crv)
{
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (crv.p && slice_is(crv, curves[i].crv)) {
            return &curves[i];
        }
    }
    return NULL;
}

static int parse_ec(const json_t *json, EVP_PKEY **out, struct err *e)
{
    unsigned char point[1 + 2 * COORDINATE_MAX_BYTES + 4];
    size_t x_len = 0, y_len = 0;
    struct slice crv;
    int rc = text_member(json, "crv", &crv, e);
    if (rc) {
        return rc;
    }
    const struct curve *c = find_curve(crv);
    if (!c) {
        return err_set(e, UV_EINVAL, "its \"crv\" is neither \"P-256\" nor \"P-384\"");
    }
    point[0] = POINT_CONVERSION_UNCOMPRESSED;
    rc = bytes_member(json, "x", point + 1, c->bytes, &x_len, e);
    rc = rc ? rc : bytes_member(json, "y", point + 1 + c->bytes, c->bytes, &y_len, e);
    if (rc) {
        return rc;
    }
    if (x_len != c->bytes || y_len != c->bytes) {
        return err_set(e, UV_EINVAL, "\"x\" and \"y\" are not of %zu bytes", c->bytes);
    }
    *out = new_ec(c->group, point, 1 + 2 * c->bytes);
    return *out ? 0 : err_set(e, UV_EINVAL, "is not a point of %s", c->crv);
}

static int parse_okp(const json_t *json, EVP_PKEY **out, struct err *e)
{
    unsigned char x[ED25519_BYTES + 4];
    size_t n = 0;
    struct slice crv;
    int rc = text_member(json, "crv", &crv, e);
    if (rc) {
        return rc;
    }
    if (!crv.p || !slice_is(crv, "Ed25519")) {
        return err_set(e, UV_EINVAL, "its \"crv\" is not \"Ed25519\"");
    }
    rc = bytes_member(json, "x", x, ED25519_BYTES, &n, e);
    if (rc) {
        return rc;
    }
    *out = n == ED25519_BYTES ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, n) : NULL;
    return *out ? 0 : err_set(e, UV_EINVAL, "\"x\" is not an Ed25519 key");
}

/* ---------------------------------------------------------------- binding */

/* CVE-2017-15361 (ROCA): both primes are 65537^a in the ring of the product of the small primes, so the
 * modulus is a power of 65537 for each of them. By chance that holds for one key in 2^27. */
static bool jwk_is_roca(const BIGNUM *n)
{
    static const unsigned char primes[] = {
        3,  5,  7,  11, 13, 17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,
        73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};
    for (size_t i = 0; i < sizeof primes; i++) {
        BN_ULONG p = primes[i], power = 1, left = BN_mod_word(n, p);
        do {
            power = power * 65537 % p;
        } while (power != left && power != 1);
        if (power != left) {
            return false;
        }
    }
    return true;
}

static int check_modulus(EVP_PKEY *key, struct err *e)
{
    BIGNUM *n = NULL;
    bool known = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n),
         roca = known && jwk_is_roca(n);
    BN_free(n);
    if (roca) {
        return err_set(e, UV_EINVAL,
                       "an RSA key whose private key can be computed (ROCA, CVE-2017-15361)");
    }
    return known ? 0 : err_set(e, UV_EINVAL, "is not an RSA key");
}

/* Points of order 1, 2, 4 and 8 in all their encodings, without the sign of x: a signature by such a
 * "key" can be made that holds for many texts. */
static int check_ed25519(EVP_PKEY *key, struct err *e)
{
    static const unsigned char small[][ED25519_BYTES] = {
        {0},
        {1},
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
         0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
         0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
         0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
         0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
        {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
        {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
        {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    };
    unsigned char x[ED25519_BYTES];
    size_t n = sizeof x;
    if (EVP_PKEY_get_raw_public_key(key, x, &n) != 1 || n != sizeof x) {
        return err_set(e, UV_EINVAL, "is not an Ed25519 key");
    }
    x[ED25519_BYTES - 1] &= 0x7f;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        if (memcmp(x, small[i], sizeof x) == 0) {
            return err_set(e, UV_EINVAL,
                           "an Ed25519 key of small order: signatures by it prove nothing");
        }
    }
    return 0;
}

static int check_rsa(EVP_PKEY *key, struct err *e)
{
    int bits = EVP_PKEY_get_bits(key);
    if (bits < JWK_RSA_MIN_BITS || bits > JWK_RSA_MAX_BITS) {
        return err_set(e, UV_EINVAL, "an RSA key of %d bits: %d to %d were expected", bits,
                       (int)JWK_RSA_MIN_BITS, (int)JWK_RSA_MAX_BITS);
    }
    BIGNUM *exponent = NULL;
    bool ok = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) && BN_is_odd(exponent) &&
              !BN_is_one(exponent) && BN_num_bits(exponent) <= RSA_E_MAX_BYTES * 8;
    BN_free(exponent);
    return ok ? check_modulus(key, e)
              : err_set(e, UV_EINVAL, "an RSA key with an exponent that is not odd, 3 to 2^64");
}

static int type_of(EVP_PKEY *key, enum jwk_type *out, struct err *e)
{
    char group[32];
    size_t n;
    if (EVP_PKEY_is_a(key, "RSA")) {
        *out = JWK_RSA;
        return check_rsa(key, e);
    }
    if (EVP_PKEY_is_a(key, "ED25519")) {
        *out = JWK_ED25519;
        return check_ed25519(key, e);
    }
    if (EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, &n)) {
        for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
            if (strcmp(group, curves[i].group) == 0) {
                *out = curves[i].type;
                return 0;
            }
        }
    }
    return err_set(e, UV_EINVAL, "is neither RSA, EC (P-256, P-384) nor Ed25519");
}

/* The algorithms of `algs` for a key of that type; none is an error. */
static int bind_algs(struct jwk *k, unsigned algs, struct err *e)
{
    k->algs = algs & jwa_of_type(k->type);
    return k->algs ? 0 : err_set(e, UV_EINVAL, "fits none of the algorithms that are wanted");
}

int jwk_from_public(struct jwk *out, EVP_PKEY *key, unsigned algs, struct err *e)
{
    *out = (struct jwk){0};
    int rc = type_of(key, &out->type, e);
    rc = rc ? rc : bind_algs(out, algs, e);
    if (rc) {
        return rc;
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool valid = ctx && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!valid || !EVP_PKEY_up_ref(key)) {
        return err_set(e, UV_EINVAL, "is not a valid public key");
    }
    out->public = key;
    return 0;
}

/* RFC 7518, section 3.2: a key at least as long as the digest. */
int jwk_from_secret(struct jwk *out, struct slice secret, unsigned algs, struct err *e)
{
    *out = (struct jwk){.type = JWK_OCT};
    if (secret.n > JWK_SECRET_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "a secret of more than %d bytes", (int)JWK_SECRET_MAX_BYTES);
    }
    int rc = bind_algs(out, algs, e);
    if (rc) {
        return rc;
    }
    size_t least = jwa_table[JWT_HS512].digest_bytes;
    for (int i = 0; i < JWT_ALG_COUNT; i++) {
        if (out->algs & JWA_BIT(i)) {
            size_t bytes = jwa_table[i].digest_bytes;
            least = bytes < least ? bytes : least;
            out->algs &= secret.n >= bytes ? ~0U : ~JWA_BIT(i);
        }
    }
    if (!out->algs) {
        return err_set(e, UV_EINVAL, "a secret of %zu bytes: at least %zu were expected", secret.n,
                       least);
    }
    out->secret = xmalloc(secret.n);
    memcpy(out->secret, secret.p, secret.n);
    out->secret_n = secret.n;
    return 0;
}

static int parse_oct(struct jwk *out, const json_t *json, unsigned algs, struct err *e)
{
    unsigned char k[JWK_SECRET_MAX_BYTES + 4];
    size_t n = 0;
    int rc = bytes_member(json, "k", k, JWK_SECRET_MAX_BYTES, &n, e);
    if (rc == 0) {
        rc = jwk_from_secret(out, slice_of((const char *)k, n), algs, e);
    }
    OPENSSL_cleanse(k, sizeof k);
    return rc;
}

/* A private key here could sign tokens: it must not be in a key set. */
static int check_public(const json_t *json, struct err *e)
{
    static const char *const private[] = {"d", "p", "q", "dp", "dq", "qi", "oth"};
    for (size_t i = 0; i < sizeof private / sizeof *private; i++) {
        if (json_object_get(json, private[i])) {
            return err_set(
                e, UV_EINVAL,
                "is a private key (\"%s\"), which can sign tokens: put only its public part "
                "here, and replace the key",
                private[i]);
        }
    }
    return 0;
}

static int parse_key(struct jwk *out, const json_t *json, unsigned algs, struct err *e)
{
    static const struct {
        const char *kty;
        int (*parse)(const json_t *json, EVP_PKEY **out, struct err *e);
    } kinds[] = {{"RSA", parse_rsa}, {"EC", parse_ec}, {"OKP", parse_okp}};
    struct slice kty;
    int rc = text_member(json, "kty", &kty, e);
    if (rc) {
        return rc;
    }
    if (kty.p && slice_is(kty, "oct")) {
        return parse_oct(out, json, algs, e);
    }
    for (size_t i = 0; kty.p && i < sizeof kinds / sizeof *kinds; i++) {
        if (slice_is(kty, kinds[i].kty)) {
            EVP_PKEY *key = NULL;
            rc = check_public(json, e);
            rc = rc ? rc : kinds[i].parse(json, &key, e);
            rc = rc ? rc : jwk_from_public(out, key, algs, e);
            EVP_PKEY_free(key);
            return rc;
        }
    }
    return err_set(e, UV_EINVAL, "its \"kty\" is none of \"RSA\", \"EC\", \"OKP\", \"oct\"");
}

int jwk_parse(struct jwk *out, const json_t *json, unsigned algs, struct err *e)
{
    struct slice kid = {0};
    *out = (struct jwk){0};
    if (!json_is_object(json)) {
        return err_set(e, UV_EINVAL, "is not an object");
    }
    int rc = check_use(json, e);
    rc = rc ? rc : apply_alg(json, &algs, e);
    rc = rc ? rc : text_member(json, "kid", &kid, e);
    if (rc) {
        return rc;
    }
    if (kid.n > JWK_KID_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "\"kid\" is longer than %d bytes", (int)JWK_KID_MAX_BYTES);
    }
    rc = parse_key(out, json, algs, e);
    if (rc == 0 && kid.p) {
        out->kid = xstrndup(kid.p, kid.n);
    }
    return rc;
}

void jwk_clear(struct jwk *k)
{
    free(k->kid);
    EVP_PKEY_free(k->public);
    if (k->secret) {
        OPENSSL_cleanse(k->secret, k->secret_n);
    }
    free(k->secret);
    *k = (struct jwk){0};
}
