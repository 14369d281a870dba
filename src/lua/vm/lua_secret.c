#include "lua/vm/lua_secret.h"

#include "base/digest.h"

#include <lauxlib.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>

enum {
    SECRET_MAX_BYTES = 64 * 1024, /* after `..` */
    HMAC_MAX_BYTES = 1024 * 1024, /* a call into libcrypto cannot be stopped */
};

static const char secret_class[] = "tidegate.secret";

/* A userdata. */
struct lua_secret {
    size_t name_n, n;
    char bytes[]; /* the name, then the secret */
};

static const struct lua_secret *secret_at(lua_State *L, int idx)
{
    return lua_type(L, idx) == LUA_TUSERDATA ? luaL_testudata(L, idx, secret_class) : NULL;
}

static struct lua_secret *secret_new(lua_State *L, struct slice name, size_t n)
{
    if (n > SECRET_MAX_BYTES) {
        luaL_error(L, "a secret longer than %d bytes", (int)SECRET_MAX_BYTES);
    }
    struct lua_secret *s = lua_newuserdatauv(L, sizeof *s + name.n + n, 0);
    *s = (struct lua_secret){name.n, n};
    memcpy(s->bytes, name.p, name.n);
    memset(s->bytes + name.n, 0, n);
    luaL_setmetatable(L, secret_class);
    return s;
}

void lua_secret_push(lua_State *L, struct slice name, struct slice bytes)
{
    luaL_checkstack(L, 4, NULL);
    struct lua_secret *s = secret_new(L, name, bytes.n);
    memcpy(s->bytes + name.n, bytes.p, bytes.n);
}

struct slice lua_secret_bytes(lua_State *L, int idx)
{
    const struct lua_secret *s = secret_at(L, idx);
    return s ? slice_of(s->bytes + s->name_n, s->n) : (struct slice){NULL, 0};
}

struct slice lua_secret_or_string(lua_State *L, int idx, const char *what)
{
    struct slice s = lua_secret_bytes(L, idx);
    if (!s.p && lua_type(L, idx) != LUA_TSTRING) {
        luaL_error(L, "%s: a secret or a string was expected, got %s", what, luaL_typename(L, idx));
    }
    if (!s.p) {
        s.p = lua_tolstring(L, idx, &s.n);
    }
    return s;
}

const char *lua_secret_typename(lua_State *L, int idx)
{
    return secret_at(L, idx) ? "secret" : luaL_typename(L, idx);
}

/* ---------------------------------------------------------------- what `secret` can do */

static int secret_tostring(lua_State *L)
{
    const struct lua_secret *s = luaL_checkudata(L, 1, secret_class);
    lua_pushliteral(L, "<secret ");
    lua_pushlstring(L, s->bytes, s->name_n);
    lua_pushliteral(L, ">");
    lua_concat(L, 3);
    return 1;
}

static int secret_index(lua_State *L)
{
    return luaL_error(L, "a secret has no fields and no methods: use it as a key of tg.hmac, in "
                         "tg.equal, or as a header or body of http.get and http.post");
}

static struct slice operand(lua_State *L, int idx)
{
    struct slice s = lua_secret_bytes(L, idx);
    if (!s.p && (lua_type(L, idx) == LUA_TSTRING || lua_type(L, idx) == LUA_TNUMBER)) {
        s.p = lua_tolstring(L, idx, &s.n);
    }
    if (!s.p) {
        luaL_error(L, "attempt to concatenate a secret and a %s", luaL_typename(L, idx));
    }
    return s;
}

/* "Bearer " .. secret, and the other way round */
static int secret_concat(lua_State *L)
{
    lua_settop(L, 2);
    struct slice a = operand(L, 1), b = operand(L, 2);
    const struct lua_secret *named = secret_at(L, 1);
    if (!named) {
        named = luaL_checkudata(L, 2, secret_class);
    }
    struct lua_secret *s = secret_new(L, slice_of(named->bytes, named->name_n), a.n + b.n);
    memcpy(s->bytes + s->name_n, a.p, a.n);
    memcpy(s->bytes + s->name_n + a.n, b.p, b.n);
    return 1;
}

void lua_secret_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"__tostring", secret_tostring},
                                       {"__index", secret_index},
                                       {"__concat", secret_concat},
                                       {NULL, NULL}};
    luaL_newmetatable(L, secret_class);
    luaL_setfuncs(L, methods, 0);
    lua_pushliteral(L, "secret");
    lua_setfield(L, -2, "__name"); /* in Lua's own messages */
    lua_pushliteral(L, "secret");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- tg.equal, tg.hmac */

/* nil is equal to nothing: a header that the client did not send. */
static struct slice compared(lua_State *L, int arg)
{
    struct slice s = {NULL, 0};
    luaL_checkany(L, arg);
    return lua_isnil(L, arg) ? s : lua_secret_or_string(L, arg, "tg.equal");
}

int lua_secret_equal(lua_State *L)
{
    struct slice a = compared(L, 1), b = compared(L, 2);
    lua_pushboolean(L, a.p && b.p && a.n == b.n && CRYPTO_memcmp(a.p, b.p, a.n) == 0);
    return 1;
}

static int no_such(lua_State *L, const char *option, const char *expected)
{
    return luaL_error(L, "tg.hmac: %s: %s was expected", option, expected);
}

/* The index in `names` of the option, or 0 where it is not given. */
static size_t choice(lua_State *L, const char *option, const char *const *names,
                     const char *expected)
{
    size_t i = 0;
    lua_pushstring(L, option);
    int type = lua_rawget(L, 3);
    const char *given = type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    while (given && names[i] && strcmp(names[i], given) != 0) {
        i++;
    }
    if ((!given && type != LUA_TNIL) || !names[i]) {
        no_such(L, option, expected);
    }
    lua_pop(L, 1);
    return i;
}

static void check_options(lua_State *L)
{
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 3)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        if (strcmp(name, "alg") != 0 && strcmp(name, "as") != 0) {
            luaL_error(L, "tg.hmac: unknown option '%s' (there are: alg, as)", name);
        }
        lua_pop(L, 1);
    }
}

static void push_hex(lua_State *L, const unsigned char *mac, size_t n)
{
    char text[2 * DIGEST_MAC_MAX_BYTES];
    digest_digits(mac, n, text);
    lua_pushlstring(L, text, 2 * n);
}

/* For URLs (RFC 4648, 5): other letters, no padding. */
static void push_base64(lua_State *L, const unsigned char *mac, size_t n, bool url)
{
    char text[2 * DIGEST_MAC_MAX_BYTES];
    size_t len = (size_t)EVP_EncodeBlock((unsigned char *)text, mac, (int)n);
    for (size_t i = 0; url && i < len; i++) {
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    }
    while (url && len && text[len - 1] == '=') {
        len--;
    }
    lua_pushlstring(L, text, len);
}

int lua_secret_hmac(lua_State *L)
{
    static const char *const algs[] = {"HS256", "HS384", "HS512", NULL}; /* enum digest_mac */
    static const char *const forms[] = {"hex", "base64", "base64url", "bytes", NULL};
    unsigned char mac[DIGEST_MAC_MAX_BYTES];
    size_t alg = 0, form = 0;
    lua_settop(L, 3);
    struct slice key = lua_secret_or_string(L, 1, "tg.hmac: key"), text = {NULL, 0};
    text.p = luaL_checklstring(L, 2, &text.n);
    if (key.n == 0) {
        return luaL_error(L, "tg.hmac: the key is empty");
    }
    if (text.n > HMAC_MAX_BYTES) {
        return luaL_error(L, "tg.hmac: more than %d bytes", (int)HMAC_MAX_BYTES);
    }
    if (!lua_isnil(L, 3)) {
        check_options(L);
        alg = choice(L, "alg", algs, "\"HS256\", \"HS384\" or \"HS512\"");
        form = choice(L, "as", forms, "\"hex\", \"base64\", \"base64url\" or \"bytes\"");
    }
    size_t n = digest_hmac((enum digest_mac)alg, key, text, mac);
    if (n == 0) {
        return luaL_error(L, "tg.hmac: libcrypto cannot make it");
    }
    if (form == 0) {
        push_hex(L, mac, n);
    } else if (form == 3) {
        lua_pushlstring(L, (const char *)mac, n);
    } else {
        push_base64(L, mac, n, form == 2);
    }
    return 1;
}
