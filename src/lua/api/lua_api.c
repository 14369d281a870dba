#include "lua/api/lua_api.h"

#include "base/slice.h"
#include "base/text/uri_template.h"
#include "base/text/url_pattern.h"
#include "event/event.h"
#include "event/topic.h"
#include "event/topic_segment.h"
#include "lua/api/lua_cache.h"
#include "lua/api/lua_db.h"
#include "lua/api/lua_http.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_jwt.h"
#include "lua/api/lua_log.h"
#include "lua/api/lua_rate.h"
#include "lua/api/lua_reach.h"
#include "lua/api/lua_sleep.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_shape.h"
#include "lua/vm/lua_vm.h"

#include <lauxlib.h>
#include <math.h>
#include <uv.h>

enum { GEOHASH_MAX = 12, PATTERNS_MAX = 1000 };

bool lua_api_deny_status_ok(lua_Integer status)
{
    switch (status) {
    case 204:
    case 400:
    case 401:
    case 403:
    case 404:
    case 409:
    case 410:
    case 413:
    case 422:
    case 429:
        return true;
    default:
        return false;
    }
}

const char *lua_api_deny_reason_check(const char *reason, size_t n)
{
    if (n == 0 || n > DENY_REASON_MAX_BYTES) {
        return "a text of 1 to 512 bytes was expected";
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)reason[i] < 0x20 || reason[i] == 0x7f) {
            return "a text without control characters was expected";
        }
    }
    return utf8_ok(slice_of(reason, n)) ? NULL : "a text in UTF-8 was expected";
}

/* Leaves the checked value on top of the stack, or nil. */
static void push_retry_after(lua_State *L, int options)
{
    static const char *const keys[] = {"retry_after", NULL};
    lua_pushnil(L);
    if (!lua_isnoneornil(L, options)) {
        luaL_checktype(L, options, LUA_TTABLE);
        lua_shape_closed(L, options, "options of tg.deny", keys);
        if (lua_shape_field(L, options, "retry_after") != LUA_TNIL) {
            (void)lua_shape_positive(L, -1, "retry_after (seconds)", DENY_RETRY_AFTER_MAX_S);
        }
        lua_replace(L, -2);
    }
}

/* tg.deny(status, reason, {retry_after}) -> nil, {status, reason, retry_after} */
static int l_deny(lua_State *L)
{
    size_t n;
    lua_Integer status = luaL_checkinteger(L, 1);
    const char *reason = luaL_checklstring(L, 2, &n);
    if (!lua_api_deny_status_ok(status)) {
        return luaL_argerror(L, 1, LUA_API_DENY_STATUSES " was expected");
    }
    const char *bad = lua_api_deny_reason_check(reason, n);
    if (bad) {
        return luaL_argerror(L, 2, bad);
    }
    lua_settop(L, 3);
    lua_pushnil(L);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "reason");
    push_retry_after(L, 3);
    lua_setfield(L, -2, "retry_after");
    return 2;
}

/* tg.drop(why) -> nil, {drop} */
static int l_drop(lua_State *L)
{
    size_t n;
    const char *why = luaL_checklstring(L, 1, &n);
    const char *bad = lua_api_deny_reason_check(why, n);
    if (bad) {
        return luaL_argerror(L, 1, bad);
    }
    lua_settop(L, 1);
    lua_pushnil(L);
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "drop");
    return 2;
}

bool lua_api_stored_status_ok(lua_Integer status)
{
    return (status >= 200 && status <= 202) || status == 204;
}

/* tg.stored(status) -> nil, {stored} */
static int l_stored(lua_State *L)
{
    luaL_argcheck(L, lua_isinteger(L, 1) && lua_api_stored_status_ok(lua_tointeger(L, 1)), 1,
                  LUA_API_STORED_STATUSES " was expected");
    lua_settop(L, 1);
    lua_pushnil(L);
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "stored");
    return 2;
}

static bool segment_ok(lua_State *L, int arg)
{
    struct slice s;
    if (lua_type(L, arg) != LUA_TSTRING) {
        return false;
    }
    s.p = lua_tolstring(L, arg, &s.n);
    return topic_segment_ok(s);
}

/* tg.topic_ok(value): may it be one literal segment of a topic */
static int l_topic_ok(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, segment_ok(L, 1));
    return 1;
}

/* Leaves the converted text of argument 1 on the stack, or nil. */
static int lua_api_convert(lua_State *L, int (*convert)(struct strbuf *out, struct slice text))
{
    struct slice s = {NULL, 0};
    luaL_checkany(L, 1);
    s.p = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &s.n) : NULL;
    if (!s.p || s.n == 0 || s.n > 3 * EVENT_TOPIC_MAX_BYTES || !utf8_ok(s)) {
        lua_pushnil(L);
        return 1;
    }
    struct lua_box *box = lua_box_push(L, EVENT_TOPIC_MAX_BYTES);
    int rc = convert(&box->text, s);
    if (rc == UV_ENOMEM) {
        return luaL_error(L, "not enough memory");
    }
    if (rc) {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, box->text.data ? box->text.data : "", box->text.len);
    }
    return 1;
}

/* tg.segment(text) -> the text as one literal segment of a topic; nil: it cannot be one */
static int l_segment(lua_State *L)
{
    return lua_api_convert(L, topic_segment_append);
}

/* tg.unsegment(segment) -> what tg.segment() was given; nil: nothing */
static int l_unsegment(lua_State *L)
{
    return lua_api_convert(L, topic_segment_decode);
}

typedef bool (*api_fits)(struct slice pattern, struct slice text);

static bool api_fits_one(lua_State *L, api_fits fits, struct slice text, int idx)
{
    struct slice pattern = {NULL, 0};
    pattern.p = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &pattern.n) : NULL;
    return pattern.p && text.p && fits(pattern, text);
}

/* (text, pattern or list of them): does the text fit one */
static int api_fits_any(lua_State *L, api_fits fits, const char *expected)
{
    struct slice text = {NULL, 0};
    bool found = false;
    luaL_checkany(L, 1);
    text.p = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &text.n) : NULL;
    if (lua_type(L, 2) == LUA_TSTRING) {
        found = api_fits_one(L, fits, text, 2);
    } else {
        luaL_argcheck(L, lua_type(L, 2) == LUA_TTABLE, 2, expected);
        for (lua_Integer i = 1; !found && lua_geti(L, 2, i) != LUA_TNIL; i++) {
            luaL_argcheck(L, i <= PATTERNS_MAX, 2, "a list of at most 1000 was expected");
            found = api_fits_one(L, fits, text, -1);
            lua_settop(L, 2);
        }
    }
    lua_pushboolean(L, found);
    return 1;
}

static int l_fits_template(lua_State *L)
{
    return api_fits_any(L, uri_template_fits, "a URI template, or a list of them, was expected");
}

static int l_fits_url_pattern(lua_State *L)
{
    return api_fits_any(L, url_pattern_fits, "a URL pattern, or a list of them, was expected");
}

/* tg.url_pattern_ok(value): is it a pattern that tg.fits_url_pattern() knows */
static int l_url_pattern_ok(lua_State *L)
{
    struct slice s = {NULL, 0};
    luaL_checkany(L, 1);
    s.p = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &s.n) : NULL;
    lua_pushboolean(L, s.p && url_pattern_ok(s));
    return 1;
}

/* tg.pattern_ok(value): may it be asked for: a topic name or a pattern */
static int l_pattern_ok(lua_State *L)
{
    struct slice s;
    luaL_checkany(L, 1);
    s.p = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &s.n) : NULL;
    lua_pushboolean(L, s.p && !topic_pattern_check(s));
    return 1;
}

/* tg.topic(segment, ...): each taken literally, so that a value of a client's making cannot become
 * a wildcard or more than one segment */
static int l_topic(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_argcheck(L, n > 0, 1, "a segment was expected");
    luaL_Buffer b;
    size_t length = 0;
    for (int i = 1; i <= n; i++) {
        if (!segment_ok(L, i)) {
            return luaL_argerror(L, i,
                                 "a string that is one topic segment was expected: not empty, no "
                                 "'/', '*' or control character");
        }
        length += lua_rawlen(L, i) + (i > 1);
        if (length > EVENT_TOPIC_MAX_BYTES) {
            return luaL_argerror(
                L, i, lua_pushfstring(L, "topic longer than %d bytes", (int)EVENT_TOPIC_MAX_BYTES));
        }
    }
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addchar(&b, '/');
        }
        lua_pushvalue(L, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    return 1;
}

static double check_coordinate(lua_State *L, int arg, double most)
{
    double v = luaL_checknumber(L, arg);
    if (!(fabs(v) <= most)) { /* also false for NaN */
        luaL_argerror(L, arg, most > 90 ? "-180 to 180 was expected" : "-90 to 90 was expected");
    }
    return v;
}

/* tg.geohash(lat, lon, length): bits of longitude and latitude interleaved, longitude first, five
 * to a base-32 digit (G. Niemeyer's geohash, public domain) */
static int l_geohash(lua_State *L)
{
    static const char digits[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    double at[2] = {check_coordinate(L, 2, 180), check_coordinate(L, 1, 90)};
    double low[2] = {-180, -90}, high[2] = {180, 90};
    lua_Integer length = luaL_checkinteger(L, 3);
    luaL_argcheck(L, length >= 1 && length <= GEOHASH_MAX, 3, "1 to 12 was expected");
    char hash[GEOHASH_MAX];
    for (unsigned i = 0, digit = 0; i < 5U * (unsigned)length; i++) {
        unsigned axis = i % 2;
        double middle = (low[axis] + high[axis]) / 2;
        bool upper = at[axis] >= middle;
        *(upper ? &low[axis] : &high[axis]) = middle;
        digit = digit << 1U | upper;
        if (i % 5 == 4) {
            hash[i / 5] = digits[digit];
            digit = 0;
        }
    }
    lua_pushlstring(L, hash, (size_t)length);
    return 1;
}

static void set_readonly(lua_State *L, const char *name)
{
    lua_readonly_wrap(L, name);
    lua_setfield(L, -2, name);
}

void lua_api_open(lua_State *L)
{
    static const luaL_Reg tg[] = {{"deny", l_deny},
                                  {"drop", l_drop},
                                  {"stored", l_stored},
                                  {"equal", lua_secret_equal},
                                  {"hmac", lua_secret_hmac},
                                  {"pattern_ok", l_pattern_ok},
                                  {"topic", l_topic},
                                  {"topic_ok", l_topic_ok},
                                  {"segment", l_segment},
                                  {"unsegment", l_unsegment},
                                  {"geohash", l_geohash},
                                  {"fits_template", l_fits_template},
                                  {"fits_url_pattern", l_fits_url_pattern},
                                  {"url_pattern_ok", l_url_pattern_ok},
                                  {"ask_again", lua_reach_ask_again},
                                  {"end_streams", lua_reach_end_streams},
                                  {"jwt", lua_jwt},
                                  {"rate", lua_rate},
                                  {NULL, NULL}};
    lua_vm_data_function(L, l_topic);
    lua_vm_data_function(L, l_geohash);
    luaL_newlib(L, tg);
    set_readonly(L, "tg");
    lua_json_open(L);
    set_readonly(L, "json");
    lua_log_open(L);
    set_readonly(L, "log");
    lua_cache_open(L);
    set_readonly(L, "cache");
    lua_db_open(L);
    lua_http_open(L);
    lua_pushcfunction(L, lua_log_print);
    lua_setfield(L, -2, "print");
    lua_pushcfunction(L, lua_sleep);
    lua_setfield(L, -2, "sleep");
}
