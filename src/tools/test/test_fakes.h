/* Fakes of `db` and `http` for tests of policies: each call waits, as the real one would, and a Lua
 * function of the spec answers it, from the loop. */
#ifndef TOOLS_TEST_TEST_FAKES_H
#define TOOLS_TEST_TEST_FAKES_H

#include "lookup/query_source.h"
#include "lua/api/lua_http.h"
#include "lua/policy/policy_log.h"
#include "lua/vm/lua_waits.h"

#include <lua.h>

struct test_fakes;

/* `spec` is the spec's state; the function at `respond` answers:
 * respond(kind, name, arguments as JSON) -> JSON | nil, error; kind: "db", "http" or "set" (a list of what is
 * in the set of that name). `failures` is a list, or nil. Where it has
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
/* Before the policy is loaded: it gets db and http of the broker, which the fakes are behind; they refuse
 * what they refuse in production. `targets` is where in the spec's stack the sorted names of http targets
 * are; no list: http stays a fake that takes anything. Without this call db does, too. */
void test_fakes_behind(struct test_fakes *f, lua_State *spec, int targets);
/* Takes any look-up. Borrowed. */
struct query_source *test_fakes_queries(struct test_fakes *f);
/* NULL: http is a fake that takes anything. Borrowed. */
struct lua_http_service *test_fakes_service(struct test_fakes *f);
/* lua_policy_options.extend; ctx is the struct test_fakes. */
void test_fakes_extend(lua_State *L, void *ctx);

#endif
