#include "native_policy.h"

static const char *const event_class = "native.policy.event";

struct slice native_field_slice(lua_State *L, int arg, const char *name)
{
    size_t n = 0;
    lua_getfield(L, arg, name);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1);
    return slice_of(p, n);
}

lua_Integer native_field_integer(lua_State *L, int arg, const char *name, lua_Integer absent)
{
    lua_getfield(L, arg, name);
    lua_Integer i = luaL_optinteger(L, -1, absent);
    lua_pop(L, 1);
    return i;
}

static int event_gc(lua_State *L)
{
    event_unref(*(struct event **)luaL_checkudata(L, 1, event_class));
    return 0;
}

int native_push_event(lua_State *L, int arg)
{
    struct event_fields f = {
        .topic = native_field_slice(L, arg, "topic"),
        .type = native_field_slice(L, arg, "type"),
        .data = native_field_slice(L, arg, "data"),
        .key = native_field_slice(L, arg, "key"),
        .attrs = native_field_slice(L, arg, "attrs"),
        .time_ms = native_field_integer(L, arg, "time_ms", 0),
        .expires_ms = native_field_integer(L, arg, "expires_ms", 0),
    };
    lua_Integer id = native_field_integer(L, arg, "id", 0);
    struct event **box = lua_newuserdatauv(L, sizeof(struct event *), 0);
    *box = event_new(&f);
    (*box)->id = (uint64_t)id;
    if (luaL_newmetatable(L, event_class)) {
        lua_pushcfunction(L, event_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return 1;
}

struct event *native_check_event(lua_State *L, int arg)
{
    return *(struct event **)luaL_checkudata(L, arg, event_class);
}

static void set_slice(lua_State *L, const char *name, struct slice s)
{
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
        lua_setfield(L, -2, name);
    }
}

static void set_integer(lua_State *L, const char *name, lua_Integer i)
{
    lua_pushinteger(L, i);
    lua_setfield(L, -2, name);
}

void native_push_fields(lua_State *L, const struct event *ev)
{
    lua_newtable(L);
    set_slice(L, "topic", event_topic(ev));
    set_slice(L, "type", event_type(ev));
    set_slice(L, "data", event_data(ev));
    set_slice(L, "key", event_key(ev));
    set_slice(L, "attrs", event_attrs(ev));
    set_integer(L, "time_ms", ev->time_ms);
    if (ev->expires_ms) {
        set_integer(L, "expires_ms", ev->expires_ms);
    }
}

/* Element `i` (1 or 2) of the pair on top of the stack. */
static struct slice pair_slice(lua_State *L, int i)
{
    size_t n = 0;
    lua_rawgeti(L, -1, i);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1);
    return slice_of(p, n);
}

static size_t read_pairs(lua_State *L, int arg, const char *name, struct http_header *out,
                         size_t most)
{
    size_t n = 0;
    if (lua_getfield(L, arg, name) == LUA_TTABLE) {
        while (n < most && lua_rawgeti(L, -1, (lua_Integer)n + 1) == LUA_TTABLE) {
            out[n] = (struct http_header){pair_slice(L, 1), pair_slice(L, 2)};
            n++;
            lua_pop(L, 1);
        }
        if (n < most) {
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return n;
}

void native_read_request(lua_State *L, int arg, struct native_request *out)
{
    struct http_header pairs[64];
    luaL_checktype(L, arg, LUA_TTABLE);
    *out = (struct native_request){.rq = {.id = 7}};
    out->rq.id = (uint64_t)native_field_integer(L, arg, "id", 7);
    out->rq.http = &out->http;
    out->rq.query = &out->query;
    struct slice ip = native_field_slice(L, arg, "ip");
    luaL_argcheck(L, peer_address_parse(ip.p ? ip : slice_str("192.0.2.1"), &out->rq.client), arg,
                  "ip: an address was expected");
    out->rq.last_event_id = native_field_slice(L, arg, "last_event_id");
    struct slice method = native_field_slice(L, arg, "method");
    struct slice path = native_field_slice(L, arg, "path");
    out->http.method_name = method.p ? method : slice_str("GET");
    out->http.path = path.p ? path : slice_str("/events");
    out->http.headers = out->headers;
    out->http.header_count = read_pairs(L, arg, "headers", out->headers, 32);
    out->query.params = out->params;
    out->query.count = read_pairs(L, arg, "query", pairs, 64);
    for (size_t i = 0; i < out->query.count; i++) {
        out->params[i] = (struct http_param){pairs[i].name, pairs[i].value};
    }
}

static void push_subscription(lua_State *L, const struct subscription *s)
{
    static const char *const on_lag[] = {"default", "close", "skip", "latest"};
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < s->topic_count; i++) {
        lua_pushlstring(L, s->topics[i].p, s->topics[i].n);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "topics");
    set_slice(L, "filter", s->filter);
    set_slice(L, "format", s->format);
    set_slice(L, "params", s->params);
    set_slice(L, "ends", s->ends);
    set_slice(L, "first", s->first);
    lua_pushboolean(L, s->replay.none);
    lua_setfield(L, -2, "no_replay");
    set_integer(L, "replay_max_age_ms", (lua_Integer)s->replay.max_age_ms);
    if (s->replay.since_ms || s->replay.last || s->replay.no_gap) {
        set_integer(L, "replay_since_ms", s->replay.since_ms);
        set_integer(L, "replay_last", s->replay.last);
        lua_pushboolean(L, s->replay.no_gap);
        lua_setfield(L, -2, "replay_no_gap");
    }
    lua_pushnumber(L, s->events_per_s);
    lua_setfield(L, -2, "events_per_s");
    set_integer(L, "max_lag", (lua_Integer)s->max_lag);
    if (s->every_ms) {
        set_integer(L, "every_ms", s->every_ms);
    }
    set_integer(L, "heartbeat_s", s->heartbeat_s);
    set_integer(L, "retry_ms", s->retry_ms);
    if (s->prime != PRIME_DEFAULT) {
        set_slice(L, "prime", slice_str(prime_name(s->prime)));
    }
    if (s->envelope) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "envelope");
    }
    if (s->no_gzip) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "no_gzip");
    }
    if (s->expires_ms) {
        set_integer(L, "expires_ms", s->expires_ms);
    }
    if (s->quota_count) {
        lua_newtable(L);
        for (size_t i = 0; i < s->quota_count; i++) {
            lua_newtable(L);
            set_slice(L, "key", s->quotas[i].key);
            set_integer(L, "max", s->quotas[i].max);
            lua_pushboolean(L, s->quotas[i].oldest);
            lua_setfield(L, -2, "oldest");
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        lua_setfield(L, -2, "quotas");
    }
    set_slice(L, "on_lag", slice_str(on_lag[s->on_lag]));
    if (s->start != GRANT_NOW) {
        static const char *const start[] = {NULL, "earliest", "latest", "after"};
        set_slice(L, "start", slice_str(start[s->start]));
    }
    if (s->start == GRANT_AFTER) {
        set_integer(L, "start_after", (lua_Integer)s->start_after);
    }
}

void native_push_verdict(lua_State *L, const struct verdict *v)
{
    static const char *const kinds[] = {"allow", "deny", "transient"};
    lua_newtable(L);
    set_slice(L, "kind", slice_str(kinds[v->kind]));
    lua_pushboolean(L, v->failed);
    lua_setfield(L, -2, "failed");
    set_integer(L, "status", v->status);
    if (v->retry_after_s) {
        set_integer(L, "retry_after_s", v->retry_after_s);
    }
    set_slice(L, "reason", v->reason);
    set_slice(L, "identity", v->identity);
    set_integer(L, "expires_ms", v->expires_ms);
    push_subscription(L, &v->subscription);
    lua_setfield(L, -2, "subscription");
}
