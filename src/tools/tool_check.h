/* `tidegate check`: what is known of a configuration and its policy, judged and shown. */
#ifndef TOOLS_TOOL_CHECK_H
#define TOOLS_TOOL_CHECK_H

#include "tools/test_module.h"

struct tool_check_options {
    struct test_module_options module; /* its configuration NULL: there is none, no hook is tried */
    const char *facts;                 /* JSON: see scripts/lib/check.lua */
};

/* Tries the hooks, prints what there is to say, answers the exit code: see cli_check.h. */
int tool_check_run(const struct tool_check_options *opt);

#endif
