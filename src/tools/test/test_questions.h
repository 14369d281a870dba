/* Direct questions to a policy on a test broker: what a hook decides, as a table, instead of what a
 * client gets. For tools; inside a Lua call of theirs. */
#ifndef TOOLS_TEST_TEST_QUESTIONS_H
#define TOOLS_TEST_TEST_QUESTIONS_H

#include "tools/test/test_broker.h"

#include <lua.h>

/* stack on entry: test broker's userdata, arguments; each pushes results and returns their number.
 *
 * Requests are the text of an HTTP request, client addresses come from X-Forwarded-For. A verdict
 * is {kind = "granted" | "denied" | "transient", status, reason, identity (JSON), expires (Unix
 * seconds), subscription = {topics, filter, format, params (JSON), ...}}. */

/* (request) -> verdict, of authenticate alone | nil, text */
int test_ask_authenticate(lua_State *L, struct test_broker *w);
/* (request [, identity as JSON: authenticate is not asked]) -> verdict | nil, text */
int test_ask_subscribe(lua_State *L, struct test_broker *w);
/* (request with a body [, identity]) -> verdict, {event, ...} | nil, text; of events what
 * publishers give */
int test_ask_publish(lua_State *L, struct test_broker *w);
/* (identity as JSON): the hook has run when it returns */
int test_ask_disconnect(lua_State *L, struct test_broker *w);
/* () -> true | nil, what is wrong with the hook */
int test_ask_reload(lua_State *L, struct test_broker *w);
/* ("set" | "query" | "target", name) -> true | nil, text: the policy has no such set or query, the configuration no such
 * target though it has others */
int test_ask_name(lua_State *L, struct test_broker *w);
/* ({filter, format, params (JSON)}, event) -> {delivered, result = "filtered" | "deliver" | "skip"
 * | "failed", data, event} | nil, text */
int test_ask_judge(lua_State *L, struct test_broker *w);
/* (event) -> {result = "observed" | "failed" | "not-observed", effects = {{effect = "ask_again" | "end_streams", tag,
 * reason}, ...}, forgotten (keys of the cache), error (of "failed")} | nil, text; nothing of it has an effect on
 * streams */
int test_ask_observe(lua_State *L, struct test_broker *w);

/* The same questions again and again: the median, in nanoseconds, with what the hook waits for. */

/* ("authenticate" | "subscribe" | "publish", request [, identity]) -> number | nil, text, also where the policy has no
 * such hook */
int test_time_hook(lua_State *L, struct test_broker *w);
/* (event) -> number | nil, text, also where the policy does not observe it */
int test_time_observe(lua_State *L, struct test_broker *w);
/* ({filter, format, params (JSON)}, event, which neither fails for) -> number of the filter, number of the format or nil
 * where the event is left out | nil, text */
int test_time_rules(lua_State *L, struct test_broker *w);

#endif
