/* `tidegate check`: judges the facts about a configuration and its policy, and prints the result. */
#ifndef TOOLS_TOOL_CHECK_H
#define TOOLS_TOOL_CHECK_H

#include "tools/test_module.h"

struct tool_check_options {
    struct test_module_options module; /* its configuration NULL: there is none, no hook is tried */
    const char *facts;                 /* JSON: see scripts/lib/check.lua */
};

/* Calls the hooks, prints the result, returns the exit code: see cli_check.h. */
int tool_check_run(const struct tool_check_options *opt);

#endif
