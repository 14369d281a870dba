/* `tidegate test`: runs the unit tests of policies with busted, in this program. */
#ifndef TOOLS_TOOL_TEST_H
#define TOOLS_TOOL_TEST_H

#include "tools/test_module.h"

#include <stdbool.h>
#include <stddef.h>

struct tool_test_options {
    struct test_module_options module;
    char **words; /* directories, files, and options of busted */
    size_t count;
    bool json;
    const char *lcov; /* the same into this file, for other tools; NULL: none */
    double min;       /* percent of each file that must have been run; 0: any */
};

/* The exit code: 0 all passed, 1 some failed or too little was run, else of sysexits.h. */
int tool_test_run(const struct tool_test_options *opt);

#endif
