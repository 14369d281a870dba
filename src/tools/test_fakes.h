/* Fakes of `db` and `http` for tests of policies: each call waits, as the real one would, and a Lua
 * function of the spec answers it, from the loop. */
#ifndef TOOLS_TEST_FAKES_H
#define TOOLS_TEST_FAKES_H

#include "lookup/query_source.h"
#include "lua/policy/policy_log.h"
#include "lua/vm/lua_waits.h"

#include <lua.h>

struct test_fakes;

/* `spec` is the spec's state; the function at `respond` answers:
 * respond(kind, name, arguments as JSON) -> JSON | nil, error. `failures` is a list, or nil. Where it has
 * a member `tokens`, a list, that gets what each call of tg.jwt wants: {keys, alg, iss, aud, typ}, of
 * several the first. */
struct test_fakes *test_fakes_new(lua_State *spec, int respond, int failures);
/* The policy must be closed. NULL is fine. */
void test_fakes_free(struct test_fakes *f);
/* lua_policy_options.failed; ctx is the struct test_fakes. Appends to the spec's list, if there is
 * one: {hook, at, text, traceback, transient = boolean}. */
void test_fakes_failed(void *ctx, const struct policy_failure *f);
/* Before the policy is loaded. */
void test_fakes_use(struct test_fakes *f, struct lua_waits *waits);
/* Takes any declaration, so that policies with `queries` load; they ask test_fakes_extend's. */
struct query_source *test_fakes_queries(void);
/* lua_policy_options.extend; ctx is the struct test_fakes. */
void test_fakes_extend(lua_State *L, void *ctx);

#endif
