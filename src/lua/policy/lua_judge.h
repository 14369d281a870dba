/* Filters and formats: called once per event and audience, on the hot path. */
#ifndef LUA_POLICY_LUA_JUDGE_H
#define LUA_POLICY_LUA_JUDGE_H

#include "lua/load/lua_policy_file.h"
#include "policy/policy.h"

struct judge {
    struct lua_vm *vm;
    const struct lua_function *fn;
    int params; /* a reference */
    struct event *ev;
    const struct lua_budget *budget;
    struct strbuf *why; /* gets the second result of a filter; NULL: not needed */
};

/* 0 and *deliver, or negative: an error, not delivered. */
int lua_judge_filter(const struct judge *j, bool *deliver, struct err *e);
/* 0 and *result (FORMAT_DELIVER with `out` filled, or FORMAT_SKIP), or negative: an error. */
int lua_judge_format(const struct judge *j, struct formatted *out, enum format_result *result,
                     struct err *e);
/* The formats that every policy has: `format` is one of POLICY_FORMAT_*. */
enum format_result lua_judge_built_in(int format, const struct event *ev, struct formatted *out);

#endif
