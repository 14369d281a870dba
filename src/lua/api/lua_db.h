/* Looking things up in a database: the queries that a policy declares, and db.query(), which asks
 * one of them and suspends the hook until the answer is there. */
#ifndef LUA_API_LUA_DB_H
#define LUA_API_LUA_DB_H

#include "lookup/query_source.h"

#include <lua.h>
#include <stddef.h>

struct lua_queries {
    struct query_source *source; /* borrowed; NULL: there is no database */
    struct lua_query {
        char *name;                /* owned */
        const struct query *query; /* borrowed from the source */
    } * v;                         /* owned */
    size_t n;
};

/* Inside a body: declares what the table at `idx` (absolute; nil: nothing) holds, { name = "select
 * ..." }. Raises, naming the query, what is none. Names are those of filters and formats. */
void lua_queries_read(lua_State *L, int idx, struct lua_queries *out);
void lua_queries_clear(struct lua_queries *q);

/* Sets `db` in the table on top of the stack. Its functions find the queries by the vm's host. */
void lua_db_open(lua_State *L);

#endif
