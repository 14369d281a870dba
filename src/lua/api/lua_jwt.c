#include "lua/api/lua_jwt.h"

#include "auth/keyring.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_coro.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_shape.h"

#include <lauxlib.h>
#include <stdio.h>

/* Index of the options; what is read out of them stays alive in them. */
enum { TOKEN = 1, OPTIONS = 2 };

static const struct lua_host *sandbox_of(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    if (s->loading) {
        luaL_error(L, "tg.jwt is not available while the policy is being loaded");
    }
    if (s->pure) {
        luaL_error(L, "tg.jwt is not available in filters and formats: what they answer is shared");
    }
    return s;
}

/* ---- options */

static int unknown_set(lua_State *L, struct keyring *k, const char *given)
{
    enum { SHOWN = 16 };
    const char *names[SHOWN];
    size_t n = 0;
    for (const struct keyset *s; n < SHOWN && (s = keyring_at(k, n)) != NULL; n++) {
        names[n] = keyset_name(s);
    }
    if (n == 0) {
        return luaL_error(L,
                          "tg.jwt: unknown key set '%s': the configuration names none, its "
                          "section `keys` is empty",
                          given);
    }
    return lua_shape_unknown(L, "tg.jwt", "key set", given, names, n);
}

static struct keyset *read_keys(lua_State *L, struct keyring *k)
{
    lua_shape_field(L, OPTIONS, "keys");
    struct slice name = lua_shape_string(L, -1,
                                         "tg.jwt: keys (a name of `keys` in the "
                                         "configuration)");
    struct keyset *set = keyring_find(k, name);
    if (!set) {
        unknown_set(L, k, name.p);
    }
    lua_pop(L, 1);
    return set;
}

static unsigned read_alg(lua_State *L, int idx, const struct keyset *set)
{
    const char *names[JWT_ALG_COUNT];
    struct slice name = lua_shape_string(L, idx, "tg.jwt: alg[i]");
    int alg = jwa_find(name);
    for (int i = 0; i < JWT_ALG_COUNT; i++) {
        names[i] = jwa_table[i].name;
    }
    if (alg < 0) {
        lua_shape_unknown(L, "tg.jwt", "algorithm", name.p, names, JWT_ALG_COUNT);
    }
    if (!(keyset_algs(set) & JWA_BIT(alg))) {
        luaL_error(L, "tg.jwt: alg: the keys of '%s' are not for %s", keyset_name(set), name.p);
    }
    return JWA_BIT(alg);
}

static unsigned read_algs(lua_State *L, const struct keyset *set)
{
    unsigned algs = 0;
    if (lua_shape_field(L, OPTIONS, "alg") != LUA_TTABLE || lua_rawlen(L, -1) == 0 ||
        lua_rawlen(L, -1) > JWT_ALG_COUNT) {
        luaL_error(L, "tg.jwt: alg: a list of the algorithms to accept was expected, such as "
                      "{ \"RS256\" }");
    }
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        algs |= read_alg(L, -1, set);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return algs;
}

/* Absent where the option is. */
static struct slice lua_jwt_read_text(lua_State *L, const char *name, const char *what)
{
    struct slice s = {0};
    if (lua_shape_field(L, OPTIONS, name) != LUA_TNIL) {
        s = lua_shape_string(L, -1, what);
    }
    lua_pop(L, 1);
    return s;
}

/* aud: a name, a list of names, or false. */
static void read_audience(lua_State *L, struct jwt_options *o)
{
    int type = lua_shape_field(L, OPTIONS, "aud");
    if (type == LUA_TSTRING) {
        o->aud[o->aud_n++] = lua_shape_string(L, -1, "tg.jwt: aud");
    } else if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1)) {
        o->any_aud = true;
    } else if (type == LUA_TTABLE && lua_rawlen(L, -1) >= 1 && lua_rawlen(L, -1) <= JWT_AUDIENCES) {
        lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, i);
            o->aud[o->aud_n++] = lua_shape_string(L, -1, "tg.jwt: aud[i]");
            lua_pop(L, 1);
        }
    } else if (type != LUA_TNIL) {
        luaL_error(L,
                   "tg.jwt: aud: a string, a list of 1 to %d strings, or false (any audience) "
                   "was expected",
                   (int)JWT_AUDIENCES);
    }
    lua_pop(L, 1);
}

static bool read_exp_optional(lua_State *L)
{
    int type = lua_shape_field(L, OPTIONS, "exp");
    bool is_false = type == LUA_TBOOLEAN && !lua_toboolean(L, -1);
    if (type != LUA_TNIL && !is_false) {
        luaL_error(L, "tg.jwt: exp: false was expected (a token without an expiry will do), or "
                      "nothing");
    }
    lua_pop(L, 1);
    return is_false;
}

static struct keyset *read_options(lua_State *L, struct keyring *k, struct jwt_options *o)
{
    static const char *const names[] = {"keys", "alg", "iss", "aud", "typ", "leeway", "exp", NULL};
    lua_shape_closed(L, OPTIONS, "tg.jwt", names);
    struct keyset *set = read_keys(L, k);
    *o = (struct jwt_options){.algs = read_algs(L, set),
                              .iss = lua_jwt_read_text(L, "iss", "tg.jwt: iss"),
                              .typ = lua_jwt_read_text(L, "typ", "tg.jwt: typ"),
                              .exp_optional = read_exp_optional(L)};
    read_audience(L, o);
    if (lua_shape_field(L, OPTIONS, "leeway") != LUA_TNIL) {
        o->leeway_s =
            lua_shape_integer(L, -1, "tg.jwt: leeway (seconds)", 0, (lua_Integer)JWT_LEEWAY_MAX_S);
    }
    lua_pop(L, 1);
    return set;
}

/* ---- the answer */

static int push_bad(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* Leaves the claims' text in the box, or answers why not: *why is a constant. */
static enum jwt_outcome verify(struct lua_box *box, struct keyset *set, struct slice token,
                               const struct jwt_options *o, int64_t now_s, const char **why)
{
    struct jwt out = {.claims = box->text};
    enum jwt_outcome outcome = keyset_verify(set, token, o, now_s, &out);
    box->text = out.claims;
    *why = out.why;
    return outcome;
}

static int push_claims(lua_State *L, struct slice text)
{
    struct lua_json_error error;
    if (lua_json_decode(L, text, &error) != LUA_JSON_OK) {
        return push_bad(L, "the token's claims are nested too deep");
    }
    return 1;
}

int lua_jwt(lua_State *L)
{
    char unavailable[160];
    struct jwt_options o;
    const char *why;
    struct slice token = {0};
    const struct lua_host *s = sandbox_of(L);
    lua_settop(L, OPTIONS);
    struct keyset *set = read_options(L, s->keyring, &o);
    if (lua_isnil(L, TOKEN)) {
        return push_bad(L, "there is no token");
    }
    token = lua_shape_string(L, TOKEN, "tg.jwt: token");
    struct lua_box *box = lua_box_push(L, JWT_MAX_BYTES);
    switch (verify(box, set, token, &o, s->unix_ms(s->ctx) / 1000, &why)) {
    case JWT_OK:
        return push_claims(L, strbuf_slice(&box->text));
    case JWT_FAILED:
        snprintf(unavailable, sizeof unavailable, "keys of '%s': %s", keyset_name(set), why);
        lua_box_pop(L); /* the coroutine may be gone before its stack is */
        return lua_coro_give_up(L, "tg.jwt", unavailable);
    case JWT_BAD:
    case JWT_UNKNOWN_KEY:
    default:
        return push_bad(L, why);
    }
}
