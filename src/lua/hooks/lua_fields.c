#include "lua/hooks/lua_fields.h"

#include "lua/vm/lua_shape.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 8, FIELD_NAME_MAX_BYTES = 64, FIELD_VALUE_MAX_BYTES = 1024 };

/* The broker's own, and those that say how bytes are to be read. One that ends with '-' is a beginning. */
static const char *const fields_reserved[] = {"Accept-Ranges",
                                              "Access-Control-",
                                              "Age",
                                              "Alt-Svc",
                                              "Cache-Control",
                                              "Connection",
                                              "Content-",
                                              "Date",
                                              "ETag",
                                              "Keep-Alive",
                                              "Last-Event-ID",
                                              "Location",
                                              "Proxy-",
                                              "Server",
                                              "TE",
                                              "Trailer",
                                              "Transfer-Encoding",
                                              "Upgrade",
                                              "Vary",
                                              "X-Accel-Buffering",
                                              "Via",
                                              "Set-Cookie",
                                              "X-Request-Id",
                                              "Strict-Transport-"};

static bool fields_is_token(struct slice s)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    bool ok = s.n > 0 && s.n <= FIELD_NAME_MAX_BYTES;
    for (size_t i = 0; ok && i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        ok = isalnum(c) || (c && strchr(others, c));
    }
    return ok;
}

static bool fields_is_reserved(struct slice name)
{
    for (size_t i = 0; i < sizeof fields_reserved / sizeof *fields_reserved; i++) {
        struct slice own = slice_str(fields_reserved[i]);
        bool begins = own.p[own.n - 1] == '-';
        if (begins ? name.n > own.n && strncasecmp(name.p, own.p, own.n) == 0
                   : slice_is_nocase(name, own.p)) {
            return true;
        }
    }
    return false;
}

/* Visible ASCII and single spaces within: what every proxy and client hands on as it is. */
static bool fields_is_value(struct slice s)
{
    bool ok = s.n > 0 && s.n <= FIELD_VALUE_MAX_BYTES && s.p[0] != ' ' && s.p[s.n - 1] != ' ';
    for (size_t i = 0; ok && i < s.n; i++) {
        ok = s.p[i] >= ' ' && s.p[i] <= '~';
    }
    return ok;
}

/* stack: .., name, value */
static void fields_take(lua_State *L, struct verdict_draft *d)
{
    char what[FIELD_NAME_MAX_BYTES + 16];
    struct slice name = lua_shape_string(L, -2, "fields: a name");
    if (!fields_is_token(name)) {
        luaL_error(L, "fields: the name of a header field was expected, got '%s'", name.p);
    }
    if (fields_is_reserved(name)) {
        luaL_error(L, "fields: %s is not for policies to set", name.p);
    }
    snprintf(what, sizeof what, "fields.%s", name.p);
    struct slice value = lua_shape_string(L, -1, what);
    if (!fields_is_value(value)) {
        luaL_error(L, "%s: 1 to %d visible characters of ASCII were expected, with spaces within",
                   what, FIELD_VALUE_MAX_BYTES);
    }
    if (strbuf_printf(&d->fields, "%s: %s\r\n", name.p, value.p) ||
        strbuf_printf(&d->names, "%s%s", d->names.len ? ", " : "", name.p)) {
        luaL_error(L, "fields: all of them may have %d bytes", POLICY_FIELDS_MAX_BYTES);
    }
}

void lua_fields_read(lua_State *L, int t, struct verdict_draft *d)
{
    int type = lua_shape_field(L, t, "fields");
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        luaL_error(L, "fields: a table was expected, such as { [\"X-Shard\"] = \"3\" }, got %s",
                   lua_typename(L, type));
    }
    if (type == LUA_TTABLE) {
        int fields = lua_gettop(L), n = 0;
        lua_pushnil(L);
        while (lua_next(L, fields)) {
            if (++n > FIELDS_MAX) {
                luaL_error(L, "fields: at most %d were expected", FIELDS_MAX);
            }
            fields_take(L, d);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}
