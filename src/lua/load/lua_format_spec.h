/* Formats that are a table of rules: applied to the JSON text in C, without Lua. */
#ifndef LUA_LOAD_LUA_FORMAT_SPEC_H
#define LUA_LOAD_LUA_FORMAT_SPEC_H

#include "filter/format_rules.h"
#include "lua/vm/format_classes.h"
#include "policy/policy.h"

#include <lua.h>

struct format_spec {
    struct format_rules *edit;            /* owned; NULL: the data as it is */
    char event[EVENT_TYPE_MAX_BYTES + 1]; /* empty: the event's own type */
    struct strbuf scratch;
};

struct format_spec *lua_format_spec_new(void);
void lua_format_spec_free(struct format_spec *spec); /* NULL is fine */
/* Reads the table at `idx` (absolute); `what` is its name in messages. Raises an error for an invalid
 * table. `spec` is new and its owner frees it, also after an error. */
void lua_format_spec_read(lua_State *L, int idx, const char *what, struct format_spec *spec);
bool lua_format_spec_reads_params(const struct format_spec *spec);
/* Has the audience what the rules read of its params (a JSON object, or absent)? 0, or UV_EINVAL. */
int lua_format_spec_bind(const struct format_spec *spec, struct slice params, struct err *e);
/* Adds the names of what it reads. */
void lua_format_spec_reads(const struct format_spec *spec, struct param_reads *reads);
/* `params`: of the audience, absent where it has none. FORMAT_DELIVER; or FORMAT_FAILED or FORMAT_NO_MEMORY, with the reason in `e`. */
enum format_result lua_format_spec_apply(const struct format_spec *spec, struct event *ev,
                                         struct slice params, struct formatted *out, struct err *e);

#endif
