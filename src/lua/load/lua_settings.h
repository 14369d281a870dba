/* The settings that the configuration gives to a policy: read before its file runs, declared by the
 * file with tg.settings { ... } (scripts/lib/sandbox_settings.lua), part of its version. */
#ifndef LUA_LOAD_LUA_SETTINGS_H
#define LUA_LOAD_LUA_SETTINGS_H

#include "base/err.h"
#include "base/strbuf.h"
#include "lua/load/lua_sources.h"
#include "policy/policy_setting.h"

#include <lua.h>

enum { LUA_SETTING_MARK_BYTES = 32 };

struct lua_setting {
    char *name;                                 /* owned */
    const struct policy_setting *given;         /* borrowed while the policy is being loaded */
    struct strbuf content;                      /* of a secret_file, as long */
    unsigned char mark[LUA_SETTING_MARK_BYTES]; /* one way, and slow for secrets: of its value */
};

struct lua_settings {
    struct lua_setting *v; /* owned */
    size_t n;
};

/* Takes what is given, sorted by name, and reads the files of secrets; adds all of it to the hash of
 * `sources`, and the files to what is watched. Borrows `given` until lua_settings_forget(). On
 * failure `e` names the setting; clear it also then. */
__attribute__((warn_unused_result)) int lua_settings_read(struct lua_settings *s,
                                                          const struct policy_setting *given,
                                                          size_t n, struct lua_sources *sources,
                                                          struct err *e);
/* Drops the values: the policy has them. */
void lua_settings_forget(struct lua_settings *s);
void lua_settings_clear(struct lua_settings *s);
/* Into `out`, which has room for those of both: the names of settings that differ, or that only one of
 * them has, sorted; borrowed from the two. Returns how many. */
size_t lua_settings_changed(const struct lua_settings *before, const struct lua_settings *after,
                            const char **out);

/* Inside a body, with the table of the functions of `tg` on top of the stack: sets `settings` in it. `s`
 * NULL: none is given. `readonly`: see sandbox.lua. */
void lua_settings_open(lua_State *L, const struct lua_settings *s, lua_CFunction readonly);
/* Inside a body, when the file has run: raises an error if a setting was given that it does not
 * declare. Else `out` gets what it has declared, sorted by name; returns how many. */
size_t lua_settings_check(lua_State *L, struct policy_declared out[POLICY_SETTINGS_MAX]);

#endif
