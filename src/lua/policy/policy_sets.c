#include "lua/policy/policy_sets.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <uv.h>

struct policy_sets_wait {
    struct set_wait wait;
    struct stored_set *set;
};

int policy_sets_open(struct policy_sets *s, struct set_store *store,
                     const struct lua_sets *declared, struct filter_set *texts, struct err *e)
{
    *s = (struct policy_sets){.n = 0};
    if (declared->n && !store) {
        return err_set(e, UV_ENOENT, "sets: nothing loads them here");
    }
    s->v = xcalloc(declared->n, sizeof *s->v);
    for (size_t i = 0; i < declared->n; i++) {
        const struct lua_set *d = &declared->v[i];
        const struct set_declaration declaration = {.name = d->name,
                                                    .sql = slice_str(d->sql),
                                                    .every_ms = d->every_ms,
                                                    .stale_ms = d->stale_ms};
        list_init(&s->v[i].wait.node);
        if (set_store_use(store, &declaration, &s->v[i].set, e)) {
            return err_context(e, "sets.%s", d->name);
        }
        s->n++;
        filter_set_bind_values(texts, d->name, stored_set_slot(s->v[i].set));
    }
    return 0;
}

static void policy_sets_give_up(struct policy_sets *s)
{
    for (size_t i = 0; i < s->n; i++) {
        set_wait_give_up(&s->v[i].wait);
    }
}

static void policy_sets_on_set(void *ctx, const struct err *e)
{
    struct policy_sets *s = ctx;
    s->missing--;
    if (e) {
        policy_sets_give_up(s);
        s->ready(s->ctx, e);
    } else if (s->missing == 0) {
        s->ready(s->ctx, NULL);
    }
}

void policy_sets_await(struct policy_sets *s, void (*ready)(void *ctx, const struct err *e),
                       void *ctx)
{
    s->ready = ready;
    s->ctx = ctx;
    s->missing = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->v[i].wait.done = policy_sets_on_set;
        s->v[i].wait.ctx = s;
        s->missing += !stored_set_await(s->v[i].set, &s->v[i].wait);
    }
    if (s->missing == 0) {
        ready(ctx, NULL);
    }
}

void policy_sets_close(struct policy_sets *s)
{
    policy_sets_give_up(s);
    for (size_t i = 0; i < s->n; i++) {
        stored_set_release(s->v[i].set);
    }
    free(s->v);
    *s = (struct policy_sets){.n = 0};
}

bool policy_sets_state(const struct policy_sets *s, size_t i, struct policy_set_state *out)
{
    if (i < s->n) {
        stored_set_state(s->v[i].set, out);
    }
    return i < s->n;
}
