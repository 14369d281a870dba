#include "lua/api/lua_shared_call.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/require.h"

#include <stdlib.h>
#include <string.h>

enum { ERROR_BYTES = 512 };

struct entry {
    struct shared_call shared_call;
    struct list due; /* in shared_calls.due, unless it RUNS */
    struct list waiters;
    bool findable;           /* in shared_calls.under_way; else it is not shared */
    struct map_entry by_key; /* there */
};

struct waiter {
    struct list node; /* in entry.waiters */
    struct lua_waits *waits;
    uint64_t ticket;
};

struct shared_calls {
    struct loop *loop;
    size_t value_bytes;
    lua_coro_push outcome;
    struct hash_key key;
    struct map under_way; /* RUNS or ORPHANED */
    struct list due;      /* whose waiters are to be resumed */
    struct task wake;
};

static unsigned lua_shared_call_hash_of(const struct shared_calls *fs, struct slice key)
{
    return (unsigned)hash_bytes(&fs->key, key.p, key.n);
}

struct shared_call *shared_calls_find(const struct shared_calls *fs, struct slice key)
{
    struct map_entry *e = map_find(&fs->under_way, key, lua_shared_call_hash_of(fs, key));
    return e ? &container_of(e, struct entry, by_key)->shared_call : NULL;
}

struct shared_call *shared_calls_add(struct shared_calls *fs, struct slice key)
{
    struct entry *e = xcalloc(1, sizeof *e);
    struct shared_call *f = &e->shared_call;
    list_init(&e->due);
    list_init(&e->waiters);
    strbuf_init(&f->text, fs->value_bytes);
    strbuf_init(&f->error, ERROR_BYTES);
    f->key_len = key.n;
    memcpy(f->key, key.p, key.n);
    e->findable = map_add(&fs->under_way, &e->by_key, slice_of(f->key, f->key_len),
                          lua_shared_call_hash_of(fs, key));
    return f;
}

/* Later calls with the same key do not find it. */
static void hide(struct shared_calls *fs, struct entry *e)
{
    if (e->findable) {
        map_del(&fs->under_way, &e->by_key);
        e->findable = false;
    }
}

void shared_calls_hide(struct shared_calls *fs, struct slice key)
{
    struct shared_call *f = shared_calls_find(fs, key);
    if (f) {
        hide(fs, container_of(f, struct entry, shared_call));
    }
}

bool shared_call_findable(const struct shared_call *f)
{
    return container_of((struct shared_call *)(uintptr_t)f, struct entry, shared_call)->findable;
}

static void entry_free(struct shared_calls *fs, struct entry *e)
{
    hide(fs, e);
    list_del(&e->due);
    strbuf_clear(&e->shared_call.text);
    strbuf_clear(&e->shared_call.error);
    free(e);
}

void shared_calls_end(struct shared_calls *fs, struct shared_call *f, enum shared_call_state state)
{
    struct entry *e = container_of(f, struct entry, shared_call);
    f->state = state;
    if (state != SHARED_CALL_ORPHANED) {
        hide(fs, e);
    }
    list_del(&e->due);
    list_add_tail(&fs->due, &e->due);
    loop_defer(fs->loop, &fs->wake);
}

static void lua_shared_call_abandon(void *ctx, uint64_t ticket)
{
    struct waiter *w = ctx;
    (void)ticket;
    list_del(&w->node);
    free(w);
}

struct lua_wait shared_calls_join(struct shared_call *f, struct lua_waits *waits, uint64_t ticket)
{
    struct waiter *w = xmalloc(sizeof *w);
    *w = (struct waiter){.waits = waits, .ticket = ticket};
    list_add_tail(&container_of(f, struct entry, shared_call)->waiters, &w->node);
    return (struct lua_wait){.abandon = lua_shared_call_abandon, .ctx = w};
}

static void wake_one(const struct shared_calls *fs, struct entry *e)
{
    struct waiter *w = list_first(&e->waiters, struct waiter, node);
    struct lua_waits *waits = w->waits;
    uint64_t ticket = w->ticket;
    list_del(&w->node);
    free(w);
    REQUIRE(lua_coro_complete(waits, ticket, fs->outcome, &e->shared_call));
}

/* Completions continue other hooks, which may begin and end shared calls; only this removes one. */
static void on_wake(struct task *t)
{
    struct shared_calls *fs = container_of(t, struct shared_calls, wake);
    while (!list_empty(&fs->due)) {
        struct entry *e = list_first(&fs->due, struct entry, due);
        list_del(&e->due);
        while (e->shared_call.state != SHARED_CALL_RUNS && !list_empty(&e->waiters)) {
            wake_one(fs, e);
        }
        if (e->shared_call.state != SHARED_CALL_RUNS) {
            entry_free(fs, e);
        }
    }
}

struct shared_calls *shared_calls_new(struct loop *loop, size_t value_bytes, lua_coro_push outcome)
{
    struct shared_calls *fs = xcalloc(1, sizeof *fs);
    fs->loop = loop;
    fs->value_bytes = value_bytes;
    fs->outcome = outcome;
    hash_key_init(&fs->key);
    list_init(&fs->due);
    task_init(&fs->wake, on_wake);
    return fs;
}

void shared_calls_free(struct shared_calls *fs)
{
    task_cancel(&fs->wake);
    while (!list_empty(&fs->due)) {
        struct entry *e = list_first(&fs->due, struct entry, due);
        REQUIRE(e->shared_call.state != SHARED_CALL_RUNS && list_empty(&e->waiters));
        entry_free(fs, e);
    }
    REQUIRE(map_empty(&fs->under_way));
    free(fs);
}
