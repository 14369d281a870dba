/* Describes a loaded policy for people and for `tidegate check`, and lists the names that policies can
 * use. Loop thread only. */
#ifndef LUA_POLICY_LUA_POLICY_ABOUT_H
#define LUA_POLICY_LUA_POLICY_ABOUT_H

#include "base/err.h"
#include "lookup/query_source.h"
#include "policy/policy.h"

#include <jansson.h>

/* {label, version, hooks: [name], queries: [{name, parameters}], filters: [{name, kind: "text" |
 * "lua", at, attrs: [field], data: [field]}], formats: [{name, kind: "rules" | "lua", at}]}. A new
 * reference; NULL: memory is short. */
json_t *lua_policy_about(const struct policy *p);
/* Its i-th query, sorted by name, which is borrowed until the policy is closed; NULL: there are no
 * more. */
const struct query *lua_policy_query(const struct policy *p, size_t i, const char **name);
/* Every name that a policy file can use: ["assert", "tg.deny", ...]. A new reference; NULL with the
 * reason in `e`. */
json_t *lua_policy_globals(struct err *e);

#endif
