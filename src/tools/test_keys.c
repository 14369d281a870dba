/* See test_keys.h. */
#include "tools/test_keys.h"

#include "tools/jwt_sign.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SETS_MAX = 16, PATH_BYTES = 32 };

static const char key_type[] = "tidegate.test.key", sets_type[] = "tidegate.test.sets";

/* ---------------------------------------------------------------- sets */

struct sets {
    struct test_keys public; /* first: what callers have a pointer to */
    struct keyset_options options[SETS_MAX];
    int fds[SETS_MAX];
    char paths[SETS_MAX][PATH_BYTES];
};

void test_keys_close(struct test_keys *k)
{
    struct sets *s = (struct sets *)k;
    for (size_t i = 0; i < k->n; i++) {
        close(s->fds[i]);
    }
    k->n = 0;
}

static int l_sets_gc(lua_State *L)
{
    test_keys_close(luaL_checkudata(L, 1, sets_type));
    return 0;
}

/* 0, or a negative errno. */
static int add_set(struct sets *s, const char *name, struct slice text)
{
    size_t i = s->public.n;
    int fd = memfd_create("keys", MFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    s->fds[i] = fd;
    s->public.n++;
    for (size_t done = 0; done < text.n;) {
        ssize_t n = write(fd, text.p + done, text.n - done);
        if (n < 0) {
            return -errno;
        }
        done += (size_t)n;
    }
    snprintf(s->paths[i], PATH_BYTES, "/proc/self/fd/%d", fd);
    s->options[i] =
        (struct keyset_options){.name = name, .source = KEY_JWKS_FILE, .where = s->paths[i]};
    return 0;
}

struct test_keys *test_keys_push(lua_State *L, int arg)
{
    struct sets *s = lua_newuserdatauv(L, sizeof *s, 0);
    s->public = (struct test_keys){.sets = s->options, .n = 0};
    luaL_setmetatable(L, sets_type);
    if (lua_isnoneornil(L, arg)) {
        return &s->public;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        struct slice text = {0};
        luaL_argcheck(L, s->public.n < SETS_MAX, arg, "too many key sets");
        luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING, arg,
                      "texts were expected");
        text.p = lua_tolstring(L, -1, &text.n);
        int rc = add_set(s, lua_tostring(L, -2), text); /* the table holds the name */
        if (rc) {
            luaL_error(L, "a file in memory: %s", strerror(-rc));
        }
        lua_pop(L, 1);
    }
    return &s->public;
}

/* ---------------------------------------------------------------- keys */

static struct jwt_signer *test_keys_check_key(lua_State *L)
{
    return *(struct jwt_signer **)luaL_checkudata(L, 1, key_type);
}

static int check_alg(lua_State *L, int arg)
{
    struct slice name;
    name.p = luaL_checklstring(L, arg, &name.n);
    int alg = jwa_find(name);
    luaL_argcheck(L, alg >= 0, arg, "unknown algorithm");
    return alg;
}

int test_keys_new(lua_State *L)
{
    int alg = check_alg(L, 1);
    struct slice secret = {0};
    if (!lua_isnoneornil(L, 2)) {
        secret.p = luaL_checklstring(L, 2, &secret.n);
        luaL_argcheck(L, secret.n <= JWT_SIGN_MAX_BYTES, 2, "too long");
    }
    struct jwt_signer **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, key_type);
    *box = jwt_signer_new(jwa_table[alg].type, secret);
    return *box ? 1 : luaL_error(L, "libcrypto cannot make a key for %s", jwa_table[alg].name);
}

static int l_key_gc(lua_State *L)
{
    struct jwt_signer **box = luaL_checkudata(L, 1, key_type);
    jwt_signer_free(*box);
    *box = NULL;
    return 0;
}

static int l_key_sign(lua_State *L)
{
    const struct jwt_signer *key = test_keys_check_key(L);
    int alg = check_alg(L, 2);
    struct slice text;
    struct jwt_bytes out;
    text.p = luaL_checklstring(L, 3, &text.n);
    luaL_argcheck(L, jwa_table[alg].type == jwt_signer_type(key), 2, "not of the type of the key");
    if (!jwt_signer_sign(key, (enum jwt_alg)alg, text, &out)) {
        return luaL_error(L, "libcrypto cannot sign with %s", jwa_table[alg].name);
    }
    lua_pushlstring(L, (const char *)out.data, out.n);
    return 1;
}

static int l_key_public(lua_State *L)
{
    struct jwt_public p;
    if (!jwt_signer_public(test_keys_check_key(L), &p)) {
        return luaL_error(L, "libcrypto does not say what the public key is");
    }
    lua_createtable(L, 0, 2);
    lua_pushstring(L, p.kty);
    lua_setfield(L, -2, "kty");
    if (p.crv) {
        lua_pushstring(L, p.crv);
        lua_setfield(L, -2, "crv");
    }
    lua_createtable(L, 0, JWT_SIGN_MEMBERS);
    for (size_t i = 0; i < p.n; i++) {
        lua_pushlstring(L, (const char *)p.members[i].value.data, p.members[i].value.n);
        lua_setfield(L, -2, p.members[i].name);
    }
    return 2;
}

void test_keys_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"sign", l_key_sign}, {"public", l_key_public}, {"__gc", l_key_gc}, {NULL, NULL}};
    static const luaL_Reg sets[] = {{"__gc", l_sets_gc}, {NULL, NULL}};
    luaL_newmetatable(L, sets_type);
    luaL_setfuncs(L, sets, 0);
    luaL_newmetatable(L, key_type);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
}
