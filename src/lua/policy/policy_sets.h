/* The sets that one policy uses: taken from the store of sets when the policy is loaded, awaited before it
 * takes effect, given back when it is closed. */
#ifndef LUA_POLICY_POLICY_SETS_H
#define LUA_POLICY_POLICY_SETS_H

#include "filter/filter.h"
#include "lua/load/lua_sets.h"
#include "sets/set_store.h"

struct policy_sets_wait;

struct policy_sets {
    struct policy_sets_wait *v; /* owned; one for each set, in the order of the file */
    size_t n, missing;          /* sets without values */
    void (*ready)(void *ctx, const struct err *e);
    void *ctx;
};

/* Begins to use what the file declares, and gives the sets to its texts. Close it also on failure. */
int policy_sets_open(struct policy_sets *s, struct set_store *store,
                     const struct lua_sets *declared, struct filter_set *texts, struct err *e);
/* Calls `ready` once: `e` NULL: all have values. At once, if they have them already; never, if it is
 * closed before. */
void policy_sets_await(struct policy_sets *s, void (*ready)(void *ctx, const struct err *e),
                       void *ctx);
/* The texts ask them no more. */
void policy_sets_close(struct policy_sets *s);
/* False: there are no more than `i`. */
bool policy_sets_state(const struct policy_sets *s, size_t i, struct policy_set_state *out);

#endif
