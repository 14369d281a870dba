/* The `params` of audiences: bound once each, as read-only views anchored in the vm. */
#ifndef LUA_POLICY_LUA_PARAMS_H
#define LUA_POLICY_LUA_PARAMS_H

#include "base/slice.h"
#include "lua/vm/format_classes.h"
#include "lua/vm/lua_vm.h"

struct lua_param {
    int ref;    /* LUA_NOREF: the slot is free */
    char *text; /* owned: the canonical JSON */
    struct format_class_cache classes;
};

struct lua_params {
    struct lua_param *v; /* owned */
    size_t n, free_from; /* no slot below free_from is free */
    int empty;           /* the view given to functions of audiences without params */
};

int lua_params_open(struct lua_params *p, struct lua_vm *vm, struct err *e);
/* Every slot must have been given back. */
void lua_params_close(struct lua_params *p, struct lua_vm *vm);
/* Anchors the view of a canonical JSON object; `recorded`: a view that records which keys are read.
 * Returns the slot, or a negative UV_E*. */
int lua_params_bind(struct lua_params *p, struct lua_vm *vm, struct slice json, bool recorded,
                    struct err *e);
/* The slot's classes must have been cleared. */
void lua_params_unbind(struct lua_params *p, struct lua_vm *vm, int slot);
/* Of a slot that is bound. */
struct format_class_cache *lua_params_classes(struct lua_params *p, int slot);
/* The reference to push for a slot; `slot` < 0: the empty view. */
int lua_params_ref(const struct lua_params *p, int slot);
/* Absent for `slot` < 0. */
struct slice lua_params_text(const struct lua_params *p, int slot);

#endif
