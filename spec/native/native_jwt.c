/* auth/: key sets and tokens. The other side too, which the broker does not have: making keys and
 * signing, through libcrypto. */
#include "auth/jwks.h"
#include "auth/jwt.h"
#include "auth/jwt_cache.h"
#include "auth/keyring.h"
#include "base/text/base64.h"
#include "native_policy.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>

static const char *const set_class = "native.jwt.set";
static const char *const key_class = "native.jwt.key";
static const char *const cache_class = "native.jwt.cache";

static struct slice check_slice(lua_State *L, int arg)
{
    struct slice s;
    s.p = luaL_checklstring(L, arg, &s.n);
    return s;
}

/* ---------------------------------------------------------------- key sets */

/* A list of names -> bits; nothing: every one. */
static unsigned check_algs(lua_State *L, int arg)
{
    unsigned algs = 0;
    if (lua_isnoneornil(L, arg)) {
        return jwa_symmetric() | jwa_asymmetric();
    }
    lua_Integer n = (lua_Integer)lua_rawlen(L, arg);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, arg, i);
        int alg = jwa_find(check_slice(L, -1));
        luaL_argcheck(L, alg >= 0, arg, "unknown algorithm");
        algs |= JWA_BIT(alg);
        lua_pop(L, 1);
    }
    return algs;
}

static int push_set(lua_State *L, int rc, struct jwks *set, const struct err *e)
{
    if (rc) {
        lua_pushnil(L);
        lua_pushstring(L, e->text);
        return 2;
    }
    struct jwks **box = lua_newuserdatauv(L, sizeof(struct jwks *), 0);
    *box = set;
    luaL_setmetatable(L, set_class);
    return 1;
}

/* jwks(text[, algs]), pem(text[, algs]), secret(text[, algs]) -> set | nil, why */
static int l_jwks(lua_State *L)
{
    struct jwks *set = NULL;
    struct err e = {0};
    struct slice text = check_slice(L, 1);
    unsigned algs = check_algs(L, 2);
    int rc = jwks_parse(text, algs, "spec", &set, &e);
    return push_set(L, rc, set, &e);
}

static int l_pem(lua_State *L)
{
    struct jwks *set = NULL;
    struct err e = {0};
    int rc = jwks_from_pem(check_slice(L, 1), check_algs(L, 2), &set, &e);
    return push_set(L, rc, set, &e);
}

static int l_secret(lua_State *L)
{
    struct jwks *set = NULL;
    struct err e = {0};
    int rc = jwks_from_secret(check_slice(L, 1), check_algs(L, 2), &set, &e);
    return push_set(L, rc, set, &e);
}

static int l_set_gc(lua_State *L)
{
    struct jwks **box = luaL_checkudata(L, 1, set_class);
    jwks_free(*box);
    *box = NULL;
    return 0;
}

/* set:algs() -> { "RS256", ... }, number of keys */
static int l_algs(lua_State *L)
{
    struct jwks **box = luaL_checkudata(L, 1, set_class);
    lua_Integer n = 0;
    lua_newtable(L);
    for (int i = 0; i < JWT_ALG_COUNT; i++) {
        if ((*box)->algs & JWA_BIT(i)) {
            lua_pushstring(L, jwa_table[i].name);
            lua_rawseti(L, -2, ++n);
        }
    }
    lua_pushinteger(L, (lua_Integer)(*box)->n);
    return 2;
}

static struct slice field(lua_State *L, int arg, const char *name)
{
    struct slice s = {0};
    if (lua_getfield(L, arg, name) == LUA_TSTRING) {
        s.p = lua_tolstring(L, -1, &s.n);
    }
    lua_pop(L, 1); /* the table keeps it alive */
    return s;
}

static void read_options(lua_State *L, int arg, struct jwt_options *o)
{
    lua_getfield(L, arg, "alg");
    *o = (struct jwt_options){.algs = check_algs(L, lua_gettop(L)),
                              .iss = field(L, arg, "iss"),
                              .typ = field(L, arg, "typ")};
    lua_getfield(L, arg, "aud");
    o->any_aud = lua_isboolean(L, -1);
    if (lua_istable(L, -1)) {
        for (; o->aud_n < lua_rawlen(L, -1) && o->aud_n < JWT_AUDIENCES; o->aud_n++) {
            lua_rawgeti(L, -1, (lua_Integer)o->aud_n + 1);
            o->aud[o->aud_n] = check_slice(L, -1);
            lua_pop(L, 1);
        }
    }
    lua_getfield(L, arg, "leeway");
    o->leeway_s = luaL_optinteger(L, -1, 0);
    lua_getfield(L, arg, "exp");
    o->exp_optional = lua_isboolean(L, -1);
    lua_pop(L, 4);
}

/* set:verify(token, { alg = , iss = , aud = {...} | false, typ = , leeway = , exp = false, now = })
 * -> claims, from, till | nil, "bad" | "unknown" | "failed", why */
static int l_verify(lua_State *L)
{
    static const char *const names[] = {"ok", "bad", "unknown", "failed"};
    struct jwks **box = luaL_checkudata(L, 1, set_class);
    struct slice token = check_slice(L, 2);
    struct jwt_options o;
    struct jwt out = {0};
    read_options(L, 3, &o);
    lua_getfield(L, 3, "now");
    int64_t now = luaL_optinteger(L, -1, 0);
    strbuf_init(&out.claims, JWT_MAX_BYTES);
    enum jwt_outcome outcome = jwt_verify(*box, token, &o, now, &out);
    if (outcome != JWT_OK) {
        lua_pushnil(L);
        lua_pushstring(L, names[outcome]);
        lua_pushstring(L, out.why);
        return out.claims.len ? luaL_error(L, "claims of a refused token") : 3;
    }
    lua_pushlstring(L, out.claims.data, out.claims.len);
    strbuf_clear(&out.claims);
    lua_pushinteger(L, out.from_s);
    lua_pushinteger(L, out.till_s);
    return 3;
}

/* ---------------------------------------------------------------- keyrings, the cache */

int native_open_keys(lua_State *L, int arg, struct keyring **out, struct err *e)
{
    enum { SETS = 4, CACHE_BYTES = 1024 * 1024 };
    static const char *const sources[] = {"secret", "secret_file", "public_key_file", "jwks_file"};
    struct keyset_options v[SETS];
    size_t n = 0;
    *out = NULL;
    if (lua_getfield(L, arg, "keys") == LUA_TTABLE) {
        lua_pushnil(L);
        while (n < SETS && lua_next(L, -2)) { /* the table keeps what is borrowed */
            for (int i = 0; i < 4; i++) {
                if (field(L, lua_gettop(L), sources[i]).p) {
                    v[n] = (struct keyset_options){.name = lua_tostring(L, -2),
                                                   .source = (enum key_source)i,
                                                   .where = field(L, lua_gettop(L), sources[i]).p};
                }
            }
            n++;
            lua_pop(L, 1);
        }
    }
    int rc = keyring_open(out, v, n, CACHE_BYTES, e);
    lua_settop(L, n == SETS ? -3 : -2);
    return rc;
}

static struct jwt_cache **check_cache(lua_State *L)
{
    return luaL_checkudata(L, 1, cache_class);
}

static const unsigned char *check_digest(lua_State *L)
{
    struct slice digest = check_slice(L, 2);
    luaL_argcheck(L, digest.n == JWT_DIGEST_BYTES, 2, "32 bytes");
    return (const unsigned char *)digest.p;
}

/* cache(bytes) */
static int l_cache(lua_State *L)
{
    struct jwt_cache **box = lua_newuserdatauv(L, sizeof(struct jwt_cache *), 0);
    *box = jwt_cache_new((size_t)luaL_checkinteger(L, 1));
    luaL_setmetatable(L, cache_class);
    return 1;
}

static int l_cache_gc(lua_State *L)
{
    struct jwt_cache **box = check_cache(L);
    jwt_cache_free(*box);
    *box = NULL;
    return 0;
}

/* c:get(digest, now) -> claims | nil */
static int l_cache_get(lua_State *L)
{
    struct slice s = jwt_cache_get(*check_cache(L), check_digest(L), luaL_checkinteger(L, 3));
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

/* c:put(digest, claims, from, till) -> bytes */
static int l_cache_put(lua_State *L)
{
    jwt_cache_put(*check_cache(L), check_digest(L), check_slice(L, 3), luaL_checkinteger(L, 4),
                  luaL_checkinteger(L, 5));
    lua_pushinteger(L, (lua_Integer)jwt_cache_bytes(*check_cache(L)));
    return 1;
}

/* ---------------------------------------------------------------- base64url */

static int l_encode(lua_State *L)
{
    struct slice in = check_slice(L, 1);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, 4 * ((in.n + 2) / 3) + 1);
    int n = EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)in.p, (int)in.n);
    for (int i = 0; i < n; i++) {
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    }
    while (n > 0 && out[n - 1] == '=') {
        n--;
    }
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

static int l_decode(lua_State *L)
{
    struct slice in = check_slice(L, 1);
    size_t n;
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, base64url_room(in.n));
    if (base64url_decode(in, (unsigned char *)out, &n)) {
        lua_pushnil(L);
        return 1;
    }
    luaL_pushresultsize(&b, n);
    return 1;
}

/* ---------------------------------------------------------------- private keys */

static EVP_PKEY *check_key(lua_State *L)
{
    return *(EVP_PKEY **)luaL_checkudata(L, 1, key_class);
}

static int push_key(lua_State *L, EVP_PKEY *key)
{
    if (!key) {
        return luaL_error(L, "no key");
    }
    EVP_PKEY **box = lua_newuserdatauv(L, sizeof(EVP_PKEY *), 0);
    *box = key;
    luaL_setmetatable(L, key_class);
    return 1;
}

/* key("RSA", bits) | key("EC", group) | key("ED25519") -> private key */
static int l_key(lua_State *L)
{
    const char *type = luaL_checkstring(L, 1);
    if (strcmp(type, "RSA") == 0) {
        return push_key(L, EVP_PKEY_Q_keygen(NULL, NULL, type, (size_t)luaL_checkinteger(L, 2)));
    }
    if (strcmp(type, "EC") == 0) {
        return push_key(L, EVP_PKEY_Q_keygen(NULL, NULL, type, luaL_checkstring(L, 2)));
    }
    return push_key(L, EVP_PKEY_Q_keygen(NULL, NULL, type));
}

static int l_key_gc(lua_State *L)
{
    EVP_PKEY **box = luaL_checkudata(L, 1, key_class);
    EVP_PKEY_free(*box);
    *box = NULL;
    return 0;
}

static int push_bio(lua_State *L, BIO *bio)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    lua_pushlstring(L, data, (size_t)n);
    BIO_free(bio);
    return 1;
}

static int l_key_pem(lua_State *L)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, check_key(L), NULL, NULL, 0, NULL, NULL);
    return push_bio(L, bio);
}

static int l_key_public_pem(lua_State *L)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, check_key(L));
    return push_bio(L, bio);
}

static int l_key_public_der(lua_State *L)
{
    BIO *bio = BIO_new(BIO_s_mem());
    i2d_PUBKEY_bio(bio, check_key(L));
    return push_bio(L, bio);
}

static void set_number(lua_State *L, EVP_PKEY *key, const char *param, const char *name, int size)
{
    unsigned char bytes[1100];
    BIGNUM *bn = NULL;
    if (EVP_PKEY_get_bn_param(key, param, &bn)) {
        int n = size ? BN_bn2binpad(bn, bytes, size) : BN_bn2bin(bn, bytes);
        lua_pushlstring(L, (const char *)bytes, (size_t)n);
        lua_setfield(L, -2, name);
    }
    BN_free(bn);
}

/* key:members() -> what a JWK of it holds, as bytes: { n, e } | { x, y } | { x } */
static int l_key_members(lua_State *L)
{
    EVP_PKEY *key = check_key(L);
    unsigned char raw[64];
    size_t n = sizeof raw;
    lua_newtable(L);
    if (EVP_PKEY_is_a(key, "RSA")) {
        set_number(L, key, OSSL_PKEY_PARAM_RSA_N, "n", 0);
        set_number(L, key, OSSL_PKEY_PARAM_RSA_E, "e", 0);
    } else if (EVP_PKEY_is_a(key, "EC")) {
        int size = (EVP_PKEY_get_bits(key) + 7) / 8;
        set_number(L, key, OSSL_PKEY_PARAM_EC_PUB_X, "x", size);
        set_number(L, key, OSSL_PKEY_PARAM_EC_PUB_Y, "y", size);
    } else if (EVP_PKEY_get_raw_public_key(key, raw, &n)) {
        lua_pushlstring(L, (const char *)raw, n);
        lua_setfield(L, -2, "x");
    }
    return 1;
}

/* key:sign(digest or nil, input[, pss]) -> signature, as OpenSSL makes it. pss: true, or the bytes
 * of salt */
static int l_key_sign(lua_State *L)
{
    EVP_PKEY *key = check_key(L);
    const char *digest = luaL_optstring(L, 2, NULL);
    struct slice in = check_slice(L, 3);
    unsigned char sig[1100];
    size_t n = sizeof sig;
    EVP_PKEY_CTX *ctx = NULL;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = EVP_DigestSignInit_ex(md, &ctx, digest, NULL, NULL, key, NULL) == 1;
    if (ok && lua_toboolean(L, 4)) {
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(
                 ctx, lua_isinteger(L, 4) ? (int)lua_tointeger(L, 4) : RSA_PSS_SALTLEN_DIGEST) > 0;
    }
    ok = ok && EVP_DigestSign(md, sig, &n, (const unsigned char *)in.p, in.n) == 1;
    EVP_MD_CTX_free(md);
    if (!ok) {
        return luaL_error(L, "cannot sign");
    }
    lua_pushlstring(L, (const char *)sig, n);
    return 1;
}

/* raw_ecdsa(der, bytes) -> r and s side by side */
static int l_raw_ecdsa(lua_State *L)
{
    struct slice der = check_slice(L, 1);
    int size = (int)luaL_checkinteger(L, 2);
    unsigned char out[2 * 66];
    const unsigned char *p = (const unsigned char *)der.p;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der.n);
    if (!sig) {
        return luaL_error(L, "not DER");
    }
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, size);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + size, size);
    ECDSA_SIG_free(sig);
    lua_pushlstring(L, (const char *)out, 2 * (size_t)size);
    return 1;
}

/* hmac(digest, secret, input) -> bytes */
static int l_hmac(lua_State *L)
{
    struct slice secret = check_slice(L, 2), in = check_slice(L, 3);
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t n = 0;
    EVP_Q_mac(NULL, "HMAC", NULL, luaL_checkstring(L, 1), NULL, secret.p, secret.n,
              (const unsigned char *)in.p, in.n, mac, sizeof mac, &n);
    lua_pushlstring(L, (const char *)mac, n);
    return 1;
}

int native_open_jwt(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"jwks", l_jwks},     {"pem", l_pem},     {"secret", l_secret},
        {"encode", l_encode}, {"key", l_key},     {"decode", l_decode},
        {"hmac", l_hmac},     {"cache", l_cache}, {"raw_ecdsa", l_raw_ecdsa},
        {NULL, NULL}};
    static const luaL_Reg set_methods[] = {
        {"verify", l_verify}, {"algs", l_algs}, {"__gc", l_set_gc}, {NULL, NULL}};
    static const luaL_Reg key_methods[] = {{"pem", l_key_pem},
                                           {"public_pem", l_key_public_pem},
                                           {"public_der", l_key_public_der},
                                           {"members", l_key_members},
                                           {"sign", l_key_sign},
                                           {"__gc", l_key_gc},
                                           {NULL, NULL}};
    static const luaL_Reg cache_methods[] = {
        {"get", l_cache_get}, {"put", l_cache_put}, {"__gc", l_cache_gc}, {NULL, NULL}};
    const luaL_Reg *const methods[] = {set_methods, key_methods, cache_methods};
    const char *const classes[] = {set_class, key_class, cache_class};
    for (int i = 0; i < 3; i++) {
        native_class(L, classes[i], methods[i]);
    }
    luaL_newlib(L, functions);
    return 1;
}
