/* See policy_check.h. The setters of jansson take a value also when they fail, and NULL is a
 * failure: what could not be made for want of memory is missing. */
#include "tools/policy_check.h"

#include "base/alloc.h"
#include "lua/load/lua_sources.h"
#include "lua/policy/lua_policy.h"
#include "lua/policy/lua_policy_about.h"
#include "lua/vm/lua_watchdog.h"
#include "net/loop.h"
#include "server/server_keys.h"
#include "server/server_options.h"
#include "sets/set_store.h"
#include "tools/child_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    ANSWER_MS = 10000, /* of the database, connecting included */
    LUACHECK_MS = 30000,
    LUACHECK_MAX_BYTES = 256 * 1024,
};

static void policy_check_set(json_t *object, const char *name, json_t *value)
{
    (void)json_object_set_new(object, name, value);
}

json_t *policy_check_text(struct slice text)
{
    json_t *out = json_stringn(text.n ? text.p : "", text.n);
    char *copy = out ? NULL : xstrndup(text.p, text.n); /* not UTF-8: shown as far as it can be */
    for (char *p = copy; copy && p < copy + text.n; p++) {
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    }
    out = out ? out : json_string(copy);
    free(copy);
    return out;
}

/* ---------------------------------------------------------------- the database */

struct answer {
    bool there;
    int rc;
    struct err e;
};

static void policy_check_on_answer(void *ctx, uint64_t token, const struct query_rows *rows,
                                   const struct err *e)
{
    struct answer *a = ctx;
    (void)token;
    (void)rows;
    a->there = true;
    if (e) {
        a->rc = e->code;
        a->e = *e;
    }
}

static void policy_check_prepare(struct query_source *s, struct loop *loop,
                                 const struct query *query, struct answer *a)
{
    struct query_question q = {.query = query, .timeout_ms = ANSWER_MS, .only_prepare = true};
    *a = (struct answer){.there = false};
    a->rc = s->ops->ask(s, &q, policy_check_on_answer, a, 0, NULL, &a->e);
    while (a->rc == 0 && !a->there) { /* it has a time limit */
        (void)uv_run(loop_uv(loop), UV_RUN_ONCE);
    }
}

static json_t *ask_database(struct query_source *s, struct loop *loop, const struct policy *policy)
{
    json_t *refused = json_array(), *away = json_null();
    struct answer a = {.there = false};
    const char *name;
    const struct query *query;
    for (size_t i = 0; json_is_null(away) && (query = lua_policy_query(policy, i, &name)); i++) {
        policy_check_prepare(s, loop, query, &a);
        if (a.rc == UV_EINVAL) {
            (void)json_array_append_new(refused, json_pack("{s:s, s:o}", "query", name, "message",
                                                           policy_check_text(slice_str(a.e.text))));
        } else if (a.rc) {
            away = policy_check_text(slice_str(a.e.text));
        }
    }
    return json_pack("{s:o, s:o}", "refused", refused, "away", away);
}

/* ---------------------------------------------------------------- loading */

/* The policy is opened, looked at, and let go of. 0, or a negative UV_E* with the reason. */
static int policy_check_look(struct server_options *o, struct loop *loop,
                             const struct policy_check_options *opt, struct lua_sources *sources,
                             json_t *facts, struct err *e)
{
    struct policy_metrics policy_metrics = {0};
    struct lookup_metrics lookup_metrics = {0};
    struct policy *policy = NULL;
    struct query_source *queries = NULL;
    o->database.offline = !opt->database;
    o->database.connections = 1;
    o->database.pool.timeout_ms = ANSWER_MS;
    o->sets_database.offline = true; /* that queries is asked about them, too */
    struct set_store *sets = set_store_new(loop, &o->sets, &policy_metrics);
    o->policy.sets = sets;
    int rc = o->has_database ? query_open(&o->database, loop, &lookup_metrics, &queries, e) : 0;
    o->policy.queries = queries;
    rc = rc ? rc : lua_policy_open(&o->policy, loop, &policy_metrics, &policy, sources, e);
    if (policy) {
        policy_check_set(facts, "about", lua_policy_about(policy));
        if (opt->database) {
            policy_check_set(
                facts, "database",
                queries ? ask_database(queries, loop, policy)
                        : json_pack("{s:s}", "skipped", "the configuration has none for policies"));
        }
        policy->life->close(policy);
    }
    set_store_close(sets);
    if (queries) {
        queries->ops->close(queries, NULL, NULL);
    }
    loop_run(loop);
    set_store_free(sets);
    if (queries) {
        queries->ops->free(queries);
    }
    return rc;
}

static int policy_check_load(const struct config *cfg, const struct policy_check_options *opt,
                             struct lua_sources *sources, json_t *facts, struct err *e)
{
    struct server_options o;
    struct keyring *keyring = NULL;
    int rc = server_options_init(&o, cfg, e);
    if (rc) {
        return rc;
    }
    rc = server_keys_open(&keyring, cfg, e);
    if (rc) { /* what else is wrong is to be seen, too */
        policy_check_set(facts, "keys_error", policy_check_text(slice_str(e->text)));
        rc = keyring_open(&keyring, NULL, 0, (size_t)cfg->policy.token_cache_bytes, e);
    }
    if (rc) {
        server_options_clear(&o);
        return rc;
    }
    o.policy.keyring = keyring;
    struct loop *loop = loop_new();
    o.policy.watchdog = lua_watchdog_new((uint64_t)cfg->policy.hard_limit_ms, e);
    if (!loop) {
        rc = err_set(e, UV_ENOMEM, "no memory for an event loop");
    } else if (!o.policy.watchdog) {
        rc = e->code;
    } else {
        rc = policy_check_look(&o, loop, opt, sources, facts, e);
    }
    if (loop && loop_free(loop) > 0 && rc == 0) {
        rc = err_set(e, UV_EBUSY, "the policy left handles open");
    }
    lua_watchdog_free(o.policy.watchdog);
    keyring_close(keyring);
    server_options_clear(&o);
    return rc;
}

/* Each file of Lua once: a module behind a symbolic link has two names. */
static json_t *files_of(const struct lua_sources *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++) {
        size_t k = 0;
        while (k < i && (s->v[k].inode != s->v[i].inode || s->v[k].device != s->v[i].device)) {
            k++;
        }
        if (k == i && s->v[i].inode && !s->v[i].data) {
            (void)json_array_append_new(list, json_string(s->v[i].path));
        }
    }
    return list;
}

/* ---------------------------------------------------------------- luacheck */

/* Of what it may warn of, style is left out. The paths are absolute: none looks like an option. */
static const char **luacheck_words(const json_t *files, const json_t *globals)
{
    static const char *const options[] = {"--no-config",
                                          "--no-default-config",
                                          "--no-color",
                                          "--no-unused-args",
                                          "--no-max-line-length",
                                          "--codes",
                                          "--ranges",
                                          "--formatter",
                                          "plain",
                                          "--ignore",
                                          "6",
                                          "--std",
                                          "none",
                                          "--read-globals"};
    enum { OPTIONS = sizeof options / sizeof *options };
    size_t n = 0, i;
    json_t *word;
    const char **argv =
        xcalloc(json_array_size(files) + json_array_size(globals) + OPTIONS + 2, sizeof *argv);
    argv[n++] = "luacheck";
    json_array_foreach((json_t *)(uintptr_t)files, i, word)
    {
        argv[n++] = json_string_value(word);
    }
    for (i = 0; i < OPTIONS; i++) {
        argv[n++] = options[i];
    }
    json_array_foreach((json_t *)(uintptr_t)globals, i, word)
    {
        argv[n++] = json_string_value(word);
    }
    return argv;
}

static int policy_check_by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* One more word of a list, in lines of at most 110 columns. */
static int put_word(struct strbuf *out, size_t *column, const char *word)
{
    bool full = *column + strlen(word) > 108;
    const char *before = *column == 0 ? "    " : full ? "\n    " : " ";
    *column = (full ? 4 : *column) + strlen(word) + 2;
    return strbuf_printf(out, "%s%s,", before, word);
}

/* Sorted: "json.array", "json.decode", "print", "tg.deny", ... */
static int put_names(struct strbuf *out, const char *const *names, size_t n)
{
    char word[128];
    size_t column = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const char *dot = strchr(names[i], '.');
        size_t root = dot ? (size_t)(dot - names[i]) + 1 : 0;
        bool begins = root && (i == 0 || strncmp(names[i - 1], names[i], root) != 0);
        bool ends = root && (i + 1 == n || strncmp(names[i + 1], names[i], root) != 0);
        if (begins) {
            rc = strbuf_printf(out, "%s    %.*s = { fields = {", column ? "\n" : "", (int)root - 1,
                               names[i]);
            column = root + 19;
        }
        bool any_field = strcmp(names[i], "tg.settings") == 0;
        snprintf(word, sizeof word, any_field ? "%s = { other_fields = true }" : "\"%s\"",
                 names[i] + root);
        rc = rc ? rc : put_word(out, &column, word);
        rc = rc || !ends ? rc : strbuf_append_str(out, i + 1 < n ? " } },\n" : " } },");
        column = ends ? 0 : column;
    }
    return rc;
}

int policy_check_names(struct strbuf *out)
{
    struct err e = {0};
    json_t *globals = lua_policy_globals(&e), *name;
    size_t i, n = json_array_size(globals);
    if (!globals) {
        return e.code;
    }
    const char **names = xcalloc(n + 1, sizeof *names);
    json_array_foreach(globals, i, name)
    {
        names[i] = json_string_value(name);
    }
    qsort(names, n, sizeof *names, policy_check_by_text);
    int rc = put_names(out, names, n);
    free(names);
    json_decref(globals);
    return rc;
}

/* Its exit codes: 0 fine, 1 warnings, 2 errors, more: it could not do its work. */
static json_t *luacheck(const json_t *files)
{
    struct err e = {0};
    struct strbuf out;
    struct child_result result;
    json_t *globals = lua_policy_globals(&e), *answer = NULL;
    if (!globals) {
        return json_pack("{s:s}", "skipped", e.text);
    }
    const char **argv = luacheck_words(files, globals);
    strbuf_init(&out, LUACHECK_MAX_BYTES);
    int rc = child_run(argv, LUACHECK_MS, &out, &result, &e);
    if (rc == UV_ENOENT) {
        answer = json_pack("{s:s}", "skipped", "it is not installed (Debian: lua-check)");
    } else if (rc) {
        answer = json_pack("{s:s}", "skipped", e.text);
    } else if (result.signal || result.status > 2) {
        answer = json_pack("{s:o}", "skipped", policy_check_text(strbuf_slice(&out)));
    } else {
        answer = json_pack("{s:o}", "output", policy_check_text(strbuf_slice(&out)));
    }
    strbuf_clear(&out);
    free(argv);
    json_decref(globals);
    return answer;
}

void policy_check(const struct config *cfg, const struct policy_check_options *opt, json_t *facts)
{
    struct lua_sources sources = {0};
    struct err e = {0};
    int rc = policy_check_load(cfg, opt, &sources, facts, &e);
    json_t *files = files_of(&sources);
    if (rc) {
        policy_check_set(facts, "load_error", policy_check_text(slice_str(e.text)));
    }
    if (opt->luacheck && json_array_size(files) > 0) {
        policy_check_set(facts, "luacheck", luacheck(files));
    }
    policy_check_set(facts, "files", files);
    lua_sources_clear(&sources);
}
