/* What a policy of a test broker is given by specs, and its reload. For test_module.c. */
#ifndef TOOLS_TEST_TEST_RELOAD_H
#define TOOLS_TEST_TEST_RELOAD_H

#include "tools/test/test_broker.h"

#include <lua.h>

/* User values of the test broker's userdata, from 1 on. */
enum { TEST_RELOAD_KEPT = 3 };

/* Reads what is at these places of the stack: a file; settings (see test_values.h) or nil; a list of absolute
 * directories or nil. The userdata at `bench` keeps the texts. False, with nil and a text pushed: there is no
 * such file. */
bool test_given_take(lua_State *L, int bench, int file, int settings, int path,
                     struct test_broker_given *out);
/* stack: test broker's userdata, file, settings, path. Pushes {outcome = "reloaded" | "refused", error, mode =
 * "resubscribe" | "keep" | "reconnect", version, previous, tried = {connects, streams, judgements, errors}}, or
 * nil and a text; returns their number. */
int test_reload(lua_State *L, struct test_broker *w);

#endif
