/* Filter text against Lua: what loads here Lua must be able to load (with $x as params.x), and
 * where no field was missing and all types fitted, Lua's answer to the same text is the answer. The
 * first byte of the input chooses one of some events and params. */
#include "base/text/uri_template.h"
#include "base/text/url_pattern.h"
#include "filter/filter.h"
#include "net/address.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same events and params twice: as JSON, and as Lua. */
static const struct sample {
    const char *attrs, *data, *params;
} samples[] = {
    {"{\"a\":1,\"b\":2.5,\"c\":\"cell\",\"d\":true,\"ip\":\"10.1.2.3\"}",
     "{\"a\":{\"b\":[1,\"two\",{\"c\":-3}]},\"s\":\"x\\ny\",\"list\":[1,2.0,\"c\"],\"n\":null}",
     "{\"a\":1,\"l\":[1,\"cell\",true],\"net\":\"10.0.0.0/8\",\"s\":\"ce\"}"},
    {"{\"a\":9007199254740993,\"b\":-0.5,\"c\":\"\",\"d\":false,\"ip\":\"2001:db8::1\"}",
     "[9007199254740992.0,\"\\u0000\",true,{}]",
     "{\"a\":9007199254740992.0,\"l\":[],\"net\":[\"10.0.0.0/8\",\"2001:db8::/32\"],\"s\":\"\"}"},
};

static const char prelude[] =
    "local none = { __index = function() return nil end }\n"
    "for _, v in ipairs { 1, true, 'x' } do debug.setmetatable(v, none) end\n"
    "debug.setmetatable(nil, none)\n"
    "local events = {\n"
    "  { attrs = { a = 1, b = 2.5, c = 'cell', d = true, ip = '10.1.2.3' },\n"
    "    data = { a = { b = { 1, 'two', { c = -3 } } }, s = 'x\\ny', list = { 1, 2.0, 'c' } } },\n"
    "  { attrs = { a = 9007199254740993, b = -0.5, c = '', d = false, ip = '2001:db8::1' },\n"
    "    data = { 9007199254740992.0, '\\0', true, {} } } }\n"
    "local params = {\n"
    "  { a = 1, l = { 1, 'cell', true }, net = '10.0.0.0/8', s = 'ce' },\n"
    "  { a = 9007199254740992.0, l = {}, net = { '10.0.0.0/8', '2001:db8::/32' }, s = '' } }\n"
    "local sets = { some = { cell = true, eu = true, x = true, [1] = true, [2.5] = true,\n"
    "    [9007199254740993] = true, [true] = true, ['10.1.2.3'] = true }, numbers = { [1] = true },\n"
    "  gone = {} }\n"
    "local byte, sub = ('').byte, string.sub\n"
    "local function in_list(x, list) for i = 1, #list do if x == list[i] then return true end end\n"
    "  return false end\n"
    "local env = { id = '7', topic = 'alert/eu/berlin', type = 'message', time = 1.5, key = 'k',\n"
    "  has = function(x) return x ~= nil end,\n"
    "  one_of = function(x, ...) for i = 1, select('#', ...) do local v = select(i, ...)\n"
    "    if type(v) == 'table' then if in_list(x, v) then return true end\n"
    "    elseif x == v then return true end end return false end,\n"
    "  starts_with = function(s, p) return sub(s, 1, #p) == p end,\n"
    "  ends_with = function(s, p) return p == '' or sub(s, -#p) == p end,\n"
    "  contains = function(l, x) return in_list(x, l) end,\n"
    "  cidr = function(ip, net) if type(net) ~= 'table' then net = { net } end\n"
    "    for _, n in ipairs(net) do if cidr(ip, n) then return true end end return false end,\n"
    "  in_set = function(x, name) return x ~= nil and sets[name][x] == true end,\n"
    "  fits_template = function(s, t) if type(t) ~= 'table' then return fits(s, t) end\n"
    "    for _, v in ipairs(t) do if type(v) == 'string' and fits(s, v) then return true end end\n"
    "    return false end,\n"
    "  fits_url_pattern = function(s, t) if type(t) ~= 'table' then return fits_url(s, t) end\n"
    "    for _, v in ipairs(t) do if type(v) == 'string' and fits_url(s, v) then return true end "
    "end\n"
    "    return false end,\n"
    "  tonumber = tonumber, topic_seg = function(n) return ({ 'alert', 'eu', 'berlin' })[n] end,\n"
    "  distance_km = function(a, b, c, d) local r = 0.017453292519943295\n"
    "    local x, y = math.sin((c - a) * r / 2), math.sin((d - b) * r / 2)\n"
    "    local h = x * x + math.cos(a * r) * math.cos(c * r) * y * y\n"
    "    return 2 * 6371.0088 * math.asin(math.sqrt(h < 1 and h or 1)) end }\n"
    "return function(text, which)\n"
    "  env.attrs, env.data, env.P = events[which].attrs, events[which].data, params[which]\n"
    "  return load('return ' .. text .. '\\n', '=text', 't', env) end\n";

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* The same sets as in the prelude; `gone` has no values. */
static struct value_set *set_of(const struct filter_value *v, size_t n)
{
    struct value_set *s = value_set_new(100, 1 << 20);
    struct err e;
    for (size_t i = 0; i < n; i++) {
        require(value_set_add(s, &v[i], &e) == 0);
    }
    require(value_set_seal(s, &e) == 0 && value_set_count(s) == n);
    return s;
}

static void declare_sets(struct filter_set *set)
{
    static struct value_slot some, numbers;
    static const struct filter_value values[] = {
        {.type = FILTER_INTEGER, .i = 1},
        {.type = FILTER_FLOAT, .f = 2.5},
        {.type = FILTER_INTEGER, .i = INT64_C(9007199254740993)},
        {.type = FILTER_BOOLEAN, .b = true},
        {.type = FILTER_STRING, .s = {"cell", 4}},
        {.type = FILTER_STRING, .s = {"eu", 2}},
        {.type = FILTER_STRING, .s = {"x", 1}},
        {.type = FILTER_STRING, .s = {"10.1.2.3", 8}},
    };
    if (!some.values) { /* for all inputs */
        some.values = set_of(values, sizeof values / sizeof *values);
        numbers.values = set_of(values, 1);
    }
    require(filter_set_add_values(set, "some") && filter_set_add_values(set, "numbers") &&
            filter_set_add_values(set, "gone"));
    filter_set_bind_values(set, "some", &some);
    filter_set_bind_values(set, "numbers", &numbers);
}

static int l_fits(lua_State *L)
{
    size_t text_n, template_n;
    const char *text = luaL_checklstring(L, 1, &text_n);
    const char *template = luaL_checklstring(L, 2, &template_n);
    lua_pushboolean(L, uri_template_fits(slice_of(template, template_n), slice_of(text, text_n)));
    return 1;
}

static int l_fits_url(lua_State *L)
{
    size_t text_n, pattern_n;
    const char *text = luaL_checklstring(L, 1, &text_n);
    const char *pattern = luaL_checklstring(L, 2, &pattern_n);
    lua_pushboolean(L, url_pattern_fits(slice_of(pattern, pattern_n), slice_of(text, text_n)));
    return 1;
}

static int l_cidr(lua_State *L)
{
    struct network net;
    struct peer_address ip;
    struct err e;
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);
    require(peer_address_parse(slice_of(text, n), &ip));
    require(network_parse(luaL_checkstring(L, 2), &net, &e) == 0);
    lua_pushboolean(L, network_contains(&net, &ip));
    return 1;
}

static lua_State *state_new(void)
{
    lua_State *L = luaL_newstate();
    require(L != NULL);
    luaL_openlibs(L);
    lua_register(L, "cidr", l_cidr);
    lua_register(L, "fits", l_fits);
    lua_register(L, "fits_url", l_fits_url);
    require(luaL_dostring(L, prelude) == LUA_OK);
    return L;
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* $x -> P["x"], but in strings and comments. */
static void translate(struct slice text, struct strbuf *out)
{
    char quote = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        int rc = 0;
        if (quote && c == '\\' && i + 1 < text.n) {
            rc = strbuf_append(out, text.p + i++, 2);
        } else if (!quote && c == '-' && i + 1 < text.n && text.p[i + 1] == '-') {
            while (i < text.n && text.p[i] != '\n' && text.p[i] != '\r') {
                i++;
            }
            rc = strbuf_append_str(out, "\n");
        } else if (!quote && c == '$') {
            size_t n = 0;
            while (i + 1 + n < text.n && is_name(text.p[i + 1 + n])) {
                n++;
            }
            rc = strbuf_printf(out, " P[\"%.*s\"]", (int)n, text.p + i + 1);
            i += n;
        } else {
            quote = quote ? (c == quote ? 0 : quote) : c == '"' || c == '\'' ? c : 0;
            rc = strbuf_append(out, &c, 1);
        }
        require(rc == 0);
    }
}

/* Lua's answer. False: it has none, for a limit of its own. */
static bool lua_answer(lua_State *L, struct slice text, unsigned which, bool strict, bool *out)
{
    struct strbuf lua;
    strbuf_init(&lua, 1 << 20);
    translate(text, &lua);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushlstring(L, lua.len ? lua.data : "", lua.len);
    lua_pushinteger(L, which + 1);
    strbuf_clear(&lua);
    require(lua_pcall(L, 2, 2, 0) == LUA_OK);
    if (lua_isnil(L, 2)) {
        const char *why = lua_tostring(L, 3);
        require(strstr(why, "registers") || strstr(why, "limit")); /* long lists of arguments */
        return false;
    }
    lua_pop(L, 1);
    int rc = lua_pcall(L, 0, 1, 0);
    if (rc != LUA_OK) {
        require(!strict);
        return false;
    }
    require(!strict || lua_isboolean(L, 2));
    *out = lua_toboolean(L, 2);
    return true;
}

static void check_args(lua_State *L, struct filter_set *set, const struct filter_args *a,
                       struct slice text, unsigned which)
{
    const struct sample *s = &samples[which];
    struct event_fields f = {.topic = slice_str("alert/eu/berlin"),
                             .data = slice_str(s->data),
                             .key = slice_str("k"),
                             .attrs = slice_str(s->attrs),
                             .time_ms = 1500};
    struct event *ev = event_new(&f);
    require(ev != NULL);
    ev->id = 7;
    bool answer = filter_test(a, ev), explained, lua;
    bool refused = filter_set_refused(set) > 0;
    require(!refused || !answer);
    bool strict = filter_set_mismatches(set) == 0 && filter_set_missing(set) == 0 && !refused;
    struct strbuf why;
    strbuf_init(&why, 8 << 20);
    require(filter_explain(a, ev, &explained, &why) == 0 && explained == answer);
    strbuf_clear(&why);
    if (lua_answer(L, text, which, strict, &lua) && strict) {
        require(lua == answer);
    }
    struct filter_discriminator d = filter_discriminator(a);
    require(!answer || !d.attr.p || d.count > 0);
    event_unref(ev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    L = L ? L : state_new();
    if (size == 0) {
        return 0;
    }
    unsigned which = data[0] & 1;
    struct slice text = slice_of((const char *)data + 1, size - 1);
    struct filter_set *set = filter_set_new();
    struct filter_error e;
    struct err why;
    declare_sets(set);
    const struct filter *m = filter_compile(set, text, &e);
    if (m) {
        struct filter_args *a = filter_bind(m, slice_str(samples[which].params), &why);
        if (a) {
            check_args(L, set, a, text, which);
        }
        filter_args_free(a);
    } else {
        require(e.line >= 1 && e.column >= 1 && e.offset <= text.n && e.text[0]);
    }
    filter_set_free(set);
    return 0;
}
