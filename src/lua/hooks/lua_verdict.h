/* The result of authenticate, subscribe or publish: read from Lua, checked like input, copied into C. */
#ifndef LUA_HOOKS_LUA_VERDICT_H
#define LUA_HOOKS_LUA_VERDICT_H

#include "lua/load/lua_policy_file.h"
#include "policy/policy.h"

/* The latest valid `expires`, in Unix seconds: the year 9999, as for tokens. Larger values are most
 * likely milliseconds and are rejected. */
#define LUA_VERDICT_EXPIRES_MAX_S ((lua_Integer)253402300799)

/* A verdict under construction. It owns its text, so an error raised by Lua leaks nothing. */
struct verdict_draft {
    struct verdict v; /* readable after verdict_draft_finish() */
    struct strbuf reason, identity, filter, format, params, ends, mark;
    struct strbuf first, first_data; /* frames; of the one that is being made */
    struct strbuf fields, names;     /* of the head */
    struct strbuf topic_text;        /* of all topics, one behind the other */
    struct slice *topics;            /* owned */
    size_t topic_count;
    struct strbuf tag_text; /* as topic_text */
    struct slice tags[POLICY_TAGS_MAX];
    size_t tag_count;
    struct strbuf quota_text; /* of all keys, as well */
    struct quota_want quotas[QUOTAS_PER_STREAM];
    size_t quota_count;
    struct strbuf presence, presence_data;
    const struct policy_limits *limits;
};

/* `limits` is borrowed for the life of the draft. */
void verdict_draft_init(struct verdict_draft *d, const struct policy_limits *limits);
void verdict_draft_clear(struct verdict_draft *d);
/* Points `v` at the text; sorts the topics and drops equal ones. The draft must not move after it.
 */
void verdict_draft_finish(struct verdict_draft *d);
/* Replaces whatever was read by a VERDICT_TRANSIENT. */
void verdict_draft_fail(struct verdict_draft *d, const char *reason);

/* Inside a body, with the two results of publish on top of the stack: is the second one that of tg.drop()? `why` is
 * borrowed while Lua holds it. */
bool lua_verdict_dropped(lua_State *L, struct slice *why);
/* The same of subscribe, and that of tg.stored(), which needs that the request publishes and is not answered yet
 * (`unanswered`). */
bool lua_verdict_stored(lua_State *L, bool unanswered, struct verdict_draft *d);
/* Inside a body, with the two results of `hook` on top of the stack. True: the first is a table, so
 * the hook granted something. False: `d` holds the denial or the temporary refusal. Raises on
 * anything else. */
bool lua_verdict_granted(lua_State *L, const char *hook, struct verdict_draft *d);
/* Reads the table at `idx` (absolute) as the identity. */
void lua_verdict_identity(lua_State *L, int idx, struct verdict_draft *d);
/* Reads the table at `idx` (absolute) as the subscription; its names must be in `f`. */
void lua_verdict_subscription(lua_State *L, int idx, const struct lua_policy_file *f,
                              struct verdict_draft *d);

#endif
