/* Reports changes of the policy's files, for development. It watches their directories, which works
 * with editors that write a new file and rename it. It also checks the files now and then, which works
 * with symbolic links that are redirected and with file systems without notifications. */
#ifndef RELOAD_POLICY_WATCH_H
#define RELOAD_POLICY_WATCH_H

#include "net/loop.h"

struct lua_sources;
struct policy_watch;

/* Calls `changed` from the loop, a moment after the last change. */
struct policy_watch *policy_watch_new(struct loop *loop, void (*changed)(void *ctx), void *ctx);
/* Sets the files to watch; borrowed until the next call, or the end. */
void policy_watch_set(struct policy_watch *w, const struct lua_sources *sources);
/* Stops, and frees itself when its last handle is closed. NULL is fine. */
void policy_watch_close(struct policy_watch *w);

#endif
