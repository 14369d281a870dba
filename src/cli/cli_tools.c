/* See cli_tools.h. */
#include "cli/cli_tools.h"

#include "base/logging.h"
#include "base/program/read_file.h"
#include "cli/cli_config.h"
#include "cli/cli_options.h"
#include "tools/test/test_cover.h"
#include "tools/tool_eval.h"
#include "tools/tool_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

enum {
    INPUT_MAX_BYTES = 4 * 1024 * 1024,
};

const char cli_test_details[] =
    "PATH is a spec, or a directory in which every file named *_spec.lua is one. Specs are Lua for\n"
    "busted (Debian: lua-busted) and say require \"tidegate.test\". Words after -- go to busted.\n"
    "\n"
    "--coverage shows, for each file of a policy that the specs have loaded, the lines that they have not run,\n"
    "and the conditions of filter texts that were never true or never false. Policies run slower with it,\n"
    "and have ten times the CPU time.\n"
    "\n"
    "--bench asks again what the specs have asked: each question up to 1,000 times, when its test is over.\n"
    "\n"
    "Exit codes: 0 all passed; 1 some failed, or a file has less than --min; 69 busted is missing; 74 the result could not be written.\n";

struct test_words {
    const char *conf, *coverage, *lcov, *settings[CLI_SETTINGS_MAX];
    size_t setting_count;
    double min;
    bool json, bench, help;
};

const struct option_row cli_test_rows[] = {
    OPTION_ROW("--conf", "CONF",
               "load policies with the limits, keys and paths of CONF; without it: the defaults",
               OPTION_TEXT, offsetof(struct test_words, conf)),
    CLI_SETTING_ROW(struct test_words, settings, setting_count),
    OPTION_ROW("--json", NULL, "print the result as one JSON document", OPTION_FLAG,
               offsetof(struct test_words, json)),
    OPTION_ROW("--coverage", "lcov",
               "show what of the policies was not run; =lcov: and write it into lcov.info",
               OPTION_MAYBE, offsetof(struct test_words, coverage)),
    OPTION_ROW("--bench", NULL, "show how long hooks, filters and formats take", OPTION_FLAG,
               offsetof(struct test_words, bench)),
    OPTION_ROW("--lcov", "FILE", "the same into FILE, in the format of lcov", OPTION_TEXT,
               offsetof(struct test_words, lcov)),
    OPTION_ROW("--min", "PERCENT",
               "fail unless so much of each file was run, of lines and of outcomes of conditions",
               OPTION_REAL, offsetof(struct test_words, min), .min = 0, .max = 100),
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct test_words, help)),
    {.name = NULL},
};

int cli_test(char **words, size_t n)
{
    static const struct options options = {"tidegate", "test", cli_test_rows};
    struct test_words w = {.json = false};
    int code = options_parse(&options, &w, words, n, words, &n);
    if (code || w.help) {
        return code ? code : CLI_HELP;
    }
    bool lcov = w.coverage && strcmp(w.coverage, "lcov") == 0;
    if (w.coverage && !lcov && w.coverage[0]) {
        return options_refuse(&options, "--coverage", "%s: expected nothing, or lcov", w.coverage);
    }
    w.lcov = lcov && !w.lcov ? "lcov.info" : w.lcov;
    if (n == 0) {
        return options_refuse(&options, "PATH", "a spec or a directory of specs was expected");
    }
    struct config cfg;
    const struct config_overrides o = {.settings = w.settings, .setting_count = w.setting_count};
    code = cli_config_load("test", w.conf, &o, &cfg);
    if (code) {
        return code;
    }
    log_set_level(LOG_LEVEL_WARN);
    struct test_cover *cover = w.coverage || w.lcov || w.min > 0 ? test_cover_new() : NULL;
    struct tool_test_options opt = {.module = {&cfg, cfg.http.events_path, w.bench, cover},
                                    .words = words,
                                    .count = n,
                                    .json = w.json,
                                    .lcov = w.lcov,
                                    .min = w.min};
    code = tool_test_run(&opt);
    test_cover_free(cover);
    config_clear(&cfg);
    return code;
}

/* ---------------------------------------------------------------- eval */

const char cli_eval_details[] =
    "HOOK is authenticate, subscribe (after authenticate), publish (also after it), filter, format or\n"
    "observe.\n"
    "The input is one JSON object:\n"
    "  authenticate  {\"topics\": [..], \"query\": {..}, \"headers\": {..},\n"
    "                 \"cookies\": {..}, \"bearer\": \"..\", \"ip\": \"..\",\n"
    "                 \"last_event_id\": \"..\", \"tls\": {\"client\": {\"subject\": \"..\"}}\n"
    "                 (request.tls; the rest has defaults), and answers\n"
    "                 for db.query() and http.get(): \"db\": {query: [rows]},\n"
    "                 \"http\": {target: {\"status\": 200, \"body\": \"..\"}}}\n"
    "  subscribe     the same, and \"who\": {..}: the identity to start from,\n"
    "                 without authenticate\n"
    "  publish       the same but topics and last_event_id, and\n"
    "                 \"event\": {\"topic\", \"type\", \"data\", \"attrs\", \"key\"}\n"
    "  filter        {\"name\": \"..\", \"params\": {..}, \"event\": {..}}, and what the\n"
    "                 policy's sets hold: \"sets\": {set: [values]}\n"
    "  format        the same\n"
    "  observe       {\"event\": {..}}: shows what it would order; nothing happens\n"
    "\n"
    "Tokens are verified with the keys of CONF; those of a jwks_url are not fetched.\n"
    "\n"
    "Exit codes: 0 granted, delivered or observed; 1 denied, left out or not observed; 75 the policy fails (\"error\" says where)\n"
    "or refuses temporarily; 65 the input is wrong; 66 the input cannot be read; 74 the answer could not\n"
    "be written; 78 the configuration or the policy does not load.\n";

struct eval_words {
    const char *input, *policy, *settings[CLI_SETTINGS_MAX];
    size_t setting_count;
    bool json, help;
};

const struct option_row cli_eval_rows[] = {
    OPTION_ROW("--input", "FILE", "the input; without it, or with -: standard input", OPTION_TEXT,
               offsetof(struct eval_words, input)),
    OPTION_ROW("--policy", "FILE", "the policy, instead of the configuration's", OPTION_TEXT,
               offsetof(struct eval_words, policy)),
    CLI_SETTING_ROW(struct eval_words, settings, setting_count),
    OPTION_ROW("--json", NULL, "print the decision as one JSON object", OPTION_FLAG,
               offsetof(struct eval_words, json)),
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct eval_words, help)),
    {.name = NULL},
};

const char *const *cli_eval_hooks(void)
{
    return tool_eval_hooks;
}

static bool is_hook(const char *word)
{
    for (size_t i = 0; tool_eval_hooks[i]; i++) {
        if (strcmp(tool_eval_hooks[i], word) == 0) {
            return true;
        }
    }
    return false;
}

int cli_read_input(const char *command, const char *path, struct strbuf *text)
{
    bool standard = !path || strcmp(path, "-") == 0;
    int rc = read_file(path, text);
    if (rc == 0) {
        return 0;
    }
    fprintf(stderr, "tidegate %s: %s: %s\n", command, standard ? "standard input" : path,
            rc == UV_ENOBUFS ? "larger than 4 MiB" : uv_strerror(rc));
    return EX_NOINPUT;
}

int cli_eval(char **words, size_t n)
{
    static const struct options options = {"tidegate", "eval", cli_eval_rows};
    struct eval_words w = {.json = false};
    struct config cfg;
    struct strbuf text;
    char *rest[2]; /* the hook, the configuration */
    size_t count = 2;
    int code = options_parse(&options, &w, words, n, rest, &count);
    if (code || w.help) {
        return code ? code : CLI_HELP;
    }
    if (count == 0 || !is_hook(rest[0])) {
        return options_refuse(
            &options, count ? rest[0] : "HOOK",
            "authenticate, subscribe, publish, filter, format or observe was expected");
    }
    const char *conf = count == 2 ? rest[1] : w.policy ? NULL : cli_config_default("eval");
    if (!conf && !w.policy) {
        return options_refuse(&options, "CONF", "a configuration, or --policy, was expected");
    }
    const struct config_overrides o = {
        .policy = w.policy, .settings = w.settings, .setting_count = w.setting_count};
    code = cli_config_load("eval", conf, &o, &cfg);
    if (code) {
        return code;
    }
    log_set_level(LOG_LEVEL_WARN);
    strbuf_init(&text, INPUT_MAX_BYTES);
    code = cli_read_input("eval", w.input, &text);
    if (code == 0) {
        struct tool_eval_options opt = {
            .module = {.config = &cfg, .events_path = cfg.http.events_path},
            .policy = cfg.policy.file,
            .hook = rest[0],
            .input = strbuf_slice(&text),
            .json = w.json};
        code = tool_eval_run(&opt);
    }
    strbuf_clear(&text);
    config_clear(&cfg);
    return code;
}
