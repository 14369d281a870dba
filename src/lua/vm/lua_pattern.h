/* Matches Lua patterns (Lua 5.4 manual, section 6.4.1), counting its steps.
 *
 * Patterns backtrack: three "-" on a text of 500 bytes can keep Lua's own matcher busy for a minute,
 * and it cannot be interrupted. This matcher gives the same results, raises an error when a call has
 * used up its steps, and polls the watchdog. Like Lua's it finds an error in a pattern only when
 * matching reaches it. */
#ifndef LUA_VM_LUA_PATTERN_H
#define LUA_VM_LUA_PATTERN_H

#include "base/slice.h"

#include <lua.h>

enum {
    LUA_PATTERN_CAPTURES_MAX = 32,
    LUA_PATTERN_STEPS = 500000,       /* of one call, and ... */
    LUA_PATTERN_STEPS_EACH_BYTE = 16, /* ... of its text: what linear patterns need */
};

struct lua_capture {
    const char *start;
    ptrdiff_t length; /* or one of the two below */
};
enum { LUA_CAPTURE_OPEN = -1, LUA_CAPTURE_POSITION = -2 };

struct lua_pattern {
    lua_State *L;
    struct slice text,
        pattern; /* borrowed: strings on the Lua stack; the pattern without its "^" */
    uint64_t steps_left;
    unsigned depth;
    int level; /* captures so far */
    struct lua_capture captures[LUA_PATTERN_CAPTURES_MAX];
};

void lua_pattern_init(struct lua_pattern *m, lua_State *L, struct slice text, struct slice pattern);
/* Where a match that begins at `at` ends, or NULL. Raises. */
const char *lua_pattern_at(struct lua_pattern *m, const char *at);
/* Takes steps for other work in the same call. */
void lua_pattern_spend(struct lua_pattern *m, size_t steps);

/* Of the match [from, to): pushes capture `i`; 0 is the whole match when there are none. Raises. */
void lua_pattern_push(struct lua_pattern *m, int i, const char *from, const char *to);
/* Pushes all, or with `whole` the whole match when there are none; their number. */
int lua_pattern_push_all(struct lua_pattern *m, const char *from, const char *to, bool whole);

#endif
