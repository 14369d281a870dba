#include "lua/policy/lua_judge.h"

#include "event/cloudevents/cloudevent.h"
#include "event/json_format.h"
#include "event/topic.h"
#include "lua/api/lua_event.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_shape.h"

struct judgement {
    const struct judge *j;
    bool deliver;
    struct formatted *out;
    enum format_result result;
};

/* stack: ud -> ud, results */
static void lua_judge_call(lua_State *L, const struct judge *j, int results)
{
    lua_vm_push(L, j->fn->ref);
    lua_event_push(L, j->ev);
    lua_vm_push(L, j->params);
    lua_call(L, 2, results);
}

/* A filter's second result, for people: it decides nothing, so nothing about it is an error. */
static void read_why(lua_State *L, struct strbuf *why)
{
    struct slice text = {NULL, 0};
    if (lua_type(L, 3) == LUA_TSTRING) {
        text.p = lua_tolstring(L, 3, &text.n);
    }
    const char *instead = !text.p             ? "(not a text)"
                          : !utf8_ok(text)    ? "(not UTF-8)"
                          : text.n > why->max ? "(too long to be shown)"
                                              : NULL;
    if (!lua_isnoneornil(L, 3)) {
        text = instead ? slice_str(instead) : text;
        if (strbuf_append(why, text.p, text.n)) {
            strbuf_reset(why); /* memory is short: it is not shown */
        }
    }
}

static int filter_body(lua_State *L)
{
    struct judgement *x = lua_touserdata(L, 1);
    lua_judge_call(L, x->j, x->j->why ? 2 : 1);
    if (lua_type(L, 2) != LUA_TBOOLEAN) {
        return luaL_error(L, "filter '%s' returned %s: true or false was expected", x->j->fn->name,
                          luaL_typename(L, 2));
    }
    x->deliver = lua_toboolean(L, 2);
    if (x->j->why) {
        read_why(L, x->j->why);
    }
    return 0;
}

int lua_judge_filter(const struct judge *j, bool *deliver, struct err *e)
{
    struct judgement x = {.j = j};
    struct lua_allowance allowed = lua_budget_allow(j->budget, event_data(j->ev).n);
    int rc = lua_vm_run(j->vm, allowed, filter_body, &x, e);
    *deliver = rc == 0 && x.deliver;
    return rc;
}

static void lua_judge_put_text(lua_State *L, struct strbuf *out, struct slice text,
                               const char *what)
{
    if (!utf8_ok(text)) {
        luaL_error(L, "%s: not UTF-8", what);
    }
    if (strbuf_append(out, text.p, text.n)) {
        luaL_error(L, "%s: longer than %I bytes, or memory is short", what, (LUAI_UACINT)out->max);
    }
}

static void read_event_name(lua_State *L, int t, struct formatted *out)
{
    if (lua_shape_field(L, t, "event") != LUA_TNIL) {
        struct slice name = lua_shape_string(L, -1, "frame.event");
        if (name.n > EVENT_TYPE_MAX_BYTES || memchr(name.p, '\n', name.n) ||
            memchr(name.p, '\r', name.n) || memchr(name.p, '\0', name.n)) {
            luaL_error(L, "frame.event: one line of at most %d bytes was expected",
                       EVENT_TYPE_MAX_BYTES);
        }
        lua_judge_put_text(L, &out->event, name, "frame.event");
    }
    lua_pop(L, 1);
}

static void read_frame(lua_State *L, int t, struct formatted *out)
{
    static const char *const keys[] = {"data", "event", NULL};
    lua_shape_closed(L, t, "frame", keys);
    int type = lua_shape_field(L, t, "data");
    if (type == LUA_TNIL) {
        luaL_error(L, "frame.data: missing; return nil to leave the event out");
    }
    if (type == LUA_TSTRING) {
        lua_judge_put_text(L, &out->data, lua_shape_string(L, -1, "frame.data"), "frame.data");
    } else {
        lua_json_encode(L, -1, "frame.data", LUA_JSON_ANY, &out->data);
    }
    read_event_name(L, t, out);
}

static int format_body(lua_State *L)
{
    struct judgement *x = lua_touserdata(L, 1);
    lua_judge_call(L, x->j, 1);
    x->result = FORMAT_DELIVER;
    switch (lua_type(L, 2)) {
    case LUA_TNIL:
        x->result = FORMAT_SKIP;
        return 0;
    case LUA_TSTRING:
        lua_judge_put_text(L, &x->out->data, lua_shape_string(L, 2, "data"), "data");
        return 0;
    case LUA_TTABLE:
        read_frame(L, 2, x->out);
        return 0;
    default:
        return luaL_error(L,
                          "format '%s' returned %s: {data = ..., event = ...}, a string or nil "
                          "was expected",
                          x->j->fn->name, luaL_typename(L, 2));
    }
}

int lua_judge_format(const struct judge *j, struct formatted *out, enum format_result *result,
                     struct err *e)
{
    struct judgement x = {.j = j, .out = out, .result = FORMAT_FAILED};
    struct lua_allowance allowed = lua_budget_allow(j->budget, event_data(j->ev).n);
    int rc = lua_vm_run(j->vm, allowed, format_body, &x, e);
    *result = rc ? FORMAT_FAILED : x.result;
    return rc;
}

enum format_result lua_judge_built_in(int format, const struct event *ev, struct formatted *out)
{
    struct slice data = event_data(ev);
    int rc = format == POLICY_FORMAT_JSON          ? json_format(ev, &out->data)
             : format == POLICY_FORMAT_CLOUDEVENTS ? cloudevent_format(ev, out->source, &out->data)
                                                   : strbuf_append(&out->data, data.p, data.n);
    return format_result_of(rc);
}
