/* What `tidegate check` finds out about a policy: loaded as `serve` would, its queries prepared by
 * the database, luacheck's opinion of its files. Collects facts; scripts/lib/check.lua judges. */
#ifndef TOOLS_POLICY_CHECK_H
#define TOOLS_POLICY_CHECK_H

#include "base/slice.h"
#include "config/config.h"

#include <jansson.h>

struct policy_check_options {
    bool database; /* connect to it */
    bool luacheck;
};

/* Sets in `facts`:
 *   about            lua_policy_about(), of a policy that loads
 *   load_error       of one that does not
 *   files            [path]: all it consists of
 *   database         with that option: {refused: [{query, message}], away: why, or null}, or
 *                    {skipped: why}
 *   luacheck         with that option, if the policy loads: {output} or {skipped: why} */
/* A new reference; what is not UTF-8 is "?". */
json_t *policy_check_text(struct slice text);
void policy_check(const struct config *cfg, const struct policy_check_options *opt, json_t *facts);

#endif
