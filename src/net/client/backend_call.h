/* One HTTP request to an admin service: of the admin process to a worker, of `tidegate restart`
 * and `tidegate explain` to a broker. */
#ifndef NET_CLIENT_BACKEND_CALL_H
#define NET_CLIENT_BACKEND_CALL_H

#include "base/slice.h"
#include "net/address.h"
#include "net/loop.h"

enum {
    BACKEND_CALL_TIMEOUT_MS = 3000,                          /* for what is answered at once */
    BACKEND_CALL_BODY_MAX_BYTES = 16 * 1024 * 1024,          /* of an answer */
    BACKEND_CALL_ANSWER_MAX_BYTES = 4096 + 16 * 1024 * 1024, /* the same with its head */
};

/* `status` 0: no usable answer came; `body` is borrowed for the call. Always called, once, later.
 */
typedef void (*backend_call_cb)(void *ctx, unsigned worker, int status, struct slice body);

/* What is asked; borrowed for the call. `method` is short. */
struct backend_request {
    const char *method, *target;
    struct slice type, body; /* of a body; absent: none */
    uint64_t timeout_ms;     /* for everything; 0: BACKEND_CALL_TIMEOUT_MS */
    struct list *open;       /* borrowed: running calls are linked here; NULL: nowhere */
};

void backend_call(struct loop *loop, const struct address *where, const struct backend_request *rq,
                  unsigned worker, backend_call_cb cb, void *ctx);
/* Gives up the running calls of a list; their callbacks follow from the loop. */
void backend_calls_end(struct list *open);

#endif
