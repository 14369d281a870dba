/* The table the `subscribe` hook returns -> struct subscription. */
#include "base/alloc.h"
#include "event/last_event_id.h"
#include "event/topic.h"
#include "event/topic_segment.h"
#include "event/window.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_reach.h"
#include "lua/hooks/lua_fields.h"
#include "lua/hooks/lua_first.h"
#include "lua/hooks/lua_verdict.h"
#include "lua/vm/lua_host.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_shape.h"

#include <stdio.h>

enum {
    HEARTBEAT_MAX_S = 3600,
    RETRY_MAX_MS = 3600 * 1000,
    RATE_MAX = 1000000, /* events a second */
    EVERY_MIN_MS = 100,
    EVERY_MAX_S = 3600,
};
static const double replay_max_s = 100 * 365.25 * 86400; /* 100 years: "all of it" */
static const double replay_since_max_s = 1e11; /* from there on it is milliseconds: a mistake */

static void lua_subscription_append(lua_State *L, struct strbuf *b, struct slice s,
                                    const char *what)
{
    if (strbuf_append(b, s.p, s.n)) {
        luaL_error(L, "%s: longer than %d bytes", what, (int)b->max);
    }
}

static void read_topic(lua_State *L, lua_Integer i, struct verdict_draft *d)
{
    char what[40];
    snprintf(what, sizeof what, "topics[" LUA_INTEGER_FMT "]", i);
    if (lua_type(L, -1) == LUA_TTABLE) {
        luaL_error(L,
                   "%s: a string was expected, got table; join segments with tg.topic(...), "
                   "and add wildcards outside: tg.topic('a', x) .. '/**'",
                   what);
    }
    struct slice topic = lua_shape_string(L, -1, what);
    const char *bad = topic_pattern_check(topic);
    if (bad) {
        luaL_error(L, "%s: %s", what, bad);
    }
    lua_subscription_append(L, &d->topic_text, topic, what);
    d->topics[d->topic_count++].n = topic.n;
}

static void read_topics(lua_State *L, int t, struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "topics") != LUA_TTABLE) {
        luaL_error(L, "topics: a list of topic names or patterns was expected, got %s",
                   luaL_typename(L, -1));
    }
    int list = lua_gettop(L);
    lua_Integer n = lua_shape_list(L, list, "topics", "strings", 1, (lua_Integer)d->limits->topics);
    d->topics = xcalloc((size_t)n, sizeof *d->topics); /* the draft owns it, whatever raises */
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, list, i);
        read_topic(L, i, d);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_tags(lua_State *L, int t, struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "tags") == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    int list = lua_gettop(L);
    lua_Integer n = lua_shape_list(L, list, "tags", "texts", 0, POLICY_TAGS_MAX);
    for (lua_Integer i = 1; i <= n; i++) {
        char what[40];
        snprintf(what, sizeof what, "tags[" LUA_INTEGER_FMT "]", i);
        lua_rawgeti(L, list, i);
        struct slice tag = lua_shape_string(L, -1, what);
        const char *bad = lua_reach_tag_check(tag);
        if (bad) {
            luaL_error(L, "%s: %s", what, bad);
        }
        lua_subscription_append(L, &d->tag_text, tag, what);
        d->tags[d->tag_count++].n = tag.n;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* The names a policy has, for a message that says which one was meant. */
static int unknown_name(lua_State *L, const char *what, struct slice given,
                        const struct lua_functions *all, const char *const *built_in, size_t n)
{
    const char **names = lua_newuserdatauv(L, (all->n + n + 1) * sizeof *names, 0);
    for (size_t i = 0; i < n; i++) {
        names[i] = built_in[i];
    }
    for (size_t i = 0; i < all->n; i++) {
        names[n + i] = all->v[i].name;
    }
    return lua_shape_unknown(L, "subscription", what, given.p, names, all->n + n);
}

static void lua_subscription_filter(lua_State *L, int t, const struct lua_functions *all,
                                    struct verdict_draft *d)
{
    static const char *const none = "none";
    if (lua_shape_field(L, t, "filter") != LUA_TNIL) {
        struct slice name = lua_shape_string(L, -1, "filter");
        bool named = !slice_is(name, none);
        if (named && lua_functions_find(all, name) < 0) {
            unknown_name(L, "filter", name, all, &none, 1);
        }
        if (named) {
            lua_subscription_append(L, &d->filter, name, "filter");
        }
    }
    lua_pop(L, 1);
}

/* Not "none", which would be every event: the stream ended with its first one. */
static void lua_subscription_ends(lua_State *L, int t, const struct lua_functions *all,
                                  struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "ends") != LUA_TNIL) {
        struct slice name = lua_shape_string(L, -1, "ends");
        if (lua_functions_find(all, name) < 0) {
            unknown_name(L, "filter for `ends`", name, all, NULL, 0);
        }
        lua_subscription_append(L, &d->ends, name, "ends");
    }
    lua_pop(L, 1);
}

static void lua_subscription_format(lua_State *L, int t, const struct lua_functions *all,
                                    struct verdict_draft *d)
{
    static const char *const built_in[] = {"raw", "json", "cloudevents"};
    const size_t n = sizeof built_in / sizeof *built_in;
    if (lua_shape_field(L, t, "format") != LUA_TNIL) {
        struct slice name = lua_shape_string(L, -1, "format");
        bool known = lua_functions_find(all, name) >= 0;
        for (size_t i = 0; i < n; i++) {
            known = known || slice_is(name, built_in[i]);
        }
        if (!known) {
            unknown_name(L, "format", name, all, built_in, n);
        }
        lua_subscription_append(L, &d->format, name, "format");
    }
    lua_pop(L, 1);
}

/* nil may be a name that the policy looked up in vain: it does not stand for everything, unfiltered or
 * unformatted, where there is a choice. */
static void lua_subscription_want_names(lua_State *L, int t, const struct lua_policy_file *f)
{
    if (f->filters.n && lua_shape_field(L, t, "filter") == LUA_TNIL) {
        luaL_error(L, "filter: missing; a policy that has filters names one of them in each "
                      "subscription, or says \"none\" for every event of the topics");
    }
    if (f->formats.n && lua_shape_field(L, t, "format") == LUA_TNIL) {
        luaL_error(
            L,
            "format: missing; a policy that has formats names one of them in each "
            "subscription, or says \"raw\" for the data as published, \"json\" or \"cloudevents\"");
    }
    lua_settop(L, t);
}

static void read_params(lua_State *L, int t, struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "params") != LUA_TNIL) {
        int at = lua_gettop(L), keys = 0;
        lua_json_encode(L, at, "params", LUA_JSON_OBJECT_OF_LISTS, &d->params);
        lua_pushnil(L);
        while (lua_next(L, at)) {
            lua_pop(L, 1);
            keys++;
        }
        if ((size_t)keys > d->limits->params_keys) {
            luaL_error(L, "params: %d keys, at most %d were expected", keys,
                       (int)d->limits->params_keys);
        }
        if (keys == 0) {
            strbuf_reset(&d->params);
        }
    }
    lua_pop(L, 1);
}

/* stack: .., the table `at` */
static void read_replay_rules(lua_State *L, int at, struct replay_rules *r)
{
    static const char *const keys[] = {"max_age", "since", "last", "gap", NULL};
    const struct lua_host *host = lua_vm_host(L);
    lua_shape_closed(L, at, "replay", keys);
    if (lua_shape_field(L, at, "max_age") != LUA_TNIL) {
        double age = lua_shape_positive(L, -1, "replay.max_age (seconds)", replay_max_s);
        uint64_t ms = (uint64_t)(age * 1000);
        r->max_age_ms = ms ? ms : 1;
    }
    int type = lua_shape_field(L, at, "since");
    if (type == LUA_TNUMBER) { /* a number with a fraction, too: what os.time() and clocks say */
        double seconds =
            lua_shape_positive(L, -1, "replay.since (Unix seconds)", replay_since_max_s);
        r->since_ms = (int64_t)(seconds * 1000) + (seconds < 0.001);
    } else if (type != LUA_TNIL) {
        struct slice text = lua_shape_string(L, -1, "replay.since (Unix seconds, or ISO 8601)");
        if (!window_time(text, host->unix_ms(host->ctx), &r->since_ms)) {
            luaL_error(
                L,
                "replay.since: Unix seconds, \"2026-11-30T12:00:00Z\" or \"-15m\" was expected, got '%s'",
                text.p);
        }
        r->since_ms += r->since_ms == 0; /* 0 is no bound */
    }
    if (lua_shape_field(L, at, "last") != LUA_TNIL) {
        r->last =
            (unsigned)lua_shape_integer(L, -1, "replay.last (events)", 1, POLICY_REPLAY_LAST_MAX);
    }
    type = lua_shape_field(L, at, "gap");
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        luaL_error(L, "replay.gap: true or false was expected, got %s", lua_typename(L, type));
    }
    r->no_gap = type == LUA_TBOOLEAN && !lua_toboolean(L, -1);
    lua_pop(L, 4);
}

static void read_replay(lua_State *L, int t, struct subscription *s)
{
    int type = lua_shape_field(L, t, "replay");
    if (type == LUA_TBOOLEAN) {
        s->replay.none = !lua_toboolean(L, -1);
    } else if (type == LUA_TTABLE) {
        read_replay_rules(L, lua_gettop(L), &s->replay);
    } else if (type != LUA_TNIL) {
        luaL_error(L, "replay: true, false or {max_age, since, last, gap} was expected, got %s",
                   lua_typename(L, type));
    }
    lua_pop(L, 1);
}

static void read_start(lua_State *L, int t, struct subscription *s)
{
    if (lua_shape_field(L, t, "start") != LUA_TNIL) {
        struct slice text = lua_shape_string(L, -1, "start");
        struct last_event_id at = last_event_id_parse_text(text);
        if (slice_is(text, "latest")) {
            s->start = GRANT_LATEST;
        } else if (slice_is(text, "earliest")) {
            s->start = GRANT_EARLIEST;
        } else if (at.kind == START_AFTER) {
            s->start = GRANT_AFTER;
            s->start_after = at.id;
        } else if (!slice_is(text, "now")) {
            luaL_error(
                L,
                "start: \"latest\", \"now\", \"earliest\" or the id of an event was expected, got '%s'",
                text.p);
        }
        if (s->replay.none && s->start != GRANT_NOW) {
            luaL_error(
                L, "start: has no effect with replay = false, which is \"now\" for every client");
        }
    }
    lua_pop(L, 1);
}

static void read_on_lag(lua_State *L, struct subscription *s)
{
    struct slice name = lua_shape_string(L, -1, "limits.on_lag");
    if (slice_is(name, "close")) {
        s->on_lag = ON_LAG_CLOSE;
    } else if (slice_is(name, "skip")) {
        s->on_lag = ON_LAG_SKIP;
    } else if (slice_is(name, "latest")) {
        s->on_lag = ON_LAG_LATEST;
    } else {
        luaL_error(L, "limits.on_lag: \"close\", \"skip\" or \"latest\" was expected, got '%s'",
                   name.p);
    }
}

/* stack: .., its value */
static void read_every(lua_State *L, struct subscription *s)
{
    bool number = lua_type(L, -1) == LUA_TNUMBER;
    double ms = number ? lua_tonumber(L, -1) * 1000 + 0.5 : 0;
    if (!(ms >= EVERY_MIN_MS && ms < EVERY_MAX_S * 1000.0 + 1)) { /* also refuses NaN */
        luaL_error(L, "limits.every_s (seconds): a number from 0.1 to %d was expected, got %s",
                   EVERY_MAX_S, number ? lua_tostring(L, -1) : lua_secret_typename(L, -1));
    }
    s->every_ms = (uint32_t)ms;
}

static const char *const limits_keys[] = {"events_per_s", "max_lag", "on_lag", "every_s", NULL};

/* Raises for limits that stand beside `topics`. */
static void refuse_stray_limits(lua_State *L, int t)
{
    for (size_t i = 0; limits_keys[i]; i++) {
        const char *name = limits_keys[i];
        int type = lua_shape_field(L, t, name);
        if (type != LUA_TNIL) {
            luaL_error(L, "%s belongs into limits: limits = { %s = %s }", name, name,
                       type == LUA_TNUMBER   ? lua_tostring(L, -1)
                       : type == LUA_TSTRING ? lua_pushfstring(L, "\"%s\"", lua_tostring(L, -1))
                                             : "...");
        }
        lua_pop(L, 1);
    }
}

static void read_limits(lua_State *L, int t, struct subscription *s)
{
    if (lua_shape_field(L, t, "limits") != LUA_TNIL) {
        int at = lua_gettop(L);
        lua_shape_closed(L, at, "limits", limits_keys);
        if (lua_shape_field(L, at, "events_per_s") != LUA_TNIL) {
            s->events_per_s = lua_shape_positive(L, -1, "limits.events_per_s", RATE_MAX);
        }
        if (lua_shape_field(L, at, "max_lag") != LUA_TNIL) {
            s->max_lag = (uint64_t)lua_shape_integer(L, -1, "limits.max_lag (events)", 1,
                                                     (lua_Integer)EVENT_ID_MAX);
        }
        if (lua_shape_field(L, at, "on_lag") != LUA_TNIL) {
            read_on_lag(L, s);
        }
        if (lua_shape_field(L, at, "every_s") != LUA_TNIL) {
            read_every(L, s);
        }
        lua_settop(L, at);
    }
    lua_pop(L, 1);
}

static void read_compress(lua_State *L, int t, struct subscription *s)
{
    int type = lua_shape_field(L, t, "compress");
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        luaL_error(L, "compress: true or false was expected, got %s", lua_typename(L, type));
    }
    s->no_gzip = type == LUA_TBOOLEAN && !lua_toboolean(L, -1);
    lua_pop(L, 1);
}

static void read_envelope(lua_State *L, int t, struct subscription *s)
{
    int type = lua_shape_field(L, t, "envelope");
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        luaL_error(L, "envelope: true or false was expected, got %s", lua_typename(L, type));
    }
    s->envelope = type == LUA_TBOOLEAN && lua_toboolean(L, -1);
    lua_pop(L, 1);
}

static void read_prime(lua_State *L, int t, struct subscription *s)
{
    if (lua_shape_field(L, t, "prime") != LUA_TNIL) {
        struct slice name = lua_shape_string(L, -1, "prime");
        if (!prime_parse(name, &s->prime)) {
            luaL_error(L, "prime: \"event\", \"id\", \"data\" or \"none\" was expected, got '%s'",
                       name.p);
        }
    }
    lua_pop(L, 1);
}

static void read_mark(lua_State *L, int t, struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "mark") != LUA_TNIL) {
        struct slice mark = lua_shape_string(L, -1, "mark");
        if (!last_event_id_is_mark(mark)) {
            luaL_error(L, "mark: 1 to %d letters, digits, '-', '_' and '.' were expected",
                       EVENT_MARK_MAX_BYTES);
        }
        lua_subscription_append(L, &d->mark, mark, "mark");
    }
    lua_pop(L, 1);
}

/* A time that has passed would be asked about again and again. */
static void read_expires(lua_State *L, int t, struct subscription *s)
{
    const struct lua_host *host = lua_vm_host(L);
    lua_Integer now_s = host->unix_ms(host->ctx) / 1000;
    if (lua_shape_field(L, t, "expires") != LUA_TNIL) {
        s->expires_ms = 1000 * lua_shape_time(L, -1, "expires (Unix seconds, in the future)", now_s,
                                              LUA_VERDICT_EXPIRES_MAX_S);
    }
    lua_pop(L, 1);
}

static bool read_over(lua_State *L, int t, const char *what)
{
    lua_shape_field(L, t, "over");
    struct slice over = lua_shape_string(L, -1, what);
    if (!slice_is(over, "deny") && !slice_is(over, "oldest")) {
        luaL_error(L, "%s: \"deny\" or \"oldest\" was expected, got '%s'", what, over.p);
    }
    lua_pop(L, 1);
    return slice_is(over, "oldest");
}

/* stack: .., the entry */
static void read_quota(lua_State *L, struct verdict_draft *d)
{
    static const char *const keys[] = {"key", "max", "over", NULL};
    static const char *const names[QUOTAS_PER_STREAM][4] = {
        {"quota[1]", "quota[1].key", "quota[1].max (streams)", "quota[1].over"},
        {"quota[2]", "quota[2].key", "quota[2].max (streams)", "quota[2].over"},
        {"quota[3]", "quota[3].key", "quota[3].max (streams)", "quota[3].over"},
        {"quota[4]", "quota[4].key", "quota[4].max (streams)", "quota[4].over"}};
    const char *const *name = names[d->quota_count];
    struct quota_want *q = &d->quotas[d->quota_count];
    int at = lua_gettop(L);
    lua_shape_closed(L, at, name[0], keys);
    lua_shape_field(L, at, "key");
    struct slice key = lua_shape_string(L, -1, name[1]);
    if (key.n == 0 || key.n > QUOTA_KEY_MAX_BYTES) {
        luaL_error(L, "%s: 1 to %d bytes were expected, got %d", name[1], QUOTA_KEY_MAX_BYTES,
                   (int)key.n);
    }
    const char *bad = lua_reach_text_check(key); /* operators see it, in JSON */
    if (bad) {
        luaL_error(L, "%s: %s", name[1], bad);
    }
    const char *text = d->quota_text.data;
    for (size_t i = 0; i < d->quota_count; i++) {
        if (slice_eq(slice_of(text, d->quotas[i].key.n), key)) {
            luaL_error(L, "%s: '%s' is there already", name[1], key.p);
        }
        text += d->quotas[i].key.n;
    }
    lua_subscription_append(L, &d->quota_text, key, name[1]);
    lua_shape_field(L, at, "max");
    *q = (struct quota_want){.key.n = key.n,
                             .max =
                                 (uint32_t)lua_shape_integer(L, -1, name[2], 1, QUOTA_STREAMS_MAX),
                             .oldest = read_over(L, at, name[3])};
    d->quota_count++;
    lua_settop(L, at - 1);
}

static void read_quotas(lua_State *L, int t, struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "quota") != LUA_TNIL) {
        int list = lua_gettop(L);
        lua_Integer n = lua_shape_list(L, list, "quota", "{key, max, over}", 0, QUOTAS_PER_STREAM);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, list, i);
            read_quota(L, d);
        }
    }
    lua_pop(L, 1);
}

/* stack: .., the table */
static void read_member(lua_State *L, int at, struct verdict_draft *d)
{
    static const char *const keys[] = {"topic", "member", "data", NULL};
    lua_shape_closed(L, at, "presence", keys);
    lua_shape_field(L, at, "topic");
    struct slice topic = lua_shape_string(L, -1, "presence.topic");
    const char *bad = topic_name_check(topic);
    if (bad) {
        luaL_error(L, "presence.topic: %s", bad);
    }
    lua_shape_field(L, at, "member");
    struct slice member = lua_shape_string(L, -1, "presence.member");
    if (member.n == 0 || !utf8_ok(member)) {
        luaL_error(L, "presence.member: 1 byte of UTF-8 or more was expected");
    }
    if (strbuf_append(&d->presence, topic.p, topic.n) || strbuf_append(&d->presence, "/", 1) ||
        topic_segment_append(&d->presence, member)) {
        luaL_error(L, "presence: topic and member have %d bytes together, at most",
                   EVENT_TOPIC_MAX_BYTES - 1);
    }
    int type = lua_shape_field(L, at, "data");
    if (type == LUA_TNIL) {
        lua_newtable(L);
    } else if (type != LUA_TTABLE) {
        luaL_error(L, "presence.data: a table that becomes JSON was expected, got %s",
                   lua_typename(L, type));
    }
    lua_json_encode(L, lua_gettop(L), "presence.data",
                    type == LUA_TNIL ? LUA_JSON_OBJECT_OF_LISTS : LUA_JSON_ANY, &d->presence_data);
    lua_settop(L, at);
}

static void read_presence(lua_State *L, int t, struct verdict_draft *d)
{
    int type = lua_shape_field(L, t, "presence");
    if (type == LUA_TTABLE) {
        read_member(L, lua_gettop(L), d);
    } else if (type != LUA_TNIL) {
        luaL_error(L, "presence: {topic, member, data} was expected, got %s",
                   lua_typename(L, type));
    }
    lua_pop(L, 1);
}

void lua_verdict_subscription(lua_State *L, int idx, const struct lua_policy_file *f,
                              struct verdict_draft *d)
{
    static const char *const keys[] = {
        "topics",   "filter", "format",   "params",   "replay",   "limits", "heartbeat",
        "retry_ms", "prime",  "expires",  "compress", "tags",     "quota",  "ends",
        "first",    "start",  "envelope", "fields",   "presence", "mark",   NULL};
    struct subscription *s = &d->v.subscription;
    luaL_checkstack(L, 12, NULL);
    refuse_stray_limits(L, idx);
    lua_shape_closed(L, idx, "subscription", keys);
    read_topics(L, idx, d);
    read_tags(L, idx, d);
    lua_subscription_filter(L, idx, &f->filters, d);
    lua_subscription_ends(L, idx, &f->filters, d);
    lua_subscription_format(L, idx, &f->formats, d);
    read_params(L, idx, d);
    read_replay(L, idx, s);
    read_start(L, idx, s);
    read_limits(L, idx, s);
    if (lua_shape_field(L, idx, "heartbeat") != LUA_TNIL) {
        s->heartbeat_s =
            (unsigned)lua_shape_integer(L, -1, "heartbeat (seconds)", 1, HEARTBEAT_MAX_S);
    }
    if (lua_shape_field(L, idx, "retry_ms") != LUA_TNIL) {
        s->retry_ms = (unsigned)lua_shape_integer(L, -1, "retry_ms", 1, RETRY_MAX_MS);
    }
    lua_pop(L, 2);
    read_compress(L, idx, s);
    read_envelope(L, idx, s);
    read_prime(L, idx, s);
    read_mark(L, idx, d);
    read_expires(L, idx, s);
    read_quotas(L, idx, d);
    read_presence(L, idx, d);
    lua_first_read(L, idx, d);
    lua_fields_read(L, idx, d);
    lua_subscription_want_names(L, idx, f);
}
