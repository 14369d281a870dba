#include "lua/api/lua_cache.h"

#include "base/alloc.h"
#include "base/container/value_cache.h"
#include "base/jitter.h"
#include "base/logging.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_shared_call.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_shape.h"
#include "policy/policy.h"

#include <stdlib.h>

enum {
    /* while the function fails an old value is good for that long before it is run again */
    RETRY_MS = 2000,
    DEFAULT_NEGATIVE_MS = 10000,
};
static const double most_s = 30.0 * 86400;
static const char *const fetch_type = "tidegate.fetch";

struct lua_cache {
    struct loop *loop;
    struct policy_metrics *metrics;
    struct value_cache *values;
    struct shared_calls *shared_calls;
    struct jitter jitter;
    uint64_t ahead_ms; /* of the loop's clock: see lua_cache_age() */
};

/* Of one call that owns or awaits a shared call; on the coroutine's stack as a userdata to be closed, so
 * that its end is noticed however it comes. */
struct fetch {
    struct lua_cache *cache;
    struct shared_call *shared_call; /* NULL: does not own one (any more) */
    enum shared_call_state at_death; /* its state, should this call end without an outcome */
    uint64_t ttl_ms, negative_ms, stale_ms;
};

enum { ARG_KEY = 1, ARG_TTL, ARG_FN, ARG_FETCH, ARGS = ARG_FETCH };

static void shared_call_end(struct fetch *own, enum shared_call_state state)
{
    struct shared_call *f = own->shared_call;
    own->shared_call = NULL;
    shared_calls_end(own->cache->shared_calls, f, state);
}

/* __close and __gc: a run that ends without ending the shared call was aborted. */
static int fetch_close(lua_State *L)
{
    struct fetch *own = lua_touserdata(L, 1);
    if (own->shared_call) {
        shared_call_end(own, own->at_death);
    }
    return 0;
}

static uint64_t now_ms(const struct lua_cache *c)
{
    return loop_now(c->loop) + c->ahead_ms;
}

static void lua_cache_update_figures(struct lua_cache *c)
{
    struct value_cache_figures f = value_cache_figures(c->values);
    c->metrics->cache_bytes = f.bytes;
    c->metrics->cache_entries = f.entries;
    c->metrics->cache_evictions = f.evictions;
}

/* ---- results */

static int push_value(lua_State *L, struct slice text)
{
    struct lua_json_error why;
    if (lua_json_decode(L, text, &why) != LUA_JSON_OK) {
        return luaL_error(L, "cache.fetch: the value cannot be read: %s", why.text);
    }
    return 1;
}

static struct slice lua_cache_key_of(lua_State *L)
{
    struct slice key;
    key.p = lua_tolstring(L, ARG_KEY, &key.n);
    return key;
}

/* Is there an old value that this caller accepts, now that there is no new one? Pushes it. */
static bool push_stale(lua_State *L, const struct fetch *own)
{
    struct lua_cache *c = own->cache;
    struct cached_value v;
    struct slice key = lua_cache_key_of(L);
    uint64_t now = now_ms(c);
    if (!own->stale_ms || !value_cache_get(c->values, key, &v) ||
        now >= v.expired_at + own->stale_ms) {
        return false;
    }
    uint64_t end = v.expired_at + own->stale_ms;
    value_cache_extend(c->values, key, now + RETRY_MS < end ? now + RETRY_MS : end);
    c->metrics->cache_stale++;
    push_value(L, v.text);
    return true;
}

static int lua_cache_fail(lua_State *L, const struct fetch *own, struct slice why)
{
    if (push_stale(L, own)) {
        return 1;
    }
    lua_pushnil(L);
    lua_pushlstring(L, why.p ? why.p : "", why.n);
    return 2;
}

/* ---- running the function */

static void lua_cache_note_error(struct shared_call *f, const char *text, size_t n)
{
    strbuf_reset(&f->error);
    if (strbuf_append(&f->error, text, n < f->error.max ? n : f->error.max)) {
        strbuf_reset(&f->error); /* no memory: failed all the same */
    }
}

static int landed(lua_State *L, struct fetch *own, int value)
{
    static const char unusable[] = "the function of cache.fetch returned what cannot be kept";
    struct lua_cache *c = own->cache;
    struct shared_call *f = own->shared_call;
    bool negative = lua_isboolean(L, value) && !lua_toboolean(L, value);
    uint64_t ms = negative
                      ? own->negative_ms
                      /* a tenth shorter at most, so that what was fetched together is not
                            * fetched together again */
                      : jitter_between(&c->jitter, own->ttl_ms - own->ttl_ms / 10, own->ttl_ms);
    lua_cache_note_error(f, unusable, sizeof unusable - 1);
    own->at_death = SHARED_CALL_FAILED; /* those who wait would only get the same */
    lua_json_encode(L, value, "cache.fetch: the value", LUA_JSON_ANY, &f->text);
    if (shared_call_findable(f)) { /* else the key was forgotten after it had begun */
        value_cache_put(c->values, slice_of(f->key, f->key_len), strbuf_slice(&f->text),
                        now_ms(c) + ms);
    }
    lua_cache_update_figures(c);
    shared_call_end(own, SHARED_CALL_LANDED);
    return push_value(L, strbuf_slice(&f->text)); /* a copy, as all waiters get */
}

/* The function has returned (or raised); its results, or the error, are above ARGS. */
static int after_fn(lua_State *L, int status, lua_KContext ctx)
{
    static const char none[] =
        "the function of cache.fetch returned nil; return false for \"there is none\"";
    struct fetch *own = lua_touserdata(L, ARG_FETCH);
    struct shared_call *f = own->shared_call;
    (void)ctx;
    bool raised = status != LUA_OK && status != LUA_YIELD;
    if (!raised && !lua_isnil(L, ARGS + 1)) {
        return landed(L, own, ARGS + 1);
    }
    int why = raised ? ARGS + 1 : ARGS + 2;
    size_t n = sizeof none - 1;
    const char *text = lua_type(L, why) == LUA_TSTRING ? lua_tolstring(L, why, &n) : none;
    lua_cache_note_error(f, text, n);
    shared_call_end(own, SHARED_CALL_FAILED);
    if (push_stale(L, own)) {
        if (raised) {
            log_warn("script", "the function of cache.fetch failed, an old value is used",
                     LOG_F(log_slice("key", lua_cache_key_of(L)),
                           log_slice("error", slice_of(text, n))));
        }
        return 1;
    }
    if (raised) {
        lua_pushvalue(L, why);
        return lua_error(L);
    }
    lua_pushnil(L);
    lua_pushlstring(L, text, n);
    return 2;
}

static int lua_cache_run(lua_State *L, struct shared_call *f)
{
    struct fetch *own = lua_touserdata(L, ARG_FETCH);
    f->state = SHARED_CALL_RUNS;
    f->owner = L;
    own->shared_call = f;
    own->at_death = SHARED_CALL_ORPHANED;
    own->cache->metrics->cache_misses++;
    lua_settop(L, ARGS);
    lua_pushvalue(L, ARG_FN);
    return after_fn(L, lua_pcallk(L, 0, 2, 0, 0, after_fn), 0);
}

/* ---- waiting for another hook's run */

/* What a waiter wakes up to. */
static int push_outcome(lua_State *L, void *ud)
{
    struct shared_call *f = ud;
    switch (f->state) {
    case SHARED_CALL_ORPHANED:
        return lua_cache_run(L, f);
    case SHARED_CALL_LANDED:
        return push_value(L, strbuf_slice(&f->text));
    case SHARED_CALL_RUNS:
    case SHARED_CALL_FAILED:
        break;
    }
    return lua_cache_fail(L, lua_touserdata(L, ARG_FETCH), strbuf_slice(&f->error));
}

static int join(lua_State *L, struct shared_call *f)
{
    const struct fetch *own = lua_touserdata(L, ARG_FETCH);
    if (f->state == SHARED_CALL_RUNS && f->owner == L) {
        return luaL_error(L, "cache.fetch of '%s' inside the function that fetches it",
                          lua_tostring(L, ARG_KEY));
    }
    uint64_t ticket = lua_coro_begin(L, "cache.fetch");
    own->cache->metrics->cache_shared++;
    struct lua_wait wait = shared_calls_join(f, lua_coro_waits_of(L), ticket);
    return lua_coro_wait(L, ticket, &wait);
}

/* ---- cache.fetch */

static uint64_t read_ms(lua_State *L, int idx, const char *what)
{
    double s = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : -1;
    if (!(s >= 0 && s <= most_s)) { /* also false for NaN */
        luaL_error(L, "cache.fetch: %s: seconds from 0 to 2592000 (30 days) were expected", what);
    }
    return (uint64_t)(s * 1000);
}

static uint64_t optional_ms(lua_State *L, const char *name, const char *what, uint64_t absent)
{
    uint64_t ms = lua_shape_field(L, ARG_TTL, name) == LUA_TNIL ? absent : read_ms(L, -1, what);
    lua_pop(L, 1);
    return ms;
}

/* ttl, or {ttl, neg_ttl, stale} */
static void read_times(lua_State *L, struct fetch *own)
{
    static const char *const keys[] = {"ttl", "neg_ttl", "stale", NULL};
    if (lua_type(L, ARG_TTL) != LUA_TTABLE) {
        own->ttl_ms = read_ms(L, ARG_TTL, "ttl");
        own->stale_ms = 0;
    } else {
        lua_shape_closed(L, ARG_TTL, "cache.fetch: options", keys);
        lua_shape_field(L, ARG_TTL, "ttl");
        own->ttl_ms = read_ms(L, -1, "ttl");
        lua_pop(L, 1);
        own->stale_ms = optional_ms(L, "stale", "stale", 0);
    }
    uint64_t negative = own->ttl_ms < DEFAULT_NEGATIVE_MS ? own->ttl_ms : DEFAULT_NEGATIVE_MS;
    own->negative_ms = lua_type(L, ARG_TTL) == LUA_TTABLE
                           ? optional_ms(L, "neg_ttl", "neg_ttl", negative)
                           : negative;
}

static void fetch_push(lua_State *L, const struct fetch *from)
{
    struct fetch *own = lua_newuserdatauv(L, sizeof *own, 0);
    *own = *from;
    luaL_setmetatable(L, fetch_type);
    lua_toclose(L, -1);
}

/* Not old; or old, but known to be all there is at the moment, which this caller accepts. */
static bool is_good(const struct cached_value *v, const struct fetch *own, uint64_t now)
{
    return now < v->expired_at || (now < v->fresh_until && now < v->expired_at + own->stale_ms);
}

static int l_fetch(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    struct fetch own = {.cache = s->cache};
    struct lua_cache *c = own.cache;
    struct cached_value v;
    struct slice key;
    lua_coro_check(L, "cache.fetch");
    key.p = luaL_checklstring(L, ARG_KEY, &key.n);
    luaL_argcheck(L, key.n >= 1 && key.n <= VALUE_CACHE_KEY_MAX_BYTES, ARG_KEY,
                  "1 to 1024 bytes were expected");
    luaL_checktype(L, ARG_FN, LUA_TFUNCTION);
    lua_settop(L, ARG_FN);
    read_times(L, &own);
    uint64_t now = now_ms(c);
    if (value_cache_get(c->values, key, &v) && is_good(&v, &own, now)) {
        c->metrics->cache_hits += now < v.expired_at ? 1 : 0;
        c->metrics->cache_stale += now < v.expired_at ? 0 : 1;
        return push_value(L, v.text);
    }
    lua_coro_take_place(L, "cache.fetch"); /* ends a dry run: what it finds must not be kept */
    fetch_push(L, &own);
    struct shared_call *f = shared_calls_find(c->shared_calls, key);
    return f ? join(L, f) : lua_cache_run(L, shared_calls_add(c->shared_calls, key));
}

/* cache.forget(key): what is known under it no longer holds. What a function that runs for it finds is
 * not kept, either, nor shared with calls that come later. */
static int l_forget(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    struct slice key;
    key.p = luaL_checklstring(L, ARG_KEY, &key.n);
    luaL_argcheck(L, key.n >= 1 && key.n <= VALUE_CACHE_KEY_MAX_BYTES, ARG_KEY,
                  "1 to 1024 bytes were expected");
    if (s->pure || s->loading || !s->cache) {
        return luaL_error(L, "cache.forget cannot be called here: only in hooks and in observe");
    }
    if (s->effects) {
        s->effects->forgotten++;
    }
    if (!s->dry_run) {
        value_cache_del(s->cache->values, key);
        shared_calls_hide(s->cache->shared_calls, key);
        s->cache->metrics->cache_forgotten++;
        lua_cache_update_figures(s->cache);
    }
    return 0;
}

void lua_cache_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"fetch", l_fetch}, {"forget", l_forget}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"__close", fetch_close}, {"__gc", fetch_close}, {NULL, NULL}};
    lua_vm_closer(L, fetch_close);
    luaL_newmetatable(L, fetch_type);
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
}

struct lua_cache *lua_cache_new(struct loop *loop, struct policy_metrics *metrics,
                                const struct lua_cache_limits *limits)
{
    struct lua_cache *c = xcalloc(1, sizeof *c);
    c->loop = loop;
    c->metrics = metrics;
    c->values = value_cache_new(limits->bytes);
    c->shared_calls = shared_calls_new(loop, limits->value_bytes, push_outcome);
    jitter_init(&c->jitter);
    return c;
}

void lua_cache_age(struct lua_cache *c, uint64_t ms)
{
    c->ahead_ms += ms;
}

void lua_cache_free(struct lua_cache *c)
{
    if (!c) {
        return;
    }
    shared_calls_free(c->shared_calls);
    value_cache_free(c->values);
    free(c);
}
