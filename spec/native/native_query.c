/* broker/query_*.h and store/query_*: drives a database for policies with a loop of its own. */
#include "base/require.h"
#include "lookup/query_open.h"
#include "lookup/query_sql.h"
#include "native.h"

#include <stdlib.h>

#define QUERY_TYPE "native.query"

enum { IDS_MAX = 8192, DECLARED_MAX = 1024, ARGS_MAX = 64 };

struct driver {
    struct loop *loop;
    struct query_source *source; /* NULL: closed */
    struct lookup_metrics metrics;
    const struct query *declared[DECLARED_MAX];
    int declared_count;
    lua_State *L;
    int completions;
    uint64_t tokens, ids[IDS_MAX];
    bool closed, asking;
};

static lua_Integer integer_field(lua_State *L, int at, const char *name, lua_Integer missing)
{
    lua_getfield(L, at, name);
    lua_Integer n = luaL_optinteger(L, -1, missing);
    lua_pop(L, 1);
    return n;
}

static const char *text_field(lua_State *L, int at, const char *name)
{
    lua_getfield(L, at, name);
    const char *p = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table still holds it */
    return p;
}

static void push_value(lua_State *L, const struct query_value *v)
{
    switch (v->type) {
    case QUERY_NULL:
        lua_pushnil(L);
        break;
    case QUERY_INTEGER:
        lua_pushinteger(L, v->integer);
        break;
    case QUERY_NUMBER:
        lua_pushnumber(L, v->number);
        break;
    case QUERY_BOOL:
        lua_pushboolean(L, v->boolean);
        break;
    case QUERY_TEXT:
        lua_pushlstring(L, v->text.p, v->text.n);
        break;
    }
}

static void push_rows(lua_State *L, const struct query_rows *rows)
{
    lua_createtable(L, 0, 0);
    for (size_t i = 0; i < rows->rows; i++) {
        lua_createtable(L, 0, (int)rows->columns);
        for (size_t j = 0; j < rows->columns; j++) {
            struct slice name = query_rows_name(rows, j);
            struct query_value v = query_rows_cell(rows, i, j);
            lua_pushlstring(L, name.p, name.n);
            push_value(L, &v);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void on_done(void *ctx, uint64_t token, const struct query_rows *rows, const struct err *e)
{
    struct driver *d = ctx;
    lua_State *L = d->L;
    REQUIRE(!d->asking && (rows == NULL) != (e == NULL));
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->completions);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, (lua_Integer)token);
    lua_setfield(L, -2, "token");
    if (rows) {
        push_rows(L, rows);
        lua_setfield(L, -2, "rows");
        lua_pushinteger(L, (lua_Integer)rows->columns);
        lua_setfield(L, -2, "columns");
    } else {
        lua_pushstring(L, uv_err_name(e->code));
        lua_setfield(L, -2, "error");
        lua_pushstring(L, e->text);
        lua_setfield(L, -2, "text");
    }
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

static struct driver *check(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, QUERY_TYPE);
    d->L = L;
    luaL_checkstack(L, 20, NULL);
    return d;
}

static int refused(lua_State *L, int rc, const struct err *e)
{
    lua_pushnil(L);
    lua_pushstring(L, uv_err_name(rc));
    lua_pushstring(L, e->text);
    return 3;
}

/* declare(name, sql) -> query, parameters | nil, code, text */
static int l_declare(lua_State *L)
{
    struct driver *d = check(L);
    struct slice name, sql;
    struct err e = {0};
    name.p = luaL_checklstring(L, 2, &name.n);
    sql.p = luaL_checklstring(L, 3, &sql.n);
    luaL_argcheck(L, d->declared_count < DECLARED_MAX, 1, "too many queries");
    const struct query *q = NULL;
    int rc = d->source->ops->declare(d->source, name, sql, &q, &e);
    if (rc) {
        return refused(L, rc, &e);
    }
    d->declared[d->declared_count++] = q;
    lua_pushinteger(L, d->declared_count);
    lua_pushinteger(L, d->source->ops->parameters(q));
    return 2;
}

static void read_value(lua_State *L, int at, struct query_value *v)
{
    *v = (struct query_value){.type = QUERY_NULL};
    switch (lua_type(L, at)) {
    case LUA_TBOOLEAN:
        v->type = QUERY_BOOL;
        v->boolean = lua_toboolean(L, at);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, at)) {
            v->type = QUERY_INTEGER;
            v->integer = lua_tointeger(L, at);
        } else {
            v->type = QUERY_NUMBER;
            v->number = lua_tonumber(L, at);
        }
        break;
    case LUA_TSTRING:
        v->type = QUERY_TEXT;
        v->text.p = lua_tolstring(L, at, &v->text.n);
        break;
    default:
        break;
    }
}

/* ask{query=, timeout_ms=, only_prepare=, n=, args...} -> token | nil, code, text */
static int l_ask(lua_State *L)
{
    struct driver *d = check(L);
    struct query_value args[ARGS_MAX];
    struct err e = {0};
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer which = integer_field(L, 2, "query", 1);
    lua_Integer n = integer_field(L, 2, "n", (lua_Integer)lua_rawlen(L, 2));
    luaL_argcheck(L, which >= 1 && which <= d->declared_count && n <= ARGS_MAX, 2, "no such query");
    luaL_argcheck(L, d->tokens + 1 < IDS_MAX, 1, "too many questions");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, i);
        read_value(L, -1, &args[i - 1]);
        lua_pop(L, 1);
    }
    struct query_question q = {.query = d->declared[which - 1],
                               .args = args,
                               .arg_count = (size_t)n,
                               .timeout_ms = (unsigned)integer_field(L, 2, "timeout_ms", 60000)};
    lua_getfield(L, 2, "only_prepare");
    q.only_prepare = lua_toboolean(L, -1);
    uint64_t token = ++d->tokens;
    d->asking = true;
    int rc = d->source->ops->ask(d->source, &q, on_done, d, token, &d->ids[token], &e);
    d->asking = false;
    if (rc) {
        return refused(L, rc, &e);
    }
    lua_pushinteger(L, (lua_Integer)token);
    return 1;
}

static int l_cancel(lua_State *L)
{
    struct driver *d = check(L);
    d->source->ops->cancel(d->source, d->ids[luaL_checkinteger(L, 2)]);
    return 0;
}

/* turn() -> list of all completions so far: { token, rows, columns } or { token, error, text } */
static int l_turn(lua_State *L)
{
    struct driver *d = check(L);
    if (d->loop) {
        uv_run(loop_uv(d->loop), UV_RUN_NOWAIT);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->completions);
    return 1;
}

static int l_metric(lua_State *L)
{
    struct driver *d = check(L);
    const char *name = luaL_checkstring(L, 2);
#define X(member, kind, metric, help)                                                              \
    if (strcmp(name, #member) == 0) {                                                              \
        lua_pushinteger(L, (lua_Integer)d->metrics.member);                                        \
        return 1;                                                                                  \
    }
    LOOKUP_METRICS(X)
#undef X
    return luaL_argerror(L, 2, "no such metric");
}

static void on_closed(void *ctx)
{
    struct driver *d = ctx;
    d->closed = true;
}

/* close() -> handles left open */
static int l_close(lua_State *L)
{
    struct driver *d = check(L);
    unsigned left = 0;
    if (d->source) {
        d->source->ops->close(d->source, on_closed, d);
        loop_run(d->loop);
        REQUIRE(d->closed);
        d->source->ops->free(d->source);
        d->source = NULL;
        left = loop_free(d->loop);
        d->loop = NULL;
    }
    lua_pushinteger(L, left);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct driver *d = check(L);
    (void)l_close(L);
    luaL_unref(L, LUA_REGISTRYINDEX, d->completions);
    return 0;
}

/* open{conninfo=, path=, connections=, queue=, timeout_ms=, rows=, bytes=} -> db | nil, code, text
 */
static int l_open(lua_State *L)
{
    struct err e = {0};
    lua_settop(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    struct query_options opt = {
        .conninfo = text_field(L, 1, "conninfo"),
        .path = text_field(L, 1, "path"),
        .connections = (unsigned)integer_field(L, 1, "connections", 2),
        .pool = {.queue = (unsigned)integer_field(L, 1, "queue", 256),
                 .timeout_ms = (unsigned)integer_field(L, 1, "timeout_ms", 5000),
                 .rows = (size_t)integer_field(L, 1, "rows", 1000),
                 .bytes = (size_t)integer_field(L, 1, "bytes", 1 << 20)}};
    struct driver *d = lua_newuserdatauv(L, sizeof *d, 0);
    *d = (struct driver){.closed = false};
    lua_createtable(L, 0, 0);
    d->completions = luaL_ref(L, LUA_REGISTRYINDEX);
    luaL_setmetatable(L, QUERY_TYPE);
    d->loop = loop_new();
    int rc = query_open(&opt, d->loop, &d->metrics, &d->source, &e);
    if (rc) {
        (void)loop_free(d->loop);
        return refused(L, rc, &e);
    }
    return 1;
}

/* parameters(sql) -> number | nil, text */
static int l_parameters(lua_State *L)
{
    struct slice sql;
    struct err e = {0};
    sql.p = luaL_checklstring(L, 1, &sql.n);
    int n = query_sql_parameters(sql, &e);
    if (n >= 0) {
        lua_pushinteger(L, n);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, e.text);
    return 2;
}

int native_open_query(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"declare", l_declare}, {"ask", l_ask},     {"cancel", l_cancel}, {"turn", l_turn},
        {"metric", l_metric},   {"close", l_close}, {"__gc", l_gc},       {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"open", l_open}, {"parameters", l_parameters}, {NULL, NULL}};
    native_class(L, QUERY_TYPE, methods);
    luaL_newlib(L, functions);
    return 1;
}
