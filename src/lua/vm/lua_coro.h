/* How a hook waits. Hooks that decide about a request run in coroutines. A function that has to wait
 * suspends the coroutine it was called in, and the loop serves other clients meanwhile.
 *
 * struct lua_waits (lua_waits.h) exists once per process and outlives policies: it holds the pending
 * waits by ticket, the limits and the figures. struct lua_coros is the pool of coroutines of one Lua
 * state. A struct lua_job is one run of the hooks of one request. A coroutine is FREE, RUNNING,
 * YIELDED, or DEAD (failed or given up, to be reset).
 *
 * A completion never holds a pointer to any of them, only a ticket. A ticket is never reused and is
 * valid for one wait. A completion that comes twice, or after the client disconnected, the deadline
 * passed or the policy was closed, finds no wait: it is dropped and counted. */
#ifndef LUA_VM_LUA_CORO_H
#define LUA_VM_LUA_CORO_H

#include "base/container/list.h"
#include "lua/vm/lua_vm.h"
#include "lua/vm/lua_waits.h"
#include "net/address.h"
#include "net/loop.h"

struct lua_coro;
struct lua_coros;

/* ---- for functions that wait, called by hooks
 *
 *     static int l_query(lua_State *L)
 *     {
 *         uint64_t ticket = lua_coro_begin(L, "db.query");
 *         ... read arguments, start the work with `ticket` and lua_coro_left_ms(L) ...
 *         return lua_coro_wait(L, ticket, &(struct lua_wait){.abandon = give_up, .ctx = service});
 *     }
 *
 * and later, from the loop, lua_coro_complete(waits, ticket, push_rows, rows). */

/* Call it first. Raises where `what` cannot wait (in filters and formats, while the policy is loaded,
 * inside callbacks of functions such as table.sort). When too many hooks wait already, it does not come
 * back: the calling function is called again, with its arguments, when it is the hook's turn. When too
 * many wait for that, the hook ends here and the script cannot catch it. A function that finds that it
 * need not wait just returns. */
uint64_t lua_coro_begin(lua_State *L, const char *what);
/* The first half of it, for a function that cannot call that first: from here on the hook may wait. The
 * stack is that of the function's arguments. */
void lua_coro_take_place(lua_State *L, const char *what);
/* Only raises. For functions that need not wait most of the time. */
void lua_coro_check(lua_State *L, const char *what);
/* Ends the hook with a temporary refusal; the script cannot catch that. `why` goes to the log. Raises
 * where lua_coro_begin() would. Use: `return lua_coro_give_up(...)`. */
int lua_coro_give_up(lua_State *L, const char *what, const char *why);
/* Milliseconds until the running hook is given up; at least 1. */
uint64_t lua_coro_left_ms(lua_State *L);

struct lua_wait {
    /* Called once when the wait ends without a completion; may be NULL. Must not complete. */
    void (*abandon)(void *ctx, uint64_t ticket);
    void *ctx;
};
/* `return lua_coro_wait(...)`: does not come back, so the frame must hold no C resource. */
int lua_coro_wait(lua_State *L, uint64_t ticket, const struct lua_wait *w);

/* Runs inside the coroutine: may raise, pushes the results of the function that waits and returns
 * their number. May begin and wait again. */
typedef int (*lua_coro_push)(lua_State *L, void *ud);
/* Continues the hook. From the loop only, never from inside a call into Lua; `ud` is borrowed for
 * the call. False: nothing waits under that ticket (any more). */
bool lua_coro_complete(struct lua_waits *w, uint64_t ticket, lua_coro_push push, void *ud);
/* Is that wait still on? */
bool lua_coro_waits(const struct lua_waits *w, uint64_t ticket);

/* ---- for functions that ask a service, which names each question by an id and answers later
 *
 *     struct lua_asked *asked = lua_coro_asked(L, ticket, cancel, service, NULL);
 *     int rc = service_ask(service, ..., on_answer, asked, &asked->id, &e);
 *     return lua_coro_await(L, asked, rc, &e);
 *
 * and in on_answer(), lua_coro_answer(asked, push_rows, rows). */

/* One running question; owned by the answer that is to come, or by the wait when it ends first. */
struct lua_asked {
    struct lua_waits *waits;
    uint64_t ticket;
    uint64_t id; /* the service's, for `cancel` */
    void (*cancel)(void *service, uint64_t id);
    void *service, *about; /* the asker's */
    uint64_t since_ns;
};

/* Nothing may raise between this and lua_coro_await(). */
struct lua_asked *lua_coro_asked(lua_State *L, uint64_t ticket,
                                 void (*cancel)(void *service, uint64_t id), void *service,
                                 void *about);
/* Waits for the answer; when the service refused (`rc`), the results are nil and the text of `e`. */
int lua_coro_await(lua_State *L, struct lua_asked *asked, int rc, const struct err *e);
/* Takes `asked`; else as lua_coro_complete(). */
void lua_coro_answer(struct lua_asked *asked, lua_coro_push push, void *ud);

/* ---- for callers of hooks */

struct lua_job {
    lua_CFunction body; /* gets the job as light userdata at index 1; calls hooks by lua_callk() */
    /* Once, possibly before lua_coro_start() has returned. 0; UV_EINVAL, UV_ENOMEM: the body
     * failed, see lua_vm_failure(); UV_EINTR: it used up its CPU time; UV_ETIMEDOUT: it waited too
     * long, lua_vm_failure() says for what; UV_EAGAIN: too many hooks wait; UV_ENOTCONN: a function
     * called lua_coro_give_up(); UV_ECANCELED. `e` has the message. The job is no longer used. */
    void (*done)(struct lua_job *job, int rc, const struct err *e);
    uint64_t timeout_ms;       /* from start to end */
    struct lua_meter meter;    /* CPU time of all its pieces together */
    uint64_t token;            /* for lua_waits_cancel(); 0: cannot be cancelled */
    struct peer_address owner; /* the client's address; all zero: not counted */
    bool background;           /* background jobs take at most a quarter of the places */
    /* private */
    struct lua_coro *coro; /* while it runs or waits */
    struct deadline deadline;
    uint64_t due_ms;         /* loop time */
    bool has_place, counted; /* in all, among its owner's */
};

/* Borrows both. */
struct lua_coros *lua_coros_new(struct lua_waits *w, struct lua_vm *vm);
/* Ends running jobs with UV_ECANCELED, then frees. Call it before the vm is freed. */
void lua_coros_free(struct lua_coros *p);
/* Jobs that wait. */
unsigned lua_coros_busy(const struct lua_coros *p);
void lua_coro_start(struct lua_coros *p, struct lua_job *job);

/* NULL where the state has no coroutines. */
struct lua_waits *lua_coro_waits_of(lua_State *L);

#endif
