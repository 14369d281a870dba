/* The facts that `tidegate check` collects about a policy: it loads the policy as `serve` would, lets
 * the database prepare its queries, and runs luacheck on its files. scripts/lib/check.lua judges the
 * facts. */
#ifndef TOOLS_POLICY_CHECK_H
#define TOOLS_POLICY_CHECK_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "config/config.h"

#include <jansson.h>

struct policy_check_options {
    bool database; /* connect to it */
    bool luacheck;
};

/* Every name that a policy can use, as the inside of luacheck's `read_globals`, in lines that begin with four
 * spaces. 0, or a negative UV_E*. */
int policy_check_names(struct strbuf *out);
/* Returns a new reference to `text` as a JSON string; bytes that are not UTF-8 become "?". */
json_t *policy_check_text(struct slice text);

/* Sets in `facts`:
 *   about            lua_policy_about(), if the policy loads
 *   load_error       if it does not
 *   keys_error       if keys cannot be read; the policy was loaded without any then
 *   files            [path]: all files of the policy
 *   database         with that option: {refused: [{query, message}], away: why, or null}, or
 *                    {skipped: why}
 *   luacheck         with that option, if the policy loads: {output} or {skipped: why} */
void policy_check(const struct config *cfg, const struct policy_check_options *opt, json_t *facts);

#endif
