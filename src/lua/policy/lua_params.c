#include "lua/policy/lua_params.h"

#include "base/alloc.h"
#include "base/require.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_readonly.h"

#include <stdlib.h>

struct binding {
    struct slice json;
    bool recorded;
    int ref;
};

/* Lists first, then the table that holds them: two levels are all there is. */
static void wrap(lua_State *L, bool recorded)
{
    int t = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, t)) { /* stack: t, key, value */
        if (lua_type(L, -1) == LUA_TTABLE) {
            lua_readonly_wrap(L, "params");
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, t); /* assigns a field that exists: allowed during a traversal */
        } else {
            lua_pop(L, 1);
        }
    }
    if (recorded) {
        lua_readonly_wrap_recorded(L, "params");
    } else {
        lua_readonly_wrap(L, "params");
    }
}

static int bind_body(lua_State *L)
{
    struct binding *b = lua_touserdata(L, 1);
    struct lua_json_error why;
    if (lua_json_decode(L, b->json, &why) != LUA_JSON_OK) {
        return luaL_error(L, "params: %s", why.text);
    }
    luaL_checktype(L, -1, LUA_TTABLE);
    wrap(L, b->recorded);
    b->ref = lua_vm_ref(L);
    return 0;
}

static int unbind_body(lua_State *L)
{
    const struct binding *b = lua_touserdata(L, 1);
    lua_vm_unref(L, b->ref);
    return 0;
}

static int anchor(struct lua_vm *vm, struct slice json, bool recorded, int *ref, struct err *e)
{
    struct binding b = {json, recorded, LUA_NOREF};
    int rc = lua_vm_call(vm, bind_body, &b, e);
    *ref = b.ref;
    return rc;
}

static void lua_params_release(struct lua_vm *vm, int ref)
{
    struct binding b = {.ref = ref};
    struct err e;
    REQUIRE(lua_vm_call(vm, unbind_body, &b, &e) == 0); /* allocates nothing */
}

int lua_params_open(struct lua_params *p, struct lua_vm *vm, struct err *e)
{
    *p = (struct lua_params){.empty = LUA_NOREF};
    return anchor(vm, slice_str("{}"), false, &p->empty, e);
}

void lua_params_close(struct lua_params *p, struct lua_vm *vm)
{
    for (size_t i = 0; i < p->n; i++) {
        REQUIRE(p->v[i].ref == LUA_NOREF);
    }
    lua_params_release(vm, p->empty);
    free(p->v);
    *p = (struct lua_params){.empty = LUA_NOREF};
}

static size_t lua_params_free_slot(struct lua_params *p)
{
    for (size_t i = p->free_from; i < p->n; i++) {
        if (p->v[i].ref == LUA_NOREF) {
            return i;
        }
    }
    p->v = xrealloc(p->v, (p->n + 1) * sizeof *p->v);
    p->v[p->n] = (struct lua_param){.ref = LUA_NOREF};
    return p->n++;
}

int lua_params_bind(struct lua_params *p, struct lua_vm *vm, struct slice json, bool recorded,
                    struct err *e)
{
    int ref;
    int rc = anchor(vm, json, recorded, &ref, e);
    if (rc) {
        return rc;
    }
    size_t slot = lua_params_free_slot(p);
    p->free_from = slot + 1;
    p->v[slot] = (struct lua_param){.ref = ref, .text = xstrndup(json.p, json.n)};
    return (int)slot;
}

void lua_params_unbind(struct lua_params *p, struct lua_vm *vm, int slot)
{
    if (slot < 0) {
        return;
    }
    struct lua_param *at = &p->v[slot];
    lua_params_release(vm, at->ref);
    free(at->text);
    *at = (struct lua_param){.ref = LUA_NOREF};
    if ((size_t)slot < p->free_from) {
        p->free_from = (size_t)slot;
    }
}

struct format_class_cache *lua_params_classes(struct lua_params *p, int slot)
{
    return &p->v[slot].classes;
}

int lua_params_ref(const struct lua_params *p, int slot)
{
    return slot < 0 ? p->empty : p->v[slot].ref;
}

struct slice lua_params_text(const struct lua_params *p, int slot)
{
    return slot < 0 ? slice_of(NULL, 0) : slice_str(p->v[slot].text);
}
