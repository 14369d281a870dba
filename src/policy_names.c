#include "policy_names.h"

#include "base/xalloc.h"
#include "lua/lua_policy.h"

#include <stdlib.h>
#include <string.h>

typedef const char *(*name_cb)(const struct policy *p, size_t i);

static bool has(const struct policy *p, name_cb name, const char *wanted)
{
    for (size_t i = 0; name(p, i); i++) {
        if (strcmp(name(p, i), wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* Those of `a` that `b` does not have. */
static struct policy_names missing(const struct policy *a, const struct policy *b, name_cb name)
{
    struct policy_names out = {0};
    for (size_t i = 0; name(a, i); i++) {
        if (!has(b, name, name(a, i))) {
            out.v = xrealloc(out.v, (out.n + 1) * sizeof *out.v);
            out.v[out.n++] = name(a, i);
        }
    }
    return out;
}

void policy_names_compare(const struct policy *before, const struct policy *after,
                          struct policy_report *out)
{
    out->filters_added = missing(after, before, lua_policy_filter_name);
    out->filters_removed = missing(before, after, lua_policy_filter_name);
    out->formats_added = missing(after, before, lua_policy_format_name);
    out->formats_removed = missing(before, after, lua_policy_format_name);
}

void policy_names_clear(struct policy_report *rep)
{
    free(rep->filters_added.v);
    free(rep->filters_removed.v);
    free(rep->formats_added.v);
    free(rep->formats_removed.v);
}
