/* See cli_check.h. */
#include "cli/cli_check.h"

#include "base/logging.h"
#include "cli/cli_config.h"
#include "cli/cli_options.h"
#include "cli/cli_tools.h"
#include "config/config.h"
#include "config/config_advice.h"
#include "server/server_tls.h"
#include "server/store_check.h"
#include "server/supervisor.h"
#include "tools/policy_check.h"
#include "tools/tool_check.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <uv.h>

enum { PROBLEMS_MAX_BYTES = 256 * 1024, SAMPLES_MAX_BYTES = 4 * 1024 * 1024 };

const char cli_check_details[] =
    "Reports all errors of a configuration and its policy. Runs luacheck (Debian: lua-check) on the\n"
    "policy, and calls authenticate, subscribe and publish with generated requests: empty ones, nonsense,\n"
    "wildcards, tokens of its own, and while databases and servers are down or have no answer. Binds, creates and changes\n"
    "nothing, and connects to nothing without --db.\n"
    "\n"
    "An error in one part hides none in another: the policy, keys, certificates and the directory of the\n"
    "store are looked at although settings are wrong. What could not be looked at is listed as skipped.\n"
    "Whether this machine is fit (descriptors, disk, clock, settings of the database) is for `tidegate\n"
    "doctor`.\n"
    "\n"
    "Each problem is one line, FILE:LINE:COLUMN: error or warning: TEXT. Samples are inputs of\n"
    "`tidegate eval` with \"hook\" (default: \"subscribe\") and \"expect\" (\"granted\", \"denied\", a status such\n"
    "as 401, \"transient\"; for a filter or format \"deliver\", \"filtered\", \"skip\"; for observe \"observed\",\n"
    "\"not-observed\"; default: anything but an error).\n"
    "\n"
    "The document of --json: ok, errors, warnings (counts), problems: [{severity, source, file, line,\n"
    "column, message, hint}], policy: {file, files, label, version, hooks, filters, formats, queries, sets,\n"
    "observes}, tried (number of requests), skipped: [{step, reason}]. Unknown values are left out.\n"
    "\n"
    "Exit codes: 0 no error; 78 errors (with --strict also warnings); 69 the only error is that a\n"
    "database of --db is down (with --strict: and there is no warning); 66 the samples cannot be read.\n";

struct check_words {
    struct cli_options options; /* first: CLI_OPTION_ROWS */
    bool json, strict, no_samples;
    const char *samples;
    struct policy_check_options policy;
};

const struct option_row cli_check_rows[] = {
    OPTION_ROW("--json", NULL, "print the result as one JSON document", OPTION_FLAG,
               offsetof(struct check_words, json)),
    OPTION_ROW(
        "--db", NULL,
        "connect to the database of the store, and to that of policies, which prepares every query",
        OPTION_FLAG, offsetof(struct check_words, policy.database)),
    OPTION_ROW("--samples", "FILE", "your own requests: a JSON array, or one JSON object per line",
               OPTION_TEXT, offsetof(struct check_words, samples)),
    OPTION_ROW("--no-samples", NULL,
               "generate no requests: call hooks only with those of --samples", OPTION_FLAG,
               offsetof(struct check_words, no_samples)),
    OPTION_ROW("--no-luacheck", NULL, "do not run luacheck", OPTION_CLEAR,
               offsetof(struct check_words, policy.luacheck)),
    OPTION_ROW("--strict", NULL, "treat warnings as errors", OPTION_FLAG,
               offsetof(struct check_words, strict)),
    CLI_OPTION_ROWS,
    {.name = NULL},
};

/* The sections of which options say something else than the file, or may. */
static json_t *overridden_by(const struct config_overrides *o)
{
    return json_pack("{s:b, s:b, s:b, s:b, s:b}", "listen", o->listen_count > 0, "admin",
                     o->admin != NULL, "store", o->store != NULL, "policy", o->policy != NULL,
                     "workers", o->workers != NULL);
}

static json_t *targets_of(const struct config *cfg)
{
    json_t *list = json_array();
    for (size_t i = 0; i < cfg->http_targets.n; i++) {
        (void)json_array_append_new(list, json_string(cfg->http_targets.v[i].name));
    }
    return list;
}

static json_t *latest_of(const struct config *cfg)
{
    json_t *list = json_array();
    for (size_t i = 0; i < cfg->store.latest.n; i++) {
        (void)json_array_append_new(list, json_string(cfg->store.latest.v[i]));
    }
    return list;
}

static json_t *routes_of(const struct config *cfg)
{
    json_t *list = json_array();
    for (size_t i = 0; i < cfg->http.routes.n; i++) {
        (void)json_array_append_new(list, json_boolean(cfg->http.routes.v[i].publish != NULL));
    }
    return list;
}

static json_t *keys_of(const struct config *cfg)
{
    json_t *list = json_array();
    for (size_t i = 0; i < cfg->keys.n; i++) {
        const struct config_keys *k = &cfg->keys.v[i];
        (void)json_array_append_new(list, json_pack("{s:s, s:b, s:b}", "name", k->name, "secret",
                                                    k->secret || k->secret_file, "fetched",
                                                    k->jwks_url != NULL));
    }
    return list;
}

/* Of a setting; into the array `ctx`. */
static void found(void *ctx, bool is_error, const char *at, const char *text)
{
    struct strbuf line;
    strbuf_init(&line, PROBLEMS_MAX_BYTES);
    if (strbuf_printf(&line, "%s: %s", at, text) == 0) {
        json_t *one = json_pack("{s:b, s:o}", "error", is_error, "text",
                                policy_check_text(strbuf_slice(&line)));
        (void)json_array_append_new(ctx, one);
    }
    strbuf_clear(&line);
}

static void advise(void *ctx, bool sure, const char *key, const char *text)
{
    (void)sure; /* here a person reads all of it */
    found(ctx, false, key, text);
}

static void check_webroot(const char *webroot, json_t *list)
{
    struct stat st;
    if (webroot && (stat(webroot, &st) != 0 || !S_ISDIR(st.st_mode))) {
        struct err e = {0};
        (void)err_set(&e, UV_ENOTDIR,
                      "%s: is not a directory; make it, and give it to certbot as --webroot-path",
                      webroot);
        found(list, true, "http.acme_webroot", e.text);
    }
}

/* What is right as a value, and yet not what anybody wants. `whole`: no other setting is wrong. */
static json_t *settings_of(const struct config *cfg, bool whole)
{
    json_t *list = json_array();
    server_tls_check(cfg, found, list);
    check_webroot(cfg->http.acme_webroot, list);
    if (whole) {
        config_advise(cfg, advise, list);
    }
    return list;
}

static json_t *store_of(const struct config *cfg, bool database)
{
    static const char *const names[] = {[STORE_CHECK_FINE] = "fine",
                                        [STORE_CHECK_WRONG] = "wrong",
                                        [STORE_CHECK_UNSURE] = "unsure",
                                        [STORE_CHECK_AWAY] = "away",
                                        [STORE_CHECK_SKIPPED] = "skipped"};
    struct err e = {0};
    enum store_check result = store_check(cfg, database, &e);
    return json_pack("{s:s, s:o}", "result", names[result], "text",
                     policy_check_text(slice_str(e.text)));
}

static json_t *environment_of(const struct config_overrides *o)
{
    const char *names[CONFIG_ENVIRONMENT_MAX];
    size_t n = config_environment(o, names);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, json_string(names[i]));
    }
    return list;
}

/* What the configuration says about itself, and, as far as it is well, what its policy is like. False:
 * there is no configuration in `cfg`. */
static bool find_out(const struct check_words *w, struct config *cfg, json_t *facts, int *code)
{
    struct strbuf problems;
    bool salvaged = false;
    strbuf_init(&problems, PROBLEMS_MAX_BYTES);
    int rc = config_salvage(cfg, w->options.conf, &w->options.overrides, &problems, &salvaged);
    struct slice text = strbuf_slice(&problems);
    if (rc && rc != UV_EINVAL) {
        fprintf(stderr, "tidegate: %s: %.*s\n", w->options.conf, (int)text.n, text.p ? text.p : "");
        *code = EX_SOFTWARE;
    } else if (rc) {
        (void)json_object_set_new(facts, "configuration", policy_check_text(text));
    }
    strbuf_clear(&problems);
    if (rc && !salvaged) {
        return false;
    }
    (void)json_object_set_new(facts, "environment", environment_of(&w->options.overrides));
    (void)json_object_set_new(facts, "overridden", overridden_by(&w->options.overrides));
    (void)json_object_set_new(facts, "targets", targets_of(cfg));
    (void)json_object_set_new(facts, "keys", keys_of(cfg));
    (void)json_object_set_new(facts, "latest", latest_of(cfg));
    (void)json_object_set_new(facts, "routes", routes_of(cfg));
    (void)json_object_set_new(facts, "settings", settings_of(cfg, rc == 0));
    (void)json_object_set_new(facts, "store", store_of(cfg, w->policy.database));
    if (*cfg->policy.file) {
        (void)json_object_set_new(facts, "policy", policy_check_text(slice_str(cfg->policy.file)));
        policy_check(cfg, &w->policy, facts);
    }
    return true;
}

static int cli_check_run(const struct check_words *w, struct slice samples)
{
    struct config cfg;
    int code = EX_OK;
    json_t *facts =
        json_pack("{s:o, s:b, s:b, s:b}", "conf", policy_check_text(slice_str(w->options.conf)),
                  "json", w->json, "strict", w->strict, "try_hooks", !w->no_samples);
    if (w->samples) {
        (void)json_object_set_new(facts, "samples_file", json_string(w->samples));
        (void)json_object_set_new(facts, "samples", policy_check_text(samples));
    }
    bool loaded = find_out(w, &cfg, facts, &code);
    char *text = code ? NULL : json_dumps(facts, JSON_COMPACT);
    if (text) {
        struct tool_check_options opt = {.facts = text};
        if (loaded) {
            opt.module =
                (struct test_module_options){.config = &cfg, .events_path = cfg.http.events_path};
        }
        code = tool_check_run(&opt);
    } else if (code == EX_OK) {
        fprintf(stderr, "tidegate check: out of memory\n");
        code = EX_SOFTWARE;
    }
    free(text);
    json_decref(facts);
    if (loaded) {
        config_clear(&cfg);
    }
    return code;
}

int cli_check(char **words, size_t n)
{
    static const struct options options = {"tidegate", "check", cli_check_rows};
    struct check_words w = {.policy = {.luacheck = true}};
    struct strbuf samples;
    int code = cli_options_parse(&options, &w.options, words, n);
    if (code || w.options.help) {
        return code ? code : CLI_HELP;
    }
    w.options.conf = w.options.conf ? w.options.conf : cli_config_default("check");
    if (!w.options.conf) {
        fprintf(stderr, "tidegate check: no configuration is named, and there is none in "
                        "$TIDEGATE_CONF, ./tidegate.lua or /etc/tidegate/tidegate.lua\n"
                        "usage: tidegate check [CONF] [options]\n");
        return EX_USAGE;
    }
    if (getenv(SUPERVISOR_CHECK_LOADING_ONLY)) {
        w.no_samples = true;
        w.policy.luacheck = false;
    }
    log_set_level(LOG_LEVEL_ERROR); /* what hooks log is not asked for here */
    strbuf_init(&samples, SAMPLES_MAX_BYTES);
    code = w.samples ? cli_read_input("check", w.samples, &samples) : 0;
    code = code ? code : cli_check_run(&w, strbuf_slice(&samples));
    strbuf_clear(&samples);
    return code;
}
