/* The list of what observe orders for one event: see policy.h. */
#include "base/alloc.h"
#include "policy/policy.h"

#include <stdlib.h>
#include <string.h>

void policy_effects_init(struct policy_effects *x)
{
    *x = (struct policy_effects){.v = NULL};
}

void policy_effects_clear(struct policy_effects *x)
{
    free(x->v);
    policy_effects_init(x);
}

bool policy_effects_add(struct policy_effects *x, enum policy_effect_kind kind, struct slice tag,
                        struct slice reason)
{
    if (x->n == POLICY_EFFECTS_MAX) {
        return false;
    }
    if (x->n == x->cap) {
        x->cap = x->cap ? 2 * x->cap : 2;
        x->v = xrealloc(x->v, x->cap * sizeof *x->v);
    }
    struct policy_effect *e = &x->v[x->n++];
    *e = (struct policy_effect){
        .kind = kind, .tag_n = (unsigned)tag.n, .reason_n = (unsigned)reason.n};
    memcpy(e->tag, tag.p, tag.n);
    if (reason.n) {
        memcpy(e->reason, reason.p, reason.n);
    }
    return true;
}
