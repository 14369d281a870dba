/* The modules that specs of policies, and tools written in Lua, `require`: "tidegate.test.native"
 * (C: test brokers and their clients as userdata) and those of scripts/lib that build on it. For
 * trusted code in a state of its own, never for policies. */
#ifndef TOOLS_TEST_MODULE_H
#define TOOLS_TEST_MODULE_H

#include <lua.h>
#include <stdbool.h>

struct config;
struct test_cover;

struct test_module_options {
    const struct config *config; /* what policies are loaded with */
    const char *events_path;     /* of its public server */
    bool measure;                /* how long hooks, filters and formats take */
    struct test_cover *cover;    /* gets what runs of policies; NULL: nothing is recorded */
};

/* Makes "tidegate.test", "tidegate.test.native", "tidegate.eval", "tidegate.check" and what they
 * are made of known to `require`. The libraries must be open; `opt` is borrowed for the life of the
 * state. */
void test_module_preload(lua_State *L, const struct test_module_options *opt);

#endif
