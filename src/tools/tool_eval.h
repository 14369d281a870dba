/* `tidegate eval`: runs one hook of a policy for one input and prints its decision. */
#ifndef TOOLS_TOOL_EVAL_H
#define TOOLS_TOOL_EVAL_H

#include "base/slice.h"
#include "tools/test_module.h"

#include <stdbool.h>

struct tool_eval_options {
    struct test_module_options module;
    const char *policy; /* its file, absolute */
    const char *hook;   /* one of tool_eval_hooks */
    struct slice input; /* JSON */
    bool json;
};

/* Ended by NULL. */
extern const char *const tool_eval_hooks[];

/* Prints the decision. The exit code: 0 granted or delivered, 1 denied or left out, 75 the policy
 * failed or refused temporarily, 65 the input is wrong, 78 the policy does not load. */
int tool_eval_run(const struct tool_eval_options *opt);

#endif
