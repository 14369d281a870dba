#include "lua/api/lua_db.h"

#include "base/alloc.h"
#include "lookup/query_sql.h"
#include "lua/vm/lua_coro.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_shape.h"

#include <stdlib.h>

enum { QUERIES_MAX = 1000 };

/* ---- declared queries */

static int lua_db_by_name(const void *a, const void *b)
{
    const struct lua_query *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Stack: ..., name, sql */
static void lua_db_read_query(lua_State *L, struct lua_queries *out)
{
    struct slice name = lua_shape_name(L, -2, "queries"), sql;
    struct err e;
    if (lua_type(L, -1) != LUA_TSTRING) {
        luaL_error(L, "queries.%s: a text of SQL was expected, got %s", name.p,
                   luaL_typename(L, -1));
    }
    if (out->n == QUERIES_MAX) {
        luaL_error(L, "queries: more than %d", QUERIES_MAX);
    }
    sql.p = lua_tolstring(L, -1, &sql.n);
    const struct query *q = NULL;
    if (out->source->ops->declare(out->source, name, sql, &q, &e)) {
        luaL_error(L, "queries.%s: %s", name.p, e.text);
    }
    out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
    out->v[out->n++] = (struct lua_query){.name = xstrndup(name.p, name.n), .query = q};
}

void lua_queries_read(lua_State *L, int idx, struct lua_queries *out)
{
    if (lua_isnil(L, idx)) {
        return;
    }
    if (lua_type(L, idx) != LUA_TTABLE) {
        luaL_error(L, "queries: a table of texts was expected, got %s", luaL_typename(L, idx));
    }
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (!out->source) {
            luaL_error(L, "queries: there is no database to ask: set database.driver in the "
                          "configuration");
            return; /* not reached: luaL_error() does not come back */
        }
        lua_db_read_query(L, out);
        lua_pop(L, 1);
    }
    if (out->n) {
        qsort(out->v, out->n, sizeof *out->v, lua_db_by_name);
    }
}

void lua_queries_clear(struct lua_queries *q)
{
    for (size_t i = 0; i < q->n; i++) {
        free(q->v[i].name);
    }
    free(q->v);
    *q = (struct lua_queries){.source = q->source};
}

/* ---- db.query */

struct answer {
    const struct query_rows *rows; /* NULL: `e` */
    const struct err *e;
};

static void lua_db_push_cell(lua_State *L, const struct query_value *v)
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

static int lua_db_push_answer(lua_State *L, void *ud)
{
    const struct answer *a = ud;
    luaL_checkstack(L, 8, NULL);
    if (!a->rows) {
        lua_pushnil(L);
        lua_pushstring(L, a->e->text);
        return 2;
    }
    lua_createtable(L, (int)a->rows->rows, 0); /* stack: rows */
    for (size_t i = 0; i < a->rows->rows; i++) {
        lua_createtable(L, 0, (int)a->rows->columns); /* stack: rows, row */
        for (size_t j = 0; j < a->rows->columns; j++) {
            struct slice name = query_rows_name(a->rows, j);
            struct query_value v = query_rows_cell(a->rows, i, j);
            lua_pushlstring(L, name.p, name.n); /* stack: rows, row, name */
            lua_db_push_cell(L, &v);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static void lua_db_on_answer(void *ctx, uint64_t token, const struct query_rows *rows,
                             const struct err *e)
{
    struct answer a = {rows, e};
    (void)token;
    lua_coro_answer(ctx, lua_db_push_answer, &a);
}

static void lua_db_cancel(void *ctx, uint64_t id)
{
    struct query_source *source = ctx;
    source->ops->cancel(source, id);
}

static struct query_value lua_db_to_value(lua_State *L, int arg)
{
    struct query_value v = {.type = QUERY_NULL};
    switch (lua_type(L, arg)) {
    case LUA_TNIL:
        break;
    case LUA_TBOOLEAN:
        v.type = QUERY_BOOL;
        v.boolean = lua_toboolean(L, arg);
        break;
    case LUA_TNUMBER:
        v.type = lua_isinteger(L, arg) ? QUERY_INTEGER : QUERY_NUMBER;
        if (v.type == QUERY_INTEGER) {
            v.integer = lua_tointeger(L, arg);
        } else {
            v.number = lua_tonumber(L, arg);
        }
        break;
    case LUA_TSTRING:
        v.type = QUERY_TEXT;
        v.text.p = lua_tolstring(L, arg, &v.text.n);
        break;
    case LUA_TLIGHTUSERDATA: /* json.null, the only one there is */
        break;
    default:
        luaL_typeerror(L, arg, "string, number, boolean or nil");
    }
    return v;
}

static const struct query *lua_db_find(lua_State *L, const struct lua_queries *all,
                                       const char *name)
{
    const char *names[QUERIES_MAX];
    for (size_t i = 0; i < all->n; i++) {
        if (strcmp(all->v[i].name, name) == 0) {
            return all->v[i].query;
        }
        names[i] = all->v[i].name;
    }
    lua_shape_unknown(L, "db.query", "query", name, names, all->n);
    return NULL;
}

/* db.query(name, ...) -> rows | nil, text */
static int lua_db_query(lua_State *L)
{
    uint64_t ticket = lua_coro_begin(L, "db.query");
    const struct lua_host *host = lua_vm_host(L);
    const struct lua_queries *all = host->queries;
    struct query_value args[QUERY_PARAMETERS_MAX];
    const struct query *q = lua_db_find(L, all, luaL_checkstring(L, 1));
    int n = lua_gettop(L) - 1;
    unsigned expected = all->source->ops->parameters(q);
    if ((unsigned)n != expected) {
        return luaL_error(L, "db.query: query '%s' takes %d argument%s, got %d", lua_tostring(L, 1),
                          (int)expected, expected == 1 ? "" : "s", n);
    }
    for (int i = 0; i < n; i++) {
        args[i] = lua_db_to_value(L, i + 2);
    }
    struct query_question question = {.query = q,
                                      .args = args,
                                      .arg_count = (size_t)n,
                                      .timeout_ms = (unsigned)lua_coro_left_ms(L)};
    struct err e = {0};
    struct lua_asked *asked = lua_coro_asked(L, ticket, lua_db_cancel, all->source, NULL);
    int rc =
        all->source->ops->ask(all->source, &question, lua_db_on_answer, asked, 0, &asked->id, &e);
    return lua_coro_await(L, asked, rc, &e);
}

void lua_db_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"query", lua_db_query}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_readonly_wrap(L, "db");
    lua_setfield(L, -2, "db");
}
