/* Other programs on the file of a store: a plain SQL connection, and a writer in a thread. */
#include "base/require.h"
#include "native_store.h"
#include "store/sqlite/sqlite_db.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SQL_TYPE "native.store.sql"
#define WRITER_TYPE "native.store.writer"

/* ------------------------------------------------------------------ sql(file) */

static int l_sql(lua_State *L)
{
    const char *file = luaL_checkstring(L, 1);
    sqlite3 **db = lua_newuserdatauv(L, sizeof *db, 0);
    *db = NULL;
    luaL_setmetatable(L, SQL_TYPE);
    if (sqlite3_open(file, db) != SQLITE_OK) {
        return luaL_error(L, "%s: %s", file, sqlite3_errmsg(*db));
    }
    (void)sqlite3_busy_timeout(*db, 2000);
    return 1;
}

static sqlite3 *check_sql(lua_State *L)
{
    sqlite3 **db = luaL_checkudata(L, 1, SQL_TYPE);
    luaL_argcheck(L, *db != NULL, 1, "is closed");
    return *db;
}

/* db(sql, ...) runs one statement with text parameters: the rows as arrays, or nil and the message.
 */
static int l_sql_call(lua_State *L)
{
    sqlite3 *db = check_sql(L);
    sqlite3_stmt *st = NULL;
    int n = lua_gettop(L), rc = sqlite3_prepare_v2(db, luaL_checkstring(L, 2), -1, &st, NULL);
    for (int i = 3; i <= n && rc == SQLITE_OK; i++) {
        size_t len;
        const char *p = lua_tolstring(L, i, &len);
        rc = sqlite3_bind_text64(st, i - 2, p, len, SQLITE_TRANSIENT, SQLITE_UTF8);
    }
    lua_newtable(L);
    while ((rc == SQLITE_OK || rc == SQLITE_ROW) && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        lua_newtable(L);
        for (int i = 0; i < sqlite3_column_count(st); i++) {
            if (sqlite3_column_type(st, i) == SQLITE_INTEGER) {
                lua_pushinteger(L, sqlite3_column_int64(st, i));
            } else {
                lua_pushstring(L, (const char *)sqlite3_column_text(st, i));
            }
            lua_rawseti(L, -2, i + 1);
        }
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    if (rc != SQLITE_DONE) {
        lua_pushnil(L);
        lua_pushstring(L, sqlite3_errmsg(db));
    }
    (void)sqlite3_finalize(st);
    return rc == SQLITE_DONE ? 1 : 2;
}

static int l_sql_close(lua_State *L)
{
    sqlite3 **db = luaL_checkudata(L, 1, SQL_TYPE);
    (void)sqlite3_close(*db);
    *db = NULL;
    return 0;
}

/* ------------------------------------------------------------------ writer{...} */

/* Transactions of one to four rows; every `rollback_every`th is rolled back; now and then it
 * dawdles inside one. Rows: topic "w/TAG", data "TAG:N" with N counting the committed rows. */
struct writer {
    pthread_t thread;
    bool joined;
    char file[1024], tag[32];
    unsigned transactions, rollback_every, dawdle_us, synchronous;
    unsigned committed; /* rows */
    int rc;
};

static void nap(unsigned us)
{
    struct timespec t = {.tv_nsec = (long)us * 1000};
    (void)nanosleep(&t, NULL);
}

static int insert(sqlite3 *db, const struct writer *w, unsigned n, bool doomed)
{
    char sql[160];
    (void)snprintf(sql, sizeof sql, "INSERT INTO events(topic, data) VALUES ('w/%s', '%s:%s%u')",
                   w->tag, w->tag, doomed ? "doomed " : "", n);
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int transaction(sqlite3 *db, struct writer *w, unsigned at)
{
    bool doomed = w->rollback_every && at % w->rollback_every == 0;
    unsigned rows = 1 + at % 4;
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (unsigned i = 0; i < rows && rc == SQLITE_OK; i++) {
        rc = insert(db, w, w->committed + i + 1, doomed);
    }
    if (w->dawdle_us && at % 3 == 0) {
        nap(w->dawdle_us);
    }
    rc = rc ? rc : sqlite3_exec(db, doomed ? "ROLLBACK" : "COMMIT", NULL, NULL, NULL);
    w->committed += rc || doomed ? 0 : rows;
    return rc;
}

static void *write_all(void *arg)
{
    struct writer *w = arg;
    sqlite3 *db = NULL;
    w->rc = sqlite3_open(w->file, &db);
    (void)sqlite3_busy_timeout(db, 10000);
    for (unsigned i = 1; i <= w->transactions && w->rc == SQLITE_OK; i++) {
        w->rc = transaction(db, w, i);
        if (w->dawdle_us) {
            nap(w->dawdle_us / 2);
        }
    }
    (void)sqlite3_close(db);
    return NULL;
}

static unsigned number(lua_State *L, const char *name, unsigned missing)
{
    lua_getfield(L, 1, name);
    unsigned n = (unsigned)luaL_optinteger(L, -1, missing);
    lua_pop(L, 1);
    return n;
}

static int l_writer(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "file");
    lua_getfield(L, 1, "tag");
    struct writer *w = lua_newuserdatauv(L, sizeof *w, 0);
    memset(w, 0, sizeof *w);
    (void)snprintf(w->file, sizeof w->file, "%s", luaL_checkstring(L, -3));
    (void)snprintf(w->tag, sizeof w->tag, "%s", luaL_checkstring(L, -2));
    w->transactions = number(L, "transactions", 10);
    w->rollback_every = number(L, "rollback_every", 0);
    w->dawdle_us = number(L, "dawdle_us", 0);
    luaL_setmetatable(L, WRITER_TYPE);
    REQUIRE(pthread_create(&w->thread, NULL, write_all, w) == 0);
    return 1;
}

/* Rows committed, and the SQLite result (0). Must be called. */
static int l_writer_join(lua_State *L)
{
    struct writer *w = luaL_checkudata(L, 1, WRITER_TYPE);
    if (!w->joined) {
        REQUIRE(pthread_join(w->thread, NULL) == 0);
        w->joined = true;
    }
    lua_pushinteger(L, w->committed);
    lua_pushinteger(L, w->rc);
    return 2;
}

/* The statements of the SQLite store, by their names. */
static int l_statements(lua_State *L)
{
    lua_newtable(L);
#define X(name, sql)                                                                               \
    lua_pushstring(L, (sql));                                                                      \
    lua_setfield(L, -2, #name);
    SQLITE_STATEMENTS(X)
#undef X
    return 1;
}

void native_store_sql(lua_State *L)
{
    luaL_newmetatable(L, SQL_TYPE);
    lua_pushcfunction(L, l_sql_call);
    lua_setfield(L, -2, "__call");
    lua_pushcfunction(L, l_sql_close);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    lua_pushcfunction(L, l_sql_close);
    lua_setfield(L, -2, "close");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newmetatable(L, WRITER_TYPE);
    lua_newtable(L);
    lua_pushcfunction(L, l_writer_join);
    lua_setfield(L, -2, "join");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_writer_join);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_sql);
    lua_setfield(L, -2, "sql");
    lua_pushcfunction(L, l_writer);
    lua_setfield(L, -2, "writer");
    lua_pushcfunction(L, l_statements);
    lua_setfield(L, -2, "statements");
}
