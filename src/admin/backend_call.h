/* One HTTP request to an admin service: of the admin process to a worker, of `tidegate restart` to
 * a broker. */
#ifndef ADMIN_BACKEND_CALL_H
#define ADMIN_BACKEND_CALL_H

#include "base/slice.h"
#include "net/address.h"
#include "net/loop.h"

enum { BACKEND_CALL_TIMEOUT_MS = 3000 }; /* for what is answered at once */

/* `status` 0: no usable answer came; `body` is borrowed for the call. Always called, once, later.
 */
typedef void (*backend_call_cb)(void *ctx, unsigned worker, int status, struct slice body);

/* `method` and `target` are short; `timeout_ms` is for everything. */
void backend_call(struct loop *loop, const struct address *where, const char *method,
                  const char *target, uint64_t timeout_ms, unsigned worker, backend_call_cb cb,
                  void *ctx);

#endif
