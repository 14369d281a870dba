/* event/: event_check, eventlog, sse_frame, last_event_id. */
#include "event/event.h"
#include "event/eventlog.h"
#include "event/last_event_id.h"
#include "event/sse_frame.h"
#include "native.h"

static const char log_class[] = "native.eventlog";

/* Field `name` of the table at `arg`: absent when nil. Borrowed while the table holds it. */
static struct slice field_slice(lua_State *L, int arg, const char *name)
{
    size_t n = 0;
    lua_getfield(L, arg, name);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1);
    return slice_of(p, n);
}

static lua_Integer field_integer(lua_State *L, int arg, const char *name)
{
    lua_getfield(L, arg, name);
    lua_Integer value = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return value;
}

static struct event_fields check_fields(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    return (struct event_fields){
        .topic = field_slice(L, arg, "topic"),
        .type = field_slice(L, arg, "type"),
        .data = field_slice(L, arg, "data"),
        .key = field_slice(L, arg, "key"),
        .attrs = field_slice(L, arg, "attrs"),
        .expires_ms = field_integer(L, arg, "expires_ms"),
    };
}

/* check(fields, max_data) -> nil or text */
static int l_check(lua_State *L)
{
    struct event_fields f = check_fields(L, 1);
    lua_pushstring(L, event_check(&f, (size_t)luaL_checkinteger(L, 2)));
    return 1;
}

static struct sse_fields check_sse_fields(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    return (struct sse_fields){
        .id = (uint64_t)field_integer(L, 1, "id"),
        .event = field_slice(L, 1, "event"),
        .data = field_slice(L, 1, "data"),
        .retry_ms = (unsigned)field_integer(L, 1, "retry_ms"),
        .comment = field_slice(L, 1, "comment"),
    };
}

/* sse_frame{id, event, data, retry_ms, comment} -> bytes or nil */
static int l_sse_frame(lua_State *L)
{
    struct sse_fields f = check_sse_fields(L);
    struct frame *frame = sse_frame(&f);
    if (frame) {
        lua_pushlstring(L, frame->bytes, frame->len);
    } else {
        lua_pushnil(L);
    }
    frame_unref(frame);
    return 1;
}

/* sse_append(fields, before, max) -> content of a buffer that held `before`, return code */
static int l_sse_append(lua_State *L)
{
    struct sse_fields f = check_sse_fields(L);
    struct strbuf out;
    strbuf_init(&out, (size_t)luaL_checkinteger(L, 3));
    int rc = strbuf_append_str(&out, luaL_checkstring(L, 2));
    rc = rc ? rc : sse_frame_append(&f, &out);
    bool terminated = !out.data || out.data[out.len] == '\0';
    struct slice text = strbuf_slice(&out);
    lua_pushlstring(L, text.p, text.n);
    lua_pushinteger(L, rc);
    strbuf_clear(&out);
    return terminated ? 2 : luaL_error(L, "a buffer without its NUL");
}

static int push_resume(lua_State *L, const struct last_event_id *r)
{
    static const char *const kinds[] = {
        [START_NOW] = "now",
        [START_EARLIEST] = "earliest",
        [START_AFTER] = "after",
        [START_UNKNOWN] = "unknown",
    };
    lua_pushstring(L, kinds[r->kind]);
    lua_pushinteger(L, (lua_Integer)r->id);
    lua_pushlstring(L, r->text.p ? r->text.p : "", r->text.n);
    lua_pushlstring(L, r->unknown.p, r->unknown.n);
    if (!r->unknown.p) {
        lua_pushnil(L);
        lua_replace(L, -2);
    }
    if (r->ended) {
        lua_pushboolean(L, true);
        return 5;
    }
    return 4;
}

/* resume_text(text) -> kind, id, text, unknown or nil, whether it has ended (or none) */
static int l_resume_text(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);
    struct last_event_id r = last_event_id_parse_text(slice_of(p, n));
    return push_resume(L, &r);
}

/* resume(header, list of headers or nil, query) -> kind, id, text, unknown or nil */
static int l_resume(lua_State *L)
{
    enum { HEADERS_MAX = 8 };
    struct http_query q;
    struct http_header headers[HEADERS_MAX];
    struct http_request rq = {.headers = headers};
    if (lua_istable(L, 1)) {
        for (lua_Integer i = 1; i <= luaL_len(L, 1) && i <= HEADERS_MAX; i++) {
            lua_rawgeti(L, 1, i); /* stays on the stack */
            headers[rq.header_count++] =
                (struct http_header){slice_str("LAST-EVENT-id"), slice_str(lua_tostring(L, -1))};
        }
    } else if (lua_isstring(L, 1)) {
        headers[rq.header_count++] =
            (struct http_header){slice_str("Last-Event-ID"), slice_str(lua_tostring(L, 1))};
    }
    if (http_query_parse(&q, slice_str(luaL_checkstring(L, 2)))) {
        return luaL_argerror(L, 2, "query");
    }
    struct last_event_id r = last_event_id_parse(&rq, &q);
    int n = push_resume(L, &r);
    http_query_clear(&q);
    return n;
}

/* last_event_id_misspelt(query) -> given, meant; or nothing */
static int l_resume_misspelt(lua_State *L)
{
    struct http_query q;
    struct slice given;
    const char *meant;
    if (http_query_parse(&q, slice_str(luaL_checkstring(L, 1)))) {
        return luaL_argerror(L, 1, "query");
    }
    int n = 0;
    if (last_event_id_misspelt(&q, &given, &meant)) {
        lua_pushlstring(L, given.p, given.n);
        lua_pushstring(L, meant);
        n = 2;
    }
    http_query_clear(&q);
    return n;
}

static struct eventlog *check_log(lua_State *L)
{
    return *(struct eventlog **)luaL_checkudata(L, 1, log_class);
}

/* log(max_events, max_bytes, floor_id) */
static int l_log_new(lua_State *L)
{
    struct eventlog **log = lua_newuserdata(L, sizeof *log);
    *log = eventlog_new((size_t)luaL_checkinteger(L, 1), (size_t)luaL_checkinteger(L, 2),
                        (uint64_t)luaL_checkinteger(L, 3));
    luaL_setmetatable(L, log_class);
    return 1;
}

static int l_log_gc(lua_State *L)
{
    eventlog_free(check_log(L));
    return 0;
}

/* log:append(id, data) -> cost */
static int l_log_append(lua_State *L)
{
    struct eventlog *log = check_log(L);
    size_t n;
    const char *data = luaL_checklstring(L, 3, &n);
    struct event_fields f = {.topic = slice_str("t"), .data = slice_of(data, n)};
    struct event *ev = event_new(&f);
    if (!ev) {
        return luaL_error(L, "no memory");
    }
    ev->id = (uint64_t)luaL_checkinteger(L, 2);
    eventlog_append(log, ev);
    size_t cost = event_cost(ev);
    event_unref(ev);
    lua_pushinteger(L, (lua_Integer)cost);
    return 1;
}

static int l_log_restart(lua_State *L)
{
    eventlog_restart(check_log(L), (uint64_t)luaL_checkinteger(L, 2));
    return 0;
}

/* log:erase(id) -> was it there? */
static int l_log_erase(lua_State *L)
{
    lua_pushboolean(L, eventlog_erase(check_log(L), (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

/* log:state() -> { head, floor, count, bytes, end_ } */
static int l_log_state(lua_State *L)
{
    const struct eventlog *log = check_log(L);
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"head", eventlog_head(log)},   {"floor", eventlog_floor(log)},
        {"count", eventlog_count(log)}, {"bytes", eventlog_bytes(log)},
        {"end_", eventlog_end(log)},
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushinteger(L, (lua_Integer)fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

static int l_log_index_after(lua_State *L)
{
    uint64_t id = (uint64_t)luaL_checkinteger(L, 2);
    lua_pushinteger(L, (lua_Integer)eventlog_index_after(check_log(L), id));
    return 1;
}

static int l_log_lag(lua_State *L)
{
    uint64_t id = (uint64_t)luaL_checkinteger(L, 2);
    lua_pushinteger(L, (lua_Integer)eventlog_lag(check_log(L), id));
    return 1;
}

/* log:at(ordinal) -> id, data, or nil */
static int l_log_at(lua_State *L)
{
    const struct event *ev = eventlog_at(check_log(L), (uint64_t)luaL_checkinteger(L, 2));
    if (!ev) {
        lua_pushnil(L);
        return 1;
    }
    struct slice data = event_data(ev);
    lua_pushinteger(L, (lua_Integer)ev->id);
    lua_pushlstring(L, data.p, data.n);
    return 2;
}

int native_open_event(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"check", l_check},
        {"sse_frame", l_sse_frame},
        {"resume_text", l_resume_text},
        {"sse_append", l_sse_append},
        {"resume", l_resume},
        {"resume_misspelt", l_resume_misspelt},
        {"log", l_log_new},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"append", l_log_append},
        {"restart", l_log_restart},
        {"erase", l_log_erase},
        {"state", l_log_state},
        {"index_after", l_log_index_after},
        {"lag", l_log_lag},
        {"at", l_log_at},
        {"__gc", l_log_gc},
        {NULL, NULL},
    };
    native_class(L, log_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
