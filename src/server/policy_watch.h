/* Says when files of the policy look otherwise than when they were read: for development. Watches
 * their directories, which survives editors that write a new file and rename it, and looks at the
 * files themselves now and then, which survives symbolic links that are turned elsewhere, and file
 * systems that tell nothing. */
#ifndef SERVER_POLICY_WATCH_H
#define SERVER_POLICY_WATCH_H

#include "net/loop.h"

struct lua_sources;
struct policy_watch;

/* `changed` comes from the loop, a moment after the last change. */
struct policy_watch *policy_watch_new(struct loop *loop, void (*changed)(void *ctx), void *ctx);
/* These are the files from now on; borrowed until the next call, or the end. */
void policy_watch_set(struct policy_watch *w, const struct lua_sources *sources);
/* Stops; its memory goes with its last handle. NULL is fine. */
void policy_watch_close(struct policy_watch *w);

#endif
