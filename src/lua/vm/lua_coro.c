/* See lua_coro.h. One struct lua_coro runs one job after the other.
 *
 * States, and the functions that change them:
 *
 *   FREE    -> RUNNING  lua_coro_start(): lua_coro_run() calls the body of the job
 *   RUNNING -> YIELDED  suspend(): the hook waits (lua_coro_begin(), then lua_coro_wait()), or its turn to
 *                       wait has not come (lua_coro_take_place())
 *   YIELDED -> RUNNING  lua_coro_complete(): lua_coro_run() goes on with what the wait was for;
 *                       lua_waits_admit(): its turn has come
 *   RUNNING -> FREE     lua_coro_end(): the body has returned
 *   RUNNING -> DEAD     lua_coro_end(): the body failed or used up its CPU time; shed(): too many hooks wait;
 *                       lua_coro_end_given_up(): lua_coro_give_up()
 *   YIELDED -> DEAD     expired(): its time is over; cancel(): lua_waits_cancel() or
 *                       lua_coros_free()
 *   DEAD    -> FREE     lua_coro_end(): lua_coro_discard() resets the Lua thread, lua_coro_release() takes it back
 *
 * Invariants:
 *
 *   1. `job` is set, and job->coro points back, in RUNNING and YIELDED only.
 *   2. job->done() is called once, and is the last use of the job: by lua_coro_end(), or by lua_coro_start()
 *      when there is no coroutine to be had.
 *   3. At most one coroutine of a pool is RUNNING: `running`. Nothing but a completion from the loop
 *      resumes one, and only if it is YIELDED and the ticket is that of its last wait.
 *   4. A ticket is good for one wait: closed when the wait is completed, another one begins, or the
 *      job ends.
 *   5. wait.abandon() is called when a job ends while YIELDED, and never after a completion.
 *   6. A job holds a place from its first wait to its end, also while it runs between two waits;
 *      `suspended` counts those jobs.
 *   7. A job without a place that is YIELDED is in the queue of its owner, and `queued` counts those.
 *      Owners take turns. */
#include "lua/vm/lua_coro.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container/slots.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/logging.h"
#include "base/require.h"
#include "lua/vm/lua_host.h"
#include "net/address_limit.h"

#include <stdio.h>
#include <stdlib.h>

enum { IDLE_MAX = 64, BACKGROUND_SHARE = 4, OWNER_SHARE = 4, ADMITS_MAX = 256 /* a turn */ };

struct owner_queue;

enum lua_coro_state { CORO_FREE, CORO_RUNNING, CORO_YIELDED, CORO_DEAD };

struct lua_coro {
    struct list node; /* in the pool's `idle` or `busy` */
    struct lua_coros *pool;
    lua_State *L; /* anchored by `ref` */
    int ref;
    enum lua_coro_state state;
    struct lua_job *job; /* borrowed; NULL: FREE, or about to be */
    const char *shed;    /* yielded because too many wait, says this; NULL: not */
    struct list queued;  /* in the queue of its owner, while it waits for its turn */
    struct owner_queue *queue;
    lua_CFunction again;  /* the function that is to wait then */
    char why[192];        /* not empty: yielded because it was given up */
    uint64_t ticket;      /* of the wait that was begun; 0: none */
    const char *what;     /* it is for; a constant */
    struct lua_wait wait; /* while YIELDED */
    lua_coro_push push;   /* of the completion that continues it */
    void *push_ud;
    bool findable; /* in waits.by_token; else it cannot be cancelled, and waits for its deadline */
    struct map_entry by_token;
};

struct lua_coros {
    struct lua_waits *waits;
    struct lua_vm *vm;
    struct lua_coro *running;
    struct list idle, busy;
    unsigned idle_count, busy_count;
};

struct lua_waits {
    struct loop *loop;
    struct policy_metrics *metrics;
    struct lua_waits_limits limits;
    struct slots tickets;           /* ticket -> struct lua_coro */
    struct address_limit *owners;   /* jobs by their owner */
    struct map by_token;            /* coroutines */
    struct hash_key key;            /* of it */
    struct deadline_class *timeout; /* of jobs */
    unsigned suspended, background;
    struct list queues; /* struct owner_queue; the next one first */
    struct map by_owner;
    unsigned queued;
    struct task admit; /* there may be room again */
};

/* Those of one client who wait for their turn. */
struct owner_queue {
    struct list node;
    struct map_entry entry;
    struct peer_address owner;
    struct list coros; /* at least one, */
    unsigned queued;   /* so many */
};

/* ---- places: every job that has begun to wait holds one until it ends */

/* A client of a Unix socket, or none. */
static bool is_nobody(const struct peer_address *owner)
{
    static const struct peer_address nobody;
    return memcmp(owner, &nobody, sizeof nobody) == 0;
}

static bool place_take(struct lua_waits *w, struct lua_job *job)
{
    unsigned share = w->limits.suspended / BACKGROUND_SHARE;
    if (w->suspended >= w->limits.suspended ||
        (job->background && w->background >= (share ? share : 1))) {
        return false;
    }
    if (!is_nobody(&job->owner)) {
        if (!address_limit_take(w->owners, &job->owner, 1, w->limits.suspended_per_address)) {
            return false;
        }
        job->counted = true;
    }
    job->has_place = true;
    w->suspended++;
    w->background += job->background ? 1 : 0;
    w->metrics->policy_suspended = w->suspended;
    return true;
}

static void place_release(struct lua_waits *w, struct lua_job *job)
{
    if (!job->has_place) {
        return;
    }
    if (job->counted) {
        address_limit_release(w->owners, &job->owner, 1);
    }
    if (w->queued) {
        loop_defer(w->loop, &w->admit);
    }
    w->suspended--;
    w->background -= job->background ? 1 : 0;
    w->metrics->policy_suspended = w->suspended;
    job->has_place = job->counted = false;
}

/* ---- the queue for places: one for each client, in turns, so that many of one do not keep out others */

static struct slice owner_slice(const struct peer_address *owner)
{
    return slice_of((const char *)owner, sizeof *owner);
}

static unsigned owner_hash(const struct lua_waits *w, const struct peer_address *owner)
{
    struct slice key = owner_slice(owner);
    return (unsigned)hash_bytes(&w->key, key.p, key.n);
}

/* NULL: nobody waits in it. */
static struct owner_queue *owner_queue_find(const struct lua_waits *w,
                                            const struct peer_address *owner)
{
    struct map_entry *found = map_find(&w->by_owner, owner_slice(owner), owner_hash(w, owner));
    return found ? container_of(found, struct owner_queue, entry) : NULL;
}

static struct owner_queue *owner_queue_new(struct lua_waits *w, const struct peer_address *owner)
{
    struct owner_queue *q = xcalloc(1, sizeof *q);
    q->owner = *owner;
    list_init(&q->coros);
    if (!map_add(&w->by_owner, &q->entry, owner_slice(&q->owner), owner_hash(w, owner))) {
        free(q);
        return NULL;
    }
    list_add_tail(&w->queues, &q->node);
    return q;
}

static void queue_leave(struct lua_waits *w, struct lua_coro *c)
{
    struct owner_queue *q = c->queue;
    if (!q) {
        return;
    }
    list_del(&c->queued);
    c->queue = NULL;
    q->queued--;
    w->queued--;
    w->metrics->policy_queued = w->queued;
    if (list_empty(&q->coros)) {
        list_del(&q->node);
        map_del(&w->by_owner, &q->entry);
        free(q);
    }
}

/* NULL, or why it cannot. */
static const char *queue_enter(struct lua_waits *w, struct lua_coro *c)
{
    const struct peer_address *owner = &c->job->owner;
    unsigned share = w->limits.queued / OWNER_SHARE;
    struct owner_queue *q = owner_queue_find(w, owner);
    if (q && q->queued >= (share ? share : 1) && !is_nobody(owner)) {
        return "its client has a quarter of the queue";
    }
    q = w->queued >= w->limits.queued ? NULL : q ? q : owner_queue_new(w, owner);
    if (!q) {
        return "the queue for a place is full";
    }
    c->queue = q;
    list_add_tail(&q->coros, &c->queued);
    q->queued++;
    w->queued++;
    w->metrics->policy_queued = w->queued;
    return NULL;
}

/* Would the job overtake others if it took a place now? Those who queue are given free places from the
 * loop's flush step. */
static bool queue_is_before(const struct lua_waits *w, const struct lua_job *job)
{
    return w->queued && !job->background &&
           (list_linked(&w->admit.node) || owner_queue_find(w, &job->owner));
}

/* ---- the pool */

static struct lua_coro *acquire(struct lua_coros *p, struct err *e)
{
    if (!list_empty(&p->idle)) {
        struct lua_coro *c = list_first(&p->idle, struct lua_coro, node);
        list_del(&c->node);
        p->idle_count--;
        return c;
    }
    struct lua_coro *c = xcalloc(1, sizeof *c);
    c->pool = p;
    list_init(&c->node);
    list_init(&c->queued);
    if (lua_vm_thread_new(p->vm, &c->L, &c->ref, e)) {
        free(c);
        return NULL;
    }
    return c;
}

static void lua_coro_release(struct lua_coro *c)
{
    struct lua_coros *p = c->pool;
    list_del(&c->node);
    p->busy_count--;
    c->state = CORO_FREE;
    c->shed = NULL;
    c->why[0] = '\0';
    if (p->idle_count >= IDLE_MAX) {
        lua_vm_thread_free(p->vm, c->ref);
        free(c);
        return;
    }
    list_add_head(&p->idle, &c->node);
    p->idle_count++;
}

/* ---- runs */

static void ticket_close(struct lua_coro *c)
{
    slots_del(&c->pool->waits->tickets, c->ticket);
    c->ticket = 0;
}

/* Frees what a dead coroutine holds. The job has had its answer. */
static void lua_coro_discard(struct lua_coro *c, struct lua_meter *m)
{
    struct err e;
    if (lua_vm_reset(c->pool->vm, c->L, m, &e)) {
        log_warn(
            "policy", "a __close function failed while its hook was given up",
            LOG_F(log_str("where", lua_vm_failure(c->pool->vm)->where), log_str("error", e.text)));
    }
}

static void lua_coro_end(struct lua_coro *c, int rc, const struct err *e)
{
    struct lua_waits *w = c->pool->waits;
    struct lua_job *job = c->job;
    REQUIRE(job != NULL);
    struct lua_wait wait = c->wait;
    struct lua_meter meter = job->meter;
    uint64_t ticket = c->ticket;
    bool waited = c->state == CORO_YIELDED;
    bool clean = rc == 0;
    c->state = clean ? CORO_FREE : CORO_DEAD;
    c->job = NULL;
    c->wait = (struct lua_wait){0};
    job->coro = NULL;
    if (c->findable) {
        map_del(&w->by_token, &c->by_token);
        c->findable = false;
    }
    ticket_close(c);
    deadline_disarm(&job->deadline);
    queue_leave(w, c);
    place_release(w, job);
    if (waited && wait.abandon) {
        wait.abandon(wait.ctx, ticket);
    }
    job->done(job, rc, e); /* the last of the job */
    if (!clean) {
        lua_coro_discard(c, &meter);
    }
    lua_coro_release(c);
}

static void shed(struct lua_coro *c)
{
    struct err e;
    const struct lua_waits_limits *most = &c->pool->waits->limits;
    err_set(&e, UV_EAGAIN,
            "too many hooks wait already (%s): %s; policy.queued is %u, policy.suspended %u, "
            "policy.suspended_per_address %u",
            c->what, c->shed, most->queued, most->suspended, most->suspended_per_address);
    c->shed = NULL;
    c->pool->waits->metrics->policy_shed += !lua_host_is_dry_run(c->L);
    lua_vm_note(c->pool->vm, c->L, e.text);
    lua_coro_end(c, UV_EAGAIN, &e);
}

static void lua_coro_end_given_up(struct lua_coro *c)
{
    struct err e;
    err_set(&e, UV_ENOTCONN, "%s", c->why);
    c->why[0] = '\0';
    lua_vm_note(c->pool->vm, c->L, e.text);
    lua_coro_end(c, UV_ENOTCONN, &e);
}

static unsigned lua_coro_hash_of(const struct lua_waits *w, uint64_t token)
{
    return (unsigned)hash_bytes(&w->key, &token, sizeof token);
}

static void suspend(struct lua_coro *c)
{
    struct lua_waits *w = c->pool->waits;
    struct lua_job *job = c->job;
    c->state = CORO_YIELDED;
    if (!list_linked(&job->deadline.node)) {
        uint64_t now = loop_now(w->loop);
        deadline_arm_in(w->timeout, &job->deadline, job->due_ms > now ? job->due_ms - now : 0);
    }
    if (job->token && !c->findable) {
        struct slice token = slice_of((const char *)&job->token, sizeof job->token);
        c->findable = map_add(&w->by_token, &c->by_token, token, lua_coro_hash_of(w, job->token));
    }
}

static void lua_coro_run(struct lua_coro *c, lua_CFunction body)
{
    struct lua_coros *p = c->pool;
    struct err e = {0};
    c->state = CORO_RUNNING;
    p->running = c;
    int rc = lua_vm_resume(p->vm, c->L, body, c->job, &c->job->meter, &e);
    p->running = NULL;
    if (rc == LUA_VM_WAITS && c->shed) {
        shed(c);
    } else if (rc == LUA_VM_WAITS && c->why[0]) {
        lua_coro_end_given_up(c);
    } else if (rc == LUA_VM_WAITS) {
        suspend(c);
    } else {
        lua_coro_end(c, rc, &e);
    }
}

void lua_coro_start(struct lua_coros *p, struct lua_job *job)
{
    struct err e = {0};
    struct lua_coro *c = acquire(p, &e);
    deadline_init(&job->deadline);
    job->coro = c;
    job->counted = job->has_place = false;
    job->due_ms = loop_now(p->waits->loop) + job->timeout_ms;
    if (!c) {
        job->done(job, e.code, &e);
        return;
    }
    c->job = job;
    list_add_tail(&p->busy, &c->node);
    p->busy_count++;
    lua_coro_run(c, job->body);
}

static void expired(struct deadline *d)
{
    struct lua_job *job = container_of(d, struct lua_job, deadline);
    struct lua_coro *c = job->coro;
    struct err e;
    const struct lua_waits_limits *most = &c->pool->waits->limits;
    if (c->queue) {
        err_set(
            &e, UV_ETIMEDOUT,
            "given up after %u ms: its turn for %s did not come, because so many hooks waited as "
            "policy.suspended (%u) or, for its client, policy.suspended_per_address (%u) allow: "
            "raise it if what they wait for can do more at a time",
            (unsigned)job->timeout_ms, c->what, most->suspended, most->suspended_per_address);
    } else {
        err_set(&e, UV_ETIMEDOUT, "given up after %u ms: it waited for %s",
                (unsigned)job->timeout_ms, c->what);
    }
    c->pool->waits->metrics->policy_timeouts++;
    lua_vm_note(c->pool->vm, c->L, e.text);
    lua_coro_end(c, UV_ETIMEDOUT, &e);
}

static void lua_coro_cancel(struct lua_coro *c)
{
    struct err e;
    err_set(&e, UV_ECANCELED, "the request was cancelled");
    c->pool->waits->metrics->policy_cancelled++;
    lua_coro_end(c, UV_ECANCELED, &e);
}

void lua_waits_cancel(struct lua_waits *w, uint64_t token)
{
    struct slice key = slice_of((const char *)&token, sizeof token);
    struct map_entry *found = map_find(&w->by_token, key, lua_coro_hash_of(w, token));
    if (found) {
        lua_coro_cancel(container_of(found, struct lua_coro, by_token));
    }
}

/* ---- waiting */

static struct lua_coros *coros_of(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    return s ? s->coros : NULL;
}

struct lua_waits *lua_coro_waits_of(lua_State *L)
{
    struct lua_coros *p = coros_of(L);
    return p ? p->waits : NULL;
}

/* The coroutine `L` is, if hooks may wait in it; raises. */
static struct lua_coro *current(lua_State *L, const char *what)
{
    const struct lua_host *s = lua_vm_host(L);
    struct lua_coro *c = s->coros ? s->coros->running : NULL;
    if (c && c->L == L && lua_isyieldable(L)) {
        return c;
    }
    if (s->loading) {
        luaL_error(L, "%s is not available while the policy is being loaded", what);
    }
    if (s->pure) {
        luaL_error(L, "%s is not available in filters and formats: they must not wait", what);
    }
    if (c) {
        luaL_error(L,
                   "%s inside table.sort, string.gsub or another function that calls back is not "
                   "possible: collect first, then call it",
                   what);
    }
    luaL_error(L, "%s is not available here: the hook is being given up", what);
    return NULL;
}

void lua_coro_check(lua_State *L, const char *what)
{
    (void)current(L, what);
}

static int lua_coro_call_again(lua_State *L, int status, lua_KContext ctx)
{
    const struct lua_coros *p = coros_of(L);
    (void)status;
    (void)ctx;
    REQUIRE(p && p->running);
    return p->running->again(L);
}

void lua_coro_take_place(lua_State *L, const char *what)
{
    struct lua_coro *c = current(L, what);
    struct lua_waits *w = c->pool->waits;
    lua_Debug ar;
    c->what = what;
    /* what a dry run would wait for might have an effect */
    if (lua_host_is_dry_run(L)) {
        c->shed = "a dry run waits for nothing"; /* not an error: the script could catch that */
    } else if (c->job->has_place || (!queue_is_before(w, c->job) && place_take(w, c->job))) {
        return;
    } else if (c->job->background) {
        c->shed = "only a quarter of them may be those of nobody who waits for an answer";
    } else {
        c->shed = queue_enter(w, c); /* NULL: it waits for its turn */
    }
    c->again = NULL;
    if (lua_getstack(L, 0, &ar) && lua_getinfo(L, "f", &ar)) {
        c->again = lua_tocfunction(L, -1);
        lua_pop(L, 1);
    }
    (void)lua_yieldk(L, 0, 0, lua_coro_call_again);
}

uint64_t lua_coro_begin(lua_State *L, const char *what)
{
    lua_coro_take_place(L, what);
    struct lua_coro *c = current(L, what);
    struct lua_waits *w = c->pool->waits;
    ticket_close(c);
    c->ticket = slots_add(&w->tickets, c);
    return c->ticket;
}

int lua_coro_give_up(lua_State *L, const char *what, const char *why)
{
    struct lua_coro *c = current(L, what);
    snprintf(c->why, sizeof c->why, "%s: %s", what, why);
    return lua_yield(L, 0); /* does not come back */
}

uint64_t lua_coro_left_ms(lua_State *L)
{
    struct lua_coros *p = coros_of(L);
    REQUIRE(p && p->running);
    uint64_t now = loop_now(p->waits->loop), due = p->running->job->due_ms;
    return due > now ? due - now : 1;
}

static int lua_coro_go_on(lua_State *L, int status, lua_KContext ctx)
{
    const struct lua_coros *p = coros_of(L);
    (void)status;
    (void)ctx;
    REQUIRE(p && p->running);
    struct lua_coro *c = p->running;
    return c->push(L, c->push_ud);
}

int lua_coro_wait(lua_State *L, uint64_t ticket, const struct lua_wait *w)
{
    struct lua_coros *p = coros_of(L);
    REQUIRE(p && p->running && p->running->L == L && ticket && p->running->ticket == ticket);
    p->running->wait = *w;
    return lua_yieldk(L, 0, 0, lua_coro_go_on);
}

static struct lua_coro *waiting(const struct lua_waits *w, uint64_t ticket)
{
    struct lua_coro *c = slots_get(&w->tickets, ticket);
    return c && c->state == CORO_YIELDED ? c : NULL;
}

bool lua_coro_waits(const struct lua_waits *w, uint64_t ticket)
{
    return waiting(w, ticket) != NULL;
}

bool lua_coro_complete(struct lua_waits *w, uint64_t ticket, lua_coro_push push, void *ud)
{
    struct lua_coro *c = waiting(w, ticket);
    if (!c) {
        w->metrics->policy_stale++;
        return false;
    }
    ticket_close(c);
    c->wait = (struct lua_wait){0};
    c->push = push;
    c->push_ud = ud;
    lua_coro_run(c, NULL);
    return true;
}

/* The next of each client in turn, as long as there are places. */
static void lua_waits_admit(struct task *t)
{
    struct lua_waits *w = container_of(t, struct lua_waits, admit);
    unsigned misses = 0, waiting_owners = (unsigned)map_count(&w->by_owner);
    for (unsigned i = 0; i < ADMITS_MAX && misses < waiting_owners && !list_empty(&w->queues) &&
                         w->suspended < w->limits.suspended;
         i++) {
        struct owner_queue *q = list_first(&w->queues, struct owner_queue, node);
        struct lua_coro *c = list_first(&q->coros, struct lua_coro, queued);
        list_del(&q->node);
        list_add_tail(&w->queues, &q->node);
        if (place_take(w, c->job)) {
            misses = 0;
            queue_leave(w, c);
            lua_coro_run(c, NULL);
        } else {
            misses++; /* its client has as many as it may */
        }
    }
    if (misses < waiting_owners && w->queued && w->suspended < w->limits.suspended) {
        loop_defer(w->loop, &w->admit);
    }
}

/* ---- asking a service */

struct lua_asked *lua_coro_asked(lua_State *L, uint64_t ticket,
                                 void (*cancel)(void *service, uint64_t id), void *service,
                                 void *about)
{
    struct lua_asked *asked = xmalloc(sizeof *asked);
    *asked = (struct lua_asked){.waits = lua_coro_waits_of(L),
                                .ticket = ticket,
                                .cancel = cancel,
                                .service = service,
                                .about = about,
                                .since_ns = uv_hrtime()};
    return asked;
}

static void lua_coro_abandon_asked(void *ctx, uint64_t ticket)
{
    struct lua_asked *asked = ctx;
    (void)ticket;
    asked->cancel(asked->service, asked->id);
    free(asked);
}

int lua_coro_await(lua_State *L, struct lua_asked *asked, int rc, const struct err *e)
{
    if (rc) {
        free(asked);
        lua_pushnil(L);
        lua_pushstring(L, e->text);
        return 2;
    }
    return lua_coro_wait(L, asked->ticket,
                         &(struct lua_wait){.abandon = lua_coro_abandon_asked, .ctx = asked});
}

void lua_coro_answer(struct lua_asked *asked, lua_coro_push push, void *ud)
{
    struct lua_waits *waits = asked->waits;
    uint64_t ticket = asked->ticket;
    free(asked);
    lua_coro_complete(waits, ticket, push, ud);
}

/* ---- life */

struct lua_coros *lua_coros_new(struct lua_waits *w, struct lua_vm *vm)
{
    struct lua_coros *p = xcalloc(1, sizeof *p);
    p->waits = w;
    p->vm = vm;
    list_init(&p->idle);
    list_init(&p->busy);
    return p;
}

void lua_coros_free(struct lua_coros *p)
{
    if (!p) {
        return;
    }
    while (!list_empty(&p->busy)) {
        lua_coro_cancel(list_first(&p->busy, struct lua_coro, node));
    }
    while (!list_empty(&p->idle)) {
        struct lua_coro *c = list_first(&p->idle, struct lua_coro, node);
        list_del(&c->node);
        lua_vm_thread_free(p->vm, c->ref);
        free(c);
    }
    free(p);
}

unsigned lua_coros_busy(const struct lua_coros *p)
{
    return p->busy_count;
}

struct lua_waits *lua_waits_new(struct loop *loop, struct policy_metrics *metrics,
                                const struct lua_waits_limits *limits)
{
    struct lua_waits *w = xcalloc(1, sizeof *w);
    w->loop = loop;
    w->metrics = metrics;
    w->limits = *limits;
    slots_init(&w->tickets);
    hash_key_init(&w->key);
    w->owners = address_limit_new();
    list_init(&w->queues);
    task_init(&w->admit, lua_waits_admit);
    w->timeout = loop_deadline_class(loop, 0, expired);
    return w;
}

struct loop *lua_waits_loop(const struct lua_waits *w)
{
    return w->loop;
}

void lua_waits_free(struct lua_waits *w)
{
    if (!w) {
        return;
    }
    REQUIRE(w->suspended == 0 && w->queued == 0 && map_empty(&w->by_token));
    task_cancel(&w->admit);
    slots_clear(&w->tickets);
    address_limit_free(w->owners);
    free(w);
}
