#include "reload/policy_names.h"

#include "base/alloc.h"
#include "lua/policy/lua_policy.h"

#include <stdlib.h>
#include <string.h>

static bool policy_names_has(const struct policy *p, bool format, const char *wanted)
{
    for (size_t i = 0; lua_policy_name(p, format, i); i++) {
        if (strcmp(lua_policy_name(p, format, i), wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* Those of `a` that `b` does not have. */
static struct policy_names policy_names_missing(const struct policy *a, const struct policy *b,
                                                bool format)
{
    struct policy_names out = {0};
    for (size_t i = 0; lua_policy_name(a, format, i); i++) {
        if (!policy_names_has(b, format, lua_policy_name(a, format, i))) {
            out.v = xrealloc(out.v, (out.n + 1) * sizeof *out.v);
            out.v[out.n++] = lua_policy_name(a, format, i);
        }
    }
    return out;
}

void policy_names_compare(const struct policy *before, const struct policy *after,
                          struct policy_report *out)
{
    out->filters_added = policy_names_missing(after, before, false);
    out->filters_removed = policy_names_missing(before, after, false);
    out->formats_added = policy_names_missing(after, before, true);
    out->formats_removed = policy_names_missing(before, after, true);
    out->settings_changed.v = xcalloc(2 * POLICY_SETTINGS_MAX, sizeof *out->settings_changed.v);
    out->settings_changed.n = lua_policy_settings_changed(before, after, out->settings_changed.v);
}

void policy_names_clear(struct policy_report *rep)
{
    free(rep->filters_added.v);
    free(rep->filters_removed.v);
    free(rep->formats_added.v);
    free(rep->formats_removed.v);
    free(rep->settings_changed.v);
}
