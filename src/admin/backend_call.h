/* One HTTP request of the admin process to the admin service of a worker, over a Unix socket. */
#ifndef ADMIN_BACKEND_CALL_H
#define ADMIN_BACKEND_CALL_H

#include "base/slice.h"
#include "net/loop.h"

enum { BACKEND_CALL_TIMEOUT_MS = 3000 };

/* `status` 0: no usable answer came; `body` is borrowed for the call. Always called, once, later.
 */
typedef void (*backend_call_cb)(void *ctx, unsigned worker, int status, struct slice body);

/* `path` of the socket; `method` and `target` are constants or outlive the call of this function.
 */
void backend_call(struct loop *loop, const char *path, const char *method, const char *target,
                  unsigned worker, backend_call_cb cb, void *ctx);

#endif
