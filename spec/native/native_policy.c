/* lua/: a policy file, opened as the broker opens it; questions are asked with made-up requests. */
#include "native_policy.h"

#include "base/alloc.h"
#include "lua/api/lua_cache.h"
#include "lua/api/lua_rate.h"
#include "lua/load/lua_sources.h"
#include "lua/policy/lua_policy.h"
#include "lua/vm/lua_waits.h"
#include "net/loop.h"
#include "policy/saved_request.h"
#include "quota/shared_area.h"
#include "tools/test/test_values.h"

#include <stdlib.h>
#include <unistd.h>

static const char *const policy_class = "native.policy";
static char token_param[] = "token";
static char *const credential_params[] = {token_param};

enum { PATH_DIRECTORIES_MAX = 4 };

/* A policy with a loop of its own and something that keeps the loop alive. */
struct bench {
    struct loop *loop;
    uv_timer_t alive;
    struct policy_metrics metrics;
    struct lua_waits *waits;
    struct lua_cache *cache;
    struct policy *policy;
    struct keyring *keyring;
    struct shared_area area; /* of rates */
    struct quota_metrics quota_metrics;
    struct lua_rates rates;
    struct bound {
        lua_Integer id;
        struct policy_binding binding;
    } * bound; /* owned; given back at close, should a spec fail in between */
    struct lua_sources sources;
    unsigned bound_count, bound_cap;
    lua_Integer last_bound;
};

struct answer {
    lua_State *L;
    unsigned calls;
    uint64_t token;
};

static struct bench *check(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, policy_class);
    luaL_argcheck(L, b->policy, 1, "closed");
    return b;
}

static void on_alive(uv_timer_t *t)
{
    (void)t; /* its being active is the effect */
}

static void turn(struct bench *b)
{
    uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
}

static void close_bench(struct bench *b)
{
    if (!b->loop) {
        return;
    }
    while (b->bound_count) {
        b->policy->rules->unbind(b->policy, &b->bound[--b->bound_count].binding);
    }
    free(b->bound);
    b->bound = NULL;
    if (b->policy) {
        b->policy->life->close(b->policy);
        b->policy = NULL;
        lua_sources_clear(&b->sources);
    }
    lua_cache_free(b->cache);
    lua_waits_free(b->waits);
    keyring_close(b->keyring);
    shared_area_close(&b->area);
    uv_close((uv_handle_t *)&b->alive, NULL);
    turn(b);
    unsigned left = loop_free(b->loop);
    b->loop = NULL;
    if (left) {
        abort();
    }
}

static int l_close(lua_State *L)
{
    close_bench(luaL_checkudata(L, 1, policy_class));
    return 0;
}

static uint64_t now_ns(void *ctx)
{
    (void)ctx;
    return uv_hrtime();
}

static bool flag(lua_State *L, int arg, const char *name)
{
    lua_getfield(L, arg, name);
    bool on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

/* open{file, auth_open, memory_bytes, event_bytes, error_log_interval_s, keys, settings, path} ->
 * policy, or nil, text; settings: see test_settings_push(), path: a list of directories */
static int l_open(lua_State *L)
{
    struct lua_policy_options opt = {
        .file = native_field_slice(L, 1, "file").p,
        .auth_open = flag(L, 1, "auth_open"),
        .memory_bytes = (size_t)native_field_integer(L, 1, "memory_bytes", 16 << 20),
        .event_bytes = (size_t)native_field_integer(L, 1, "event_bytes", 1 << 20),
        .limits = {.topics = 100,
                   .params_keys = 32,
                   .params_bytes = 1024,
                   .identity_bytes = 2048,
                   .first_bytes = 4096,
                   .presence_bytes = 1024},
        .error_log_interval_s = (unsigned)native_field_integer(L, 1, "error_log_interval_s", 0),
        .subscribe_timeout_ms = 5000,
        .publish_timeout_ms = 2000,
        .credential_params = credential_params,
        .credential_param_count = 1,
    };
    struct err e = {0};
    if (lua_getfield(L, 1, "settings") == LUA_TTABLE) {
        const struct test_settings *s = test_settings_push(L, lua_gettop(L));
        opt.settings = s->v;
        opt.setting_count = s->n;
    }
    char *path[PATH_DIRECTORIES_MAX];
    if (lua_getfield(L, 1, "path") == LUA_TTABLE) {
        for (; lua_rawgeti(L, -1, (lua_Integer)opt.path_count + 1) == LUA_TSTRING; lua_pop(L, 1)) {
            luaL_argcheck(L, opt.path_count < PATH_DIRECTORIES_MAX, 1, "path: too long");
            path[opt.path_count++] = (char *)(uintptr_t)lua_tostring(L, -1); /* the list keeps it */
        }
        opt.path = path;
    }
    struct bench *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct bench){0};
    luaL_setmetatable(L, policy_class);
    if (shared_area_new(&b->area, 1, 1000, &e)) {
        return luaL_error(L, "%s", e.text);
    }
    b->rates =
        (struct lua_rates){.table = b->area.rates, .now_ns = now_ns, .metrics = &b->quota_metrics};
    opt.rates = &b->rates;
    b->loop = loop_new();
    uv_timer_init(loop_uv(b->loop), &b->alive);
    uv_timer_start(&b->alive, on_alive, 1000000, 1000000);
    turn(b);
    b->waits = lua_waits_new(b->loop, &b->metrics, &(struct lua_waits_limits){.suspended = 16});
    opt.waits = b->waits;
    b->cache = lua_cache_new(b->loop, &b->metrics, &(struct lua_cache_limits){65536, 4096});
    opt.cache = b->cache;
    if (native_open_keys(L, 1, &b->keyring, &e)) {
        close_bench(b);
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    opt.keyring = b->keyring;
    if (lua_policy_open(&opt, b->loop, &b->metrics, &b->policy, &b->sources, &e)) {
        lua_sources_clear(&b->sources);
        close_bench(b);
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    b->policy->life->set_stage(b->policy, POLICY_LIVE);
    return 1;
}

static void on_subscribe(void *ctx, uint64_t token, const struct verdict *v)
{
    struct answer *a = ctx;
    a->calls++;
    a->token = token;
    native_push_verdict(a->L, v);
}

/* Turns the loop until the answer is there; it must not come sooner, nor twice. */
static void await(lua_State *L, struct bench *b, const struct answer *a)
{
    if (a->calls != 0) {
        luaL_error(L, "answered from inside the question");
    }
    turn(b);
    turn(b);
    if (a->calls != 1 || a->token != 42) {
        luaL_error(L, "%d answers instead of one, token %d", (int)a->calls, (int)a->token);
    }
}

/* p:subscribe(request) -> verdict */
static int l_subscribe(lua_State *L)
{
    struct bench *b = check(L);
    struct native_request rq;
    struct answer a = {.L = L};
    native_read_request(L, 2, &rq);
    b->policy->gates->subscribe(b->policy, &rq.rq, on_subscribe, &a, 42);
    await(L, b, &a);
    return 1;
}

/* p:resubscribe(request, identity) -> verdict, what was kept; the request is kept as the broker keeps it */
static int l_resubscribe(lua_State *L)
{
    struct bench *b = check(L);
    const struct saved_request_rules rules = {credential_params, 1};
    struct native_request rq;
    struct answer a = {.L = L};
    struct http_query query;
    struct strbuf packed;
    struct slice identity;
    identity.p = luaL_checklstring(L, 3, &identity.n);
    native_read_request(L, 2, &rq);
    strbuf_init(&packed, 1 << 20);
    luaL_argcheck(L, saved_request_pack(&packed, slice_of(NULL, 0), rq.rq.query, &rules) == 0, 2,
                  "too large");
    struct saved_request *kept =
        saved_request_new(strbuf_slice(&packed), identity, slice_of(NULL, 0), slice_of(NULL, 0));
    saved_request_query(kept, &query);
    rq.rq.path = rq.rq.http->path;
    rq.rq.http = NULL;
    rq.rq.query = &query;
    b->policy->gates->resubscribe(b->policy, &rq.rq, saved_request_identity(kept), on_subscribe, &a,
                                  42);
    http_query_clear(&query);
    await(L, b, &a);
    lua_pushlstring(L, kept->bytes, kept->query_bytes + kept->identity_bytes);
    saved_request_unref(kept);
    strbuf_clear(&packed);
    return 2;
}

struct ready {
    unsigned calls;
    int rc;
    struct err e;
};

static void on_ready(void *ctx, int rc, const struct err *e)
{
    struct ready *r = ctx;
    *r = (struct ready){r->calls + 1, rc, *e};
}

/* p:setup(previous) -> true, or nil, text */
static int l_setup(lua_State *L)
{
    struct bench *b = check(L);
    struct ready r = {0};
    b->policy->life->setup(b->policy, luaL_optstring(L, 2, NULL), on_ready, &r);
    unsigned at_once = r.calls;
    turn(b);
    turn(b);
    luaL_argcheck(L, at_once == 0 && r.calls == 1, 1, "not answered once, or too soon");
    lua_pushboolean(L, 1);
    if (r.rc) {
        lua_pushnil(L);
        lua_pushstring(L, r.e.text);
        return 2;
    }
    return 1;
}

/* p:reloaded(previous) -> mode, or nil, text */
static int l_reloaded(lua_State *L)
{
    static const char *const modes[] = {"resubscribe", "keep", "reconnect"};
    struct bench *b = check(L);
    enum reload_mode mode;
    struct err e = {0};
    if (b->policy->life->reloaded(b->policy, luaL_checkstring(L, 2), &mode, &e)) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    lua_pushstring(L, modes[mode]);
    return 1;
}

/* p:stage("tried" | "live" | "retired") */
static int l_stage(lua_State *L)
{
    static const char *const stages[] = {"tried", "live", "retired", NULL};
    struct bench *b = check(L);
    b->policy->life->set_stage(b->policy, (enum policy_stage)luaL_checkoption(L, 2, NULL, stages));
    return 0;
}

/* p:figures() -> calls, errors, last error */
static int l_figures(lua_State *L)
{
    struct bench *b = check(L);
    struct policy_figures f;
    b->policy->life->figures(b->policy, &f);
    lua_pushinteger(L, (lua_Integer)f.calls);
    lua_pushinteger(L, (lua_Integer)f.errors);
    lua_pushstring(L, f.last_error);
    return 3;
}

/* p:version() -> hash, label */
static int l_version(lua_State *L)
{
    struct bench *b = check(L);
    lua_pushstring(L, lua_policy_version(b->policy));
    lua_pushstring(L, b->policy->label);
    return 2;
}

/* p:changed() -> do its files look otherwise by now */
static int l_changed(lua_State *L)
{
    lua_pushboolean(L, lua_sources_changed(&check(L)->sources));
    return 1;
}

static void on_publish(void *ctx, uint64_t token, const struct verdict *v,
                       struct event_list *events, const struct publication_made *made)
{
    struct answer *a = ctx;
    size_t asked = (size_t)lua_rawlen(a->L, 3);
    a->calls++;
    a->token = token;
    native_push_verdict(a->L, v);
    lua_newtable(a->L);
    for (size_t i = 0; i < events->n; i++) {
        native_push_fields(a->L, events->v[i]);
        lua_rawseti(a->L, -2, (lua_Integer)i + 1);
    }
    lua_newtable(a->L);
    for (size_t i = 0; i < asked && v->kind == VERDICT_ALLOW; i++) {
        lua_pushinteger(a->L, (lua_Integer)made[i].first);
        lua_rawseti(a->L, -2, (lua_Integer)i + 1);
    }
}

/* p:publish(request, {event, ..}) -> verdict, {fields, ..}, {first, ..} */
static int l_publish(lua_State *L)
{
    struct bench *b = check(L);
    struct native_request rq;
    struct answer a = {.L = L};
    struct event_list asked = {0};
    native_read_request(L, 2, &rq);
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 3); i++) {
        lua_rawgeti(L, 3, i);
        native_push_event(L, lua_gettop(L));
        event_list_push(&asked, event_ref(native_check_event(L, -1)));
        lua_pop(L, 2);
    }
    b->policy->gates->publish(b->policy, &rq.rq, &asked, on_publish, &a, 42);
    if (asked.n) {
        return luaL_error(L, "the list was not emptied");
    }
    await(L, b, &a);
    return 3;
}

/* p:bind{filter, format, params} -> binding table, or nil, code */
static int l_bind(lua_State *L)
{
    struct bench *b = check(L);
    struct policy_binding binding;
    struct subscription s = {
        .filter = native_field_slice(L, 2, "filter"),
        .format = native_field_slice(L, 2, "format"),
        .params = native_field_slice(L, 2, "params"),
    };
    int rc = b->policy->rules->bind(b->policy, &s, &binding);
    if (rc) {
        lua_pushnil(L);
        lua_pushinteger(L, rc);
        return 2;
    }
    if (b->bound_count == b->bound_cap) {
        b->bound_cap = 2 * b->bound_cap + 64;
        b->bound = xrealloc(b->bound, b->bound_cap * sizeof *b->bound);
    }
    b->bound[b->bound_count++] = (struct bound){++b->last_bound, binding};
    lua_createtable(L, 4, 0);
    lua_pushinteger(L, binding.filter);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, binding.format);
    lua_rawseti(L, -2, 2);
    lua_pushinteger(L, binding.params);
    lua_rawseti(L, -2, 3);
    lua_pushinteger(L, b->last_bound);
    lua_rawseti(L, -2, 4);
    return 1;
}

static struct bound *check_bound(lua_State *L, struct bench *b, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_rawgeti(L, arg, 4);
    lua_Integer id = luaL_checkinteger(L, -1);
    unsigned i = 0;
    lua_pop(L, 1);
    while (i < b->bound_count && b->bound[i].id != id) {
        i++;
    }
    luaL_argcheck(L, i < b->bound_count, arg, "not bound");
    return &b->bound[i];
}

static int l_unbind(lua_State *L)
{
    struct bench *b = check(L);
    struct bound *at = check_bound(L, b, 2);
    b->policy->rules->unbind(b->policy, &at->binding);
    *at = b->bound[--b->bound_count];
    return 0;
}

/* p:filter_all(event [, times]) -> how many bindings want it, seconds per event */
static int l_filter_all(lua_State *L)
{
    struct bench *b = check(L);
    struct event *ev = native_check_event(L, 2);
    lua_Integer times = luaL_optinteger(L, 3, 1), wanted = 0;
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        wanted = 0;
        for (unsigned k = 0; k < b->bound_count; k++) {
            wanted += b->policy->rules->filter(b->policy, &b->bound[k].binding, ev, NULL);
        }
    }
    lua_pushinteger(L, wanted);
    lua_pushnumber(L, (double)(uv_hrtime() - start) / 1e9 / (double)times);
    return 2;
}

/* p:filter(binding, event [, times]) -> boolean, seconds per call */
static int l_filter(lua_State *L)
{
    struct bench *b = check(L);
    struct policy_binding binding = check_bound(L, b, 2)->binding;
    struct event *ev = native_check_event(L, 3);
    lua_Integer times = luaL_optinteger(L, 4, 1);
    bool deliver = false;
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        deliver = b->policy->rules->filter(b->policy, &binding, ev, NULL);
    }
    lua_pushboolean(L, deliver);
    lua_pushnumber(L, (double)(uv_hrtime() - start) / 1e9 / (double)times);
    return 2;
}

/* p:observe(event [, times]) -> what it has ordered, or nil: its topic is not observed; seconds per event */
static int l_observe(lua_State *L)
{
    struct bench *b = check(L);
    struct event *ev = native_check_event(L, 2);
    lua_Integer times = luaL_optinteger(L, 3, 1);
    const struct policy_reach *reach = b->policy->reach;
    struct policy_effects effects;
    bool observed = false;
    size_t ordered = 0;
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        observed = reach && reach->observes(b->policy, event_topic(ev));
        if (observed) {
            policy_effects_init(&effects);
            (void)reach->observe(b->policy, ev, &effects);
            ordered = effects.n;
            policy_effects_clear(&effects);
        }
    }
    uint64_t took = uv_hrtime() - start;
    if (observed) {
        lua_pushinteger(L, (lua_Integer)ordered);
    } else {
        lua_pushnil(L);
    }
    lua_pushnumber(L, (double)took / 1e9 / (double)times);
    return 2;
}

/* p:format_keys(binding [, times]) -> {key, ..}, seconds per call */
static int l_format_keys(lua_State *L)
{
    struct bench *b = check(L);
    struct policy_binding binding = check_bound(L, b, 2)->binding;
    lua_Integer times = luaL_optinteger(L, 3, 1);
    uint64_t keys[POLICY_FORMAT_KEYS_MAX];
    size_t n = 0;
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        n = b->policy->rules->format_keys(b->policy, &binding, keys);
    }
    double each = (double)(uv_hrtime() - start) / 1e9 / (double)times;
    lua_newtable(L);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)keys[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushnumber(L, each);
    return 2;
}

/* p:format_key(binding, event [, times]) -> key of the result, "deliver" | "skip" | "failed",
 * seconds per call */
static int l_format_key(lua_State *L)
{
    static const char *const results[] = {"deliver", "skip", "failed", "no memory"};
    struct bench *b = check(L);
    struct policy_binding binding = check_bound(L, b, 2)->binding;
    struct formatted out = {.key = 0};
    strbuf_init(&out.data, 1 << 20);
    strbuf_init(&out.event, 255);
    struct event *ev = native_check_event(L, 3);
    lua_Integer times = luaL_optinteger(L, 4, 1);
    enum format_result r = FORMAT_FAILED;
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        strbuf_reset(&out.data);
        strbuf_reset(&out.event);
        r = b->policy->rules->format(b->policy, &binding, ev, &out, NULL);
    }
    double each = (double)(uv_hrtime() - start) / 1e9 / (double)times;
    lua_pushinteger(L, (lua_Integer)out.key);
    lua_pushstring(L, results[r]);
    strbuf_clear(&out.data);
    strbuf_clear(&out.event);
    lua_pushnumber(L, each);
    return 3;
}

/* p:format(binding, event [, most bytes]) -> "deliver" | "skip" | "failed" | "no memory", data,
 * event name */
static int l_format(lua_State *L)
{
    static const char *const results[] = {"deliver", "skip", "failed", "no memory"};
    struct bench *b = check(L);
    struct policy_binding binding = check_bound(L, b, 2)->binding;
    struct formatted out;
    strbuf_init(&out.data, (size_t)luaL_optinteger(L, 4, 1 << 20));
    strbuf_init(&out.event, 255);
    enum format_result r =
        b->policy->rules->format(b->policy, &binding, native_check_event(L, 3), &out, NULL);
    lua_pushstring(L, results[r]);
    lua_pushlstring(L, out.data.len ? out.data.data : "", out.data.len);
    lua_pushlstring(L, out.event.len ? out.event.data : "", out.event.len);
    strbuf_clear(&out.data);
    strbuf_clear(&out.event);
    return 3;
}

/* p:disconnected(identity, delivered, seconds) -> is there such a hook */
static int l_disconnected(lua_State *L)
{
    struct bench *b = check(L);
    struct slice identity;
    identity.p = luaL_checklstring(L, 2, &identity.n);
    struct disconnect_info info = {CLOSE_LAGGED, luaL_checknumber(L, 4),
                                   (uint64_t)luaL_checkinteger(L, 3)};
    b->policy->gates->disconnected(b->policy, identity, &info);
    lua_pushboolean(L, b->policy->gates->wants_disconnect(b->policy));
    return 1;
}

/* p:metrics() -> {member = value} */
static int l_metrics(lua_State *L)
{
    struct bench *b = check(L);
    lua_newtable(L);
#define X(member, kind, name, help)                                                                \
    lua_pushinteger(L, (lua_Integer)b->metrics.member);                                            \
    lua_setfield(L, -2, #member);
    POLICY_METRICS(X)
#undef X
    return 1;
}

/* p:run(ms): lets time pass in the policy's loop */
static int l_run(lua_State *L)
{
    struct bench *b = check(L);
    uint64_t until = uv_hrtime() + (uint64_t)luaL_checkinteger(L, 2) * 1000000;
    while (uv_hrtime() < until) {
        turn(b);
        usleep(5000);
    }
    return 0;
}

static int l_event(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    return native_push_event(L, 1);
}

int native_open_policy(lua_State *L)
{
    static const luaL_Reg functions[] = {{"open", l_open}, {"event", l_event}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"subscribe", l_subscribe},
        {"resubscribe", l_resubscribe},
        {"setup", l_setup},
        {"reloaded", l_reloaded},
        {"stage", l_stage},
        {"figures", l_figures},
        {"version", l_version},
        {"changed", l_changed},
        {"publish", l_publish},
        {"bind", l_bind},
        {"unbind", l_unbind},
        {"filter", l_filter},
        {"filter_all", l_filter_all},
        {"observe", l_observe},
        {"format", l_format},
        {"format_key", l_format_key},
        {"format_keys", l_format_keys},
        {"disconnected", l_disconnected},
        {"metrics", l_metrics},
        {"run", l_run},
        {"close", l_close},
        {"__gc", l_close},
        {NULL, NULL},
    };
    native_class(L, policy_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
