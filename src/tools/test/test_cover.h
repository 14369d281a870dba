/* Records what specs run of policies, over all test brokers of a program: lines, and conditions of filter texts.
 * Records nothing of what is still open. */
#ifndef TOOLS_TEST_TEST_COVER_H
#define TOOLS_TEST_TEST_COVER_H

#include "lua/load/lua_cover.h"

#include <lua.h>

struct test_cover;

struct test_cover *test_cover_new(void);
/* Every test broker that records into it is closed. NULL is fine. */
void test_cover_free(struct test_cover *c);
/* For lua_policy_options; NULL for NULL. */
const struct lua_cover *test_cover_of(const struct test_cover *c);
/* Pushes {files = {{path, lines = {[line] = count}}, ...}, filters = {{path, name, where ("geo.lua:14"), text, conditions =
 * {{text, offset, yes, no}, ...}}, ...}}, in the order they were seen. */
void test_cover_push(lua_State *L, const struct test_cover *c);

#endif
