#include "lua/load/lua_policy_file.h"

#include "base/alloc.h"
#include "base/require.h"
#include "lua/load/lua_format_spec.h"
#include "lua/load/lua_policy_text.h"
#include "lua/load/lua_sandbox.h"
#include "lua/load/lua_settings.h"
#include "lua/vm/lua_shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { FUNCTIONS_MAX = 1000, API_VERSION = 1 };

struct load {
    struct lua_policy_file *f;
    struct lua_policy_source source;
    bool auth_open;
};

const char *policy_hook_name(enum policy_hook hook)
{
    static const char *const names[] = {
#define X(e, name, counter, overdue) name,
        POLICY_HOOKS(X)
#undef X
    };
    return names[hook];
}

void lua_policy_file_init(struct lua_policy_file *f)
{
    *f = (struct lua_policy_file){.version = ""};
    for (int i = 0; i < POLICY_HOOK_SINGLE_COUNT; i++) {
        f->hooks[i].ref = LUA_NOREF;
    }
}

/* Takes the function on top of the stack. */
static void take_function(lua_State *L, struct lua_function *out)
{
    lua_Debug ar;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &ar);
    if (ar.linedefined > 0) {
        snprintf(out->where, sizeof out->where, "%s:%d", ar.short_src, ar.linedefined);
    }
    out->ref = lua_vm_ref(L);
}

static void read_hook(lua_State *L, int policy, enum policy_hook hook, struct lua_policy_file *f)
{
    const char *name = policy_hook_name(hook);
    int type = lua_shape_field(L, policy, name);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    if (type != LUA_TFUNCTION) {
        luaL_error(L, "%s: a function was expected, got %s", name, lua_typename(L, type));
    }
    take_function(L, &f->hooks[hook]);
}

/* A kind of named functions: what is read, and into what. */
struct kind {
    const char *name;
    struct lua_functions *out;
    int instead;      /* the type it may have instead of a function */
    const char *word; /* and what that is called */
};

static void read_function(lua_State *L, const struct load *load, const struct kind *k)
{
    struct lua_functions *out = k->out;
    const char *kind = k->name;
    const char *name = lua_shape_name(L, -2, kind).p; /* stack: ..., name, function */
    if (k->instead == LUA_TTABLE && (strcmp(name, "raw") == 0 || strcmp(name, "json") == 0 ||
                                     strcmp(name, "cloudevents") == 0)) {
        luaL_error(L, "formats.%s: the name belongs to a built-in format; use another", name);
    }
    if (k->instead == LUA_TSTRING && strcmp(name, "none") == 0) {
        luaL_error(
            L, "filters.none: in a subscription that says there is no filter; use another name");
    }
    int type = lua_type(L, -1);
    if (type != k->instead && type != LUA_TFUNCTION) {
        luaL_error(L, "%s.%s: a function or %s was expected, got %s", kind, name, k->word,
                   lua_typename(L, type));
    }
    if (out->n == FUNCTIONS_MAX) {
        luaL_error(L, "%s: more than %d", kind, FUNCTIONS_MAX);
    }
    out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
    struct lua_function *f = &out->v[out->n];
    *f = (struct lua_function){.name = xstrdup(name), .ref = LUA_NOREF};
    out->n++; /* owned from here on, whatever is raised */
    if (type == LUA_TSTRING) {
        f->text = lua_policy_text_compile(L, load->f->texts, &load->source, name,
                                          lua_shape_string(L, -1, name), f->where, sizeof f->where);
        lua_pop(L, 1);
    } else if (type == LUA_TTABLE) {
        char what[LUA_SHAPE_NAME_MAX + 16];
        snprintf(what, sizeof what, "formats.%s", name);
        snprintf(f->where, sizeof f->where, "%s", load->source.chunk);
        f->spec = lua_format_spec_new();
        lua_format_spec_read(L, lua_gettop(L), what, f->spec);
        lua_pop(L, 1);
    } else {
        take_function(L, f);
    }
}

static int lua_policy_file_by_name(const void *a, const void *b)
{
    const struct lua_function *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void read_functions(lua_State *L, int policy, const struct load *load, const struct kind *k)
{
    struct lua_functions *out = k->out;
    const char *kind = k->name;
    int type = lua_shape_field(L, policy, kind); /* stack: table */
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    if (type != LUA_TTABLE) {
        luaL_error(L, "%s: a table of named functions was expected, got %s", kind,
                   lua_typename(L, type));
    }
    int t = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, t)) {
        read_function(L, load, k); /* pops the function */
    }
    lua_pop(L, 1);
    if (out->n) {
        qsort(out->v, out->n, sizeof *out->v, lua_policy_file_by_name);
    }
}

static void read_api(lua_State *L, int policy)
{
    lua_shape_field(L, policy, "api");
    if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) != API_VERSION) {
        luaL_error(
            L, "api: must be %d (the version of the policy interface that this broker supports)%s",
            API_VERSION, lua_isnil(L, -1) ? "; it is missing" : "");
    }
    lua_pop(L, 1);
}

static void read_version(lua_State *L, int policy, struct lua_policy_file *f)
{
    if (lua_shape_field(L, policy, "version") != LUA_TNIL) {
        struct slice s = lua_shape_string(L, -1, "version");
        if (s.n >= sizeof f->version || memchr(s.p, '\0', s.n)) {
            luaL_error(L, "version: a label of at most %d bytes was expected",
                       (int)sizeof f->version - 1);
        }
        memcpy(f->version, s.p, s.n);
    }
    lua_pop(L, 1);
}

static int load_body(lua_State *L)
{
    static const char *const keys[] = {"api",     "version", "authenticate", "subscribe", "publish",
                                       "filters", "formats", "disconnect",   "setup",     "reload",
                                       "queries", "sets",    "observe",      NULL};
    const struct load *load = lua_touserdata(L, 1);
    struct lua_policy_file *f = load->f;
    lua_sandbox_load(L, load->source.path, load->source.chunk);
    lua_call(L, 0, 1); /* stack: ud, policy */
    if (lua_type(L, 2) != LUA_TTABLE) {
        return luaL_error(L, "%s must end in `return` and a table of hooks; it returned %s",
                          load->source.chunk, luaL_typename(L, 2));
    }
    if (lua_shape_field(L, 2, "settings") != LUA_TNIL) { /* known too late for the file itself */
        return luaL_error(L, "settings: declare them with tg.settings { ... } at the top of %s",
                          load->source.chunk);
    }
    lua_pop(L, 1);
    lua_shape_closed(L, 2, load->source.chunk, keys);
    f->declared = xcalloc(POLICY_SETTINGS_MAX, sizeof *f->declared);
    f->declared_count = lua_settings_check(L, f->declared);
    read_api(L, 2);
    read_version(L, 2, f);
    for (int i = 0; i < POLICY_HOOK_SINGLE_COUNT; i++) {
        read_hook(L, 2, (enum policy_hook)i, f);
    }
    lua_shape_field(L, 2, "queries");
    lua_queries_read(L, lua_gettop(L), &f->queries);
    lua_pop(L, 1);
    lua_sets_read(L, 2, &f->queries, f->texts, &f->sets); /* filters name them */
    read_functions(L, 2, load, &(struct kind){"filters", &f->filters, LUA_TSTRING, "text"});
    read_functions(L, 2, load,
                   &(struct kind){"formats", &f->formats, LUA_TTABLE, "a table of rules"});
    lua_shape_field(L, 2, "observe");
    lua_observes_read(L, lua_gettop(L), &f->observes);
    lua_pop(L, 1);
    if (!lua_policy_file_has(f, POLICY_HOOK_SUBSCRIBE)) {
        return luaL_error(L, "subscribe: missing; it decides what a client receives");
    }
    if (!lua_policy_file_has(f, POLICY_HOOK_AUTHENTICATE) && !load->auth_open) {
        return luaL_error(L, "authenticate: missing; without it the policy cannot tell clients "
                             "apart. Add the hook, or set auth = \"open\" in the configuration");
    }
    return 0;
}

int lua_policy_file_load(struct lua_policy_file *f, struct lua_vm *vm, const char *path,
                         bool auth_open, const struct lua_budget *budget, struct err *e)
{
    const char *slash = strrchr(path, '/');
    struct load load = {f, {path, slash ? slash + 1 : path}, auth_open};
    f->texts = filter_set_new();
    if (f->counts) {
        filter_set_count(f->texts);
    }
    int rc = lua_vm_run(vm, lua_budget_allow(budget, 0), load_body, &load, e);
    if (rc && access(path, R_OK) != 0) {
        (void)err_set(e, rc, "cannot read %s: %s: is policy.file of the configuration right?",
                      slash ? slash + 1 : path, strerror(errno));
    }
    return rc ? err_context(e, "policy %s", path) : 0;
}

static void unref_all(lua_State *L, struct lua_functions *all)
{
    for (size_t i = 0; i < all->n; i++) {
        lua_vm_unref(L, all->v[i].ref);
    }
}

static int clear_body(lua_State *L)
{
    struct lua_policy_file *f = lua_touserdata(L, 1);
    for (int i = 0; i < POLICY_HOOK_SINGLE_COUNT; i++) {
        lua_vm_unref(L, f->hooks[i].ref);
    }
    unref_all(L, &f->filters);
    unref_all(L, &f->formats);
    lua_observes_unref(L, &f->observes);
    return 0;
}

static void free_names(struct lua_functions *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->v[i].name);
        lua_format_spec_free(all->v[i].spec);
    }
    free(all->v);
}

void lua_policy_file_clear(struct lua_policy_file *f, struct lua_vm *vm)
{
    struct err e;
    REQUIRE(lua_vm_call(vm, clear_body, f, &e) == 0); /* allocates nothing */
    free_names(&f->filters);
    free_names(&f->formats);
    filter_set_free(f->texts);
    lua_sets_clear(&f->sets);
    lua_queries_clear(&f->queries);
    lua_observes_clear(&f->observes);
    free(f->declared);
    lua_policy_file_init(f);
}

bool lua_policy_file_has(const struct lua_policy_file *f, enum policy_hook hook)
{
    return f->hooks[hook].ref != LUA_NOREF;
}

int lua_functions_find(const struct lua_functions *all, struct slice name)
{
    for (size_t i = 0; i < all->n; i++) {
        if (slice_is(name, all->v[i].name)) {
            return (int)i;
        }
    }
    return -1;
}

/* ---------------------------------------------------------------- health */

bool lua_health_note(struct lua_health *h, int rc, uint64_t event)
{
    bool known = rc == UV_EINVAL && h->failed_on == event;
    if (known || rc == UV_ENOMEM || rc == UV_EBUSY) {
        return false;
    }
    h->failed_on = rc == UV_EINVAL ? event : h->failed_on;
    h->calls++;
    h->errors += rc != 0;
    if (h->errors > LUA_HEALTH_ERRORS) {
        h->quarantined = true;
        return true;
    }
    if (h->calls == LUA_HEALTH_CALLS) {
        h->calls = h->errors = 0;
    }
    return false;
}

/* ---------------------------------------------------------------- budgets */

static struct lua_budget budget(const char *hook, const char *setting, unsigned ms)
{
    return (struct lua_budget){hook, setting, ms * UINT64_C(1000000)};
}

/* One case for each hook: the compiler finds the one that has no budget. */
static struct lua_budget budget_of(enum policy_hook hook, const struct lua_policy_cpu *cpu)
{
    const char *name = hook < POLICY_HOOK_COUNT ? policy_hook_name(hook) : "?";
    switch (hook) {
    case POLICY_HOOK_AUTHENTICATE:
    case POLICY_HOOK_SUBSCRIBE:
    case POLICY_HOOK_DISCONNECT:
        return budget(name, "policy.subscribe_cpu_ms", cpu->subscribe_ms);
    case POLICY_HOOK_PUBLISH:
    case POLICY_HOOK_OBSERVE:
        return budget(name, "policy.publish_cpu_ms", cpu->publish_ms);
    case POLICY_HOOK_FILTER:
    case POLICY_HOOK_FORMAT:
        return budget(name, "policy.filter_cpu_ms", cpu->filter_ms);
    case POLICY_HOOK_SETUP:
    case POLICY_HOOK_RELOAD:
        return budget(name, "policy.load_cpu_ms", cpu->load_ms);
    case POLICY_HOOK_COUNT:
        break;
    }
    return budget(name, "?", 0);
}

void lua_budgets_init(struct lua_budgets *b, const struct lua_policy_cpu *cpu)
{
    for (unsigned i = 0; i < POLICY_HOOK_COUNT; i++) {
        b->hooks[i] = budget_of((enum policy_hook)i, cpu);
    }
    b->load = budget("load", "policy.load_cpu_ms", cpu->load_ms);
}

struct lua_allowance lua_budgets_batch(const struct lua_budgets *b, size_t n, size_t bytes)
{
    struct lua_allowance a = lua_budget_allow(&b->hooks[POLICY_HOOK_PUBLISH], bytes);
    a.cpu_ns += b->hooks[POLICY_HOOK_PUBLISH].cpu_ns / 10 * (n ? n - 1 : 0);
    return a;
}
