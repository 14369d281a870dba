/* Filters that are text: compiled when the policy is loaded, with errors that name the line. */
#ifndef LUA_LOAD_LUA_POLICY_TEXT_H
#define LUA_LOAD_LUA_POLICY_TEXT_H

#include "base/slice.h"
#include "filter/filter.h"

#include <lua.h>

/* Where the policy file is, for places in it. */
struct lua_policy_source {
    const char *path, *chunk; /* "/etc/tidegate/geo.lua", "geo.lua" */
};

/* Compiles the text of filter `name`; raises an error if it is wrong. `where` gets "geo.lua:7", or the
 * name of the file if the text does not occur literally in it. */
const struct filter *lua_policy_text_compile(lua_State *L, struct filter_set *set,
                                             const struct lua_policy_source *source,
                                             const char *name, struct slice text, char *where,
                                             size_t where_size);

#endif
