/* Runs another program and reads its output. It blocks: for tools only. */
#ifndef TOOLS_CHILD_RUN_H
#define TOOLS_CHILD_RUN_H

#include "base/err.h"
#include "base/strbuf.h"

#include <stdint.h>

struct child_result {
    int64_t status; /* exit code */
    int signal;     /* that ended it; 0: none */
};

/* argv[0] is looked for in PATH; no shell, nothing on its standard input. What it writes, to both
 * outputs, is appended to `out`. 0: it has ended, see `result`. UV_ENOENT: there is no such
 * program; UV_ETIMEDOUT: it took longer than `timeout_ms` and was killed; UV_ENOBUFS: it wrote more
 * than `out` holds and was killed. `e` says why. */
__attribute__((warn_unused_result)) int child_run(const char *const *argv, unsigned timeout_ms,
                                                  struct strbuf *out, struct child_result *result,
                                                  struct err *e);

#endif
