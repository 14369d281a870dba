#include "lua/api/lua_reach.h"

#include "base/utf8.h"
#include "lua/vm/lua_host.h"
#include "policy/policy.h"

#include <lauxlib.h>

const char *lua_reach_text_check(struct slice text)
{
    bool plain = utf8_ok(text);
    for (size_t i = 0; i < text.n && plain; i++) {
        plain = (unsigned char)text.p[i] >= 0x20 && text.p[i] != 0x7f;
    }
    return plain ? NULL : "a text in UTF-8 without control characters was expected";
}

const char *lua_reach_tag_check(struct slice tag)
{
    return tag.n == 0 || tag.n > POLICY_TAG_MAX_BYTES ? "a text of 1 to 64 bytes was expected"
                                                      : lua_reach_text_check(tag);
}

static struct slice lua_reach_text(lua_State *L, int arg)
{
    struct slice s;
    luaL_checktype(L, arg, LUA_TSTRING);
    s.p = lua_tolstring(L, arg, &s.n);
    return s;
}

/* The argument of both: checked. */
static struct slice lua_reach_tag(lua_State *L, const char *what)
{
    const struct lua_host *host = lua_vm_host(L);
    if (!host || !host->effects) {
        luaL_error(L,
                   "%s can be called in observe only: there every broker calls it at the same "
                   "place in the log",
                   what);
    }
    struct slice tag = lua_reach_text(L, 1);
    const char *bad = lua_reach_tag_check(tag);
    if (bad) {
        luaL_argerror(L, 1, bad);
    }
    return tag;
}

static int lua_reach_add(lua_State *L, enum policy_effect_kind kind, struct slice tag,
                         struct slice reason)
{
    const struct lua_host *host = lua_vm_host(L);
    if (!policy_effects_add(host->effects, kind, tag, reason)) {
        return luaL_error(L, "more than %d orders for one event", POLICY_EFFECTS_MAX);
    }
    return 0;
}

int lua_reach_ask_again(lua_State *L)
{
    return lua_reach_add(L, POLICY_ASK_AGAIN, lua_reach_tag(L, "tg.ask_again"), slice_of(NULL, 0));
}

int lua_reach_end_streams(lua_State *L)
{
    struct slice tag = lua_reach_tag(L, "tg.end_streams");
    struct slice reason = lua_reach_text(L, 2);
    if (reason.n == 0 || reason.n > POLICY_END_REASON_MAX_BYTES || lua_reach_text_check(reason)) {
        return luaL_argerror(L, 2,
                             "a text of 1 to 256 bytes without control characters was expected: "
                             "what the clients are told");
    }
    return lua_reach_add(L, POLICY_END_STREAMS, tag, reason);
}
