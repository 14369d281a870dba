#include "lua/policy/lua_policy_about.h"

#include "lua/load/lua_policy_file.h"
#include "lua/load/lua_sandbox.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_readonly.h"

#include <lauxlib.h>
#include <uv.h>

const char *lua_policy_name(const struct policy *p, bool of_format, size_t i)
{
    const struct lua_policy_file *file = lua_policy_file_of(p);
    const struct lua_functions *f = of_format ? &file->formats : &file->filters;
    return i < f->n ? f->v[i].name : NULL;
}

const struct query *lua_policy_query(const struct policy *p, size_t i, const char **name)
{
    const struct lua_queries *q = &lua_policy_file_of(p)->queries;
    *name = i < q->n ? q->v[i].name : NULL;
    return i < q->n ? q->v[i].query : NULL;
}

/* ---- about a policy; jansson's setters take values also when they fail, and NULL is a failure:
 * what could not be made is missing */

struct fields {
    json_t *attrs, *data;
};

static void lua_policy_about_note_field(void *ctx, struct slice field, bool of_data)
{
    struct fields *f = ctx;
    json_t *list = of_data ? f->data : f->attrs;
    size_t i;
    json_t *known;
    json_array_foreach(list, i, known)
    {
        if (slice_is(field, json_string_value(known))) {
            return;
        }
    }
    (void)json_array_append_new(list, json_stringn(field.p, field.n));
}

static json_t *about_function(const struct lua_function *fn, bool of_format)
{
    bool plain = of_format ? fn->spec != NULL : fn->text != NULL;
    json_t *out = json_pack("{s:s, s:s, s:s}", "name", fn->name, "kind",
                            !plain      ? "lua"
                            : of_format ? "rules"
                                        : "text",
                            "at", fn->where);
    struct fields f = {json_array(), json_array()};
    if (out && f.attrs && f.data && fn->text) {
        filter_reads(fn->text, lua_policy_about_note_field, &f);
        (void)json_object_set(out, "attrs", f.attrs);
        (void)json_object_set(out, "data", f.data);
    }
    json_decref(f.attrs);
    json_decref(f.data);
    return out;
}

static json_t *about_functions(const struct lua_functions *all, bool of_format)
{
    json_t *list = json_array();
    for (size_t i = 0; i < all->n; i++) {
        (void)json_array_append_new(list, about_function(&all->v[i], of_format));
    }
    return list;
}

static json_t *about_queries(const struct lua_queries *all)
{
    json_t *list = json_array();
    for (size_t i = 0; i < all->n; i++) {
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:i}", "name", all->v[i].name, "parameters",
                                              (int)all->source->ops->parameters(all->v[i].query)));
    }
    return list;
}

/* used: some filter names it. */
static json_t *about_sets(const struct lua_policy_file *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->sets.n; i++) {
        const struct lua_set *s = &f->sets.v[i];
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s, s:I, s:I, s:b}", "name", s->name, "query",
                                              s->query, "every", (json_int_t)(s->every_ms / 1000),
                                              "stale", (json_int_t)(s->stale_ms / 1000), "used",
                                              filter_set_uses_values(f->texts, s->name)));
    }
    return list;
}

static json_t *about_hooks(const struct lua_policy_file *f)
{
    json_t *list = json_array();
    for (int i = 0; i < POLICY_HOOK_SINGLE_COUNT; i++) {
        if (lua_policy_file_has(f, (enum policy_hook)i)) {
            (void)json_array_append_new(list, json_string(policy_hook_name((enum policy_hook)i)));
        }
    }
    return list;
}

/* The topics that it observes. */
static json_t *about_observes(const struct lua_observes *all)
{
    json_t *list = json_array();
    for (size_t i = 0; i < all->n; i++) {
        for (size_t k = 0; k < all->v[i].n; k++) {
            (void)json_array_append_new(list, json_string(all->v[i].topics[k]));
        }
    }
    return list;
}

static json_t *about_settings(const struct policy *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->setting_count; i++) {
        const struct policy_declared *s = &p->settings[i];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:s}", "name", s->name, "type", s->type, "from", s->from));
    }
    return list;
}

json_t *lua_policy_about(const struct policy *p)
{
    const struct lua_policy_file *f = lua_policy_file_of(p);
    return json_pack("{s:s?, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "label", p->label, "version",
                     lua_policy_version(p), "hooks", about_hooks(f), "queries",
                     about_queries(&f->queries), "sets", about_sets(f), "filters",
                     about_functions(&f->filters, false), "formats",
                     about_functions(&f->formats, true), "observes", about_observes(&f->observes),
                     "settings", about_settings(p));
}

/* ---- what every policy can see */

/* stack: ..., value of the global `name` */
static void note_global(lua_State *L, const char *name, json_t *out)
{
    if (!lua_readonly_real(L, -1)) {
        (void)json_array_append_new(out, json_string(name));
        return;
    }
    lua_pushnil(L); /* stack: ..., value, library, key */
    while (lua_next(L, -2)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            (void)json_array_append_new(out, json_sprintf("%s.%s", name, lua_tostring(L, -2)));
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* The globals are a proxy: `env` of sandbox.lua is behind it. */
static int globals_body(lua_State *L)
{
    json_t *out = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    if (luaL_getmetafield(L, -1, "__index") != LUA_TTABLE) {
        return luaL_error(L, "the globals cannot be listed");
    }
    lua_pushnil(L);
    while (lua_next(L, 3)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            note_global(L, lua_tostring(L, -2), out);
        }
        lua_pop(L, 1);
    }
    return 0;
}

json_t *lua_policy_globals(struct err *e)
{
    enum { MEMORY_BYTES = 16 * 1024 * 1024 };
    static char root[] = "/";
    char *const dirs[] = {root};
    struct lua_host host = {.dirs = dirs, .dir_count = 1};
    struct lua_vm *vm = lua_vm_new(MEMORY_BYTES);
    json_t *out = json_array();
    if (!vm || !out) {
        (void)err_set(e, UV_ENOMEM, "no memory for a Lua state");
    } else if (lua_sandbox_open(vm, &host, e) == 0 && lua_vm_call(vm, globals_body, out, e) == 0) {
        lua_vm_free(vm);
        return out;
    }
    json_decref(out);
    if (vm) {
        lua_vm_free(vm);
    }
    return NULL;
}
