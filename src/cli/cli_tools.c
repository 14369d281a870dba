/* See cli_tools.h. */
#include "cli/cli_tools.h"

#include "base/logging.h"
#include "base/read_file.h"
#include "cli/cli_options.h"
#include "config/config.h"
#include "tools/tool_eval.h"
#include "tools/tool_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

enum {
    PROBLEMS_MAX_BYTES = 256 * 1024,
    INPUT_MAX_BYTES = 4 * 1024 * 1024,
};

const char cli_test_details[] =
    "PATH is a spec, or a directory in which every file named *_spec.lua is one. Specs are Lua for\n"
    "busted (Debian: lua-busted) and say require \"tidegate.test\". Words after -- go to busted.\n"
    "\n"
    "Exit codes: 0 all passed; 1 some failed; 69 busted is missing; 74 the result could not be written.\n";

const char cli_test_option_help[] =
    "  --conf CONF  load policies with the limits, keys and paths of CONF; without it: the defaults\n"
    "  --json       print the result as one JSON document\n"
    "  --help       this text\n";

static int fail(const char *command, const char *about, const char *what)
{
    fprintf(stderr, "tidegate %s: %s: %s\n(see: tidegate help %s)\n", command, about, what,
            command);
    return EX_USAGE;
}

/* 0, or the exit code after a message. `conf` NULL: the defaults. */
static int load_config(struct config *cfg, const char *command, const char *conf,
                       const char *policy)
{
    struct config_overrides o = {.policy = policy};
    struct strbuf problems;
    strbuf_init(&problems, PROBLEMS_MAX_BYTES);
    int rc = config_load(cfg, conf, &o, &problems);
    if (rc) {
        fprintf(stderr, "tidegate %s: %s:\n%s", command, conf ? conf : "the defaults",
                problems.len ? problems.data : "");
    }
    strbuf_clear(&problems);
    return rc == 0 ? 0 : rc == UV_EINVAL ? EX_CONFIG : EX_SOFTWARE;
}

int cli_test(char **words, size_t n)
{
    struct tool_test_options opt = {.json = false};
    const char *conf = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(words[i], "--") == 0) {
            while (++i < n) {
                words[kept++] = words[i];
            }
        } else if (strcmp(words[i], "--json") == 0) {
            opt.json = true;
        } else if (strcmp(words[i], "--conf") == 0) {
            if (++i == n || conf) {
                return fail("test", "--conf", "one configuration file was expected");
            }
            conf = words[i];
        } else if (words[i][0] == '-') {
            return fail("test", words[i], "unknown option; options of busted come after --");
        } else {
            words[kept++] = words[i];
        }
    }
    if (kept == 0) {
        return fail("test", "PATH", "a spec or a directory of specs was expected");
    }
    struct config cfg;
    int code = load_config(&cfg, "test", conf, NULL);
    if (code) {
        return code;
    }
    log_set_level(LOG_LEVEL_WARN);
    opt.module = (struct test_module_options){&cfg, cfg.http.events_path};
    opt.words = words;
    opt.count = kept;
    code = tool_test_run(&opt);
    config_clear(&cfg);
    return code;
}

/* ---------------------------------------------------------------- eval */

const char cli_eval_details[] =
    "HOOK is authenticate, subscribe (after authenticate), publish (also after it), filter or format.\n"
    "The input is one JSON object:\n"
    "  authenticate  {\"topics\": [..], \"query\": {..}, \"headers\": {..}, \"cookies\": {..},\n"
    "                 \"bearer\": \"..\", \"ip\": \"..\", \"last_event_id\": \"..\", and answers for db.query()\n"
    "                 and http.get(): \"db\": {query: [rows]},\n"
    "                 \"http\": {target: {\"status\": 200, \"body\": \"..\"}}}\n"
    "  subscribe     the same, and \"who\": {..}: the identity to start from, without authenticate\n"
    "  publish       the same but topics and last_event_id, and\n"
    "                 \"event\": {\"topic\", \"type\", \"data\", \"attrs\", \"key\"}\n"
    "  filter        {\"name\": \"..\", \"params\": {..}, \"event\": {..}}\n"
    "  format        the same\n"
    "\n"
    "Tokens are verified with the keys of CONF; those of a jwks_url are not fetched.\n"
    "\n"
    "Exit codes: 0 granted or delivered; 1 denied or left out; 75 the policy fails (\"error\" says where)\n"
    "or refuses temporarily; 65 the input is wrong; 66 the input cannot be read; 74 the answer could not\n"
    "be written; 78 the configuration or the policy does not load.\n";

const char cli_eval_option_help[] =
    "  --input FILE   the input; without it, or with -: standard input\n"
    "  --policy FILE  the policy, instead of the configuration's\n"
    "  --json         print the decision as one JSON object\n"
    "  --help         this text\n";

struct eval_words {
    const char *hook, *conf, *input, *policy;
    bool json;
};

/* 0, or the exit code after a message. */
static int read_eval_words(struct eval_words *w, char **words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char **slot = NULL;
        if (strcmp(words[i], "--json") == 0) {
            w->json = true;
            continue;
        }
        if (strcmp(words[i], "--input") == 0) {
            slot = &w->input;
        } else if (strcmp(words[i], "--policy") == 0) {
            slot = &w->policy;
        }
        if (slot) {
            if (++i == n || *slot) {
                return fail("eval", words[i - 1], "one file was expected");
            }
            *slot = words[i];
        } else if (words[i][0] == '-') {
            return fail("eval", words[i], "unknown option");
        } else if (!w->hook) {
            w->hook = words[i];
        } else if (!w->conf) {
            w->conf = words[i];
        } else {
            return fail("eval", words[i], "unexpected argument");
        }
    }
    if (!w->hook || (!w->conf && !w->policy)) {
        return fail("eval", "HOOK CONF", "a hook, and a configuration or --policy, were expected");
    }
    for (size_t i = 0; tool_eval_hooks[i]; i++) {
        if (strcmp(tool_eval_hooks[i], w->hook) == 0) {
            return 0;
        }
    }
    return fail("eval", w->hook, "authenticate, subscribe, publish, filter or format was expected");
}

int cli_read_input(const char *command, const char *path, struct strbuf *text)
{
    bool standard = !path || strcmp(path, "-") == 0;
    int rc = read_file(path, text);
    if (rc == 0) {
        return 0;
    }
    (void)fail(command, standard ? "standard input" : path,
               rc == UV_ENOBUFS ? "larger than 4 MiB" : uv_strerror(rc));
    return EX_NOINPUT;
}

int cli_eval(char **words, size_t n)
{
    struct eval_words w = {.json = false};
    struct config cfg;
    struct strbuf text;
    int code = read_eval_words(&w, words, n);
    if (code) {
        return code;
    }
    code = load_config(&cfg, "eval", w.conf, w.policy);
    if (code) {
        return code;
    }
    log_set_level(LOG_LEVEL_WARN);
    strbuf_init(&text, INPUT_MAX_BYTES);
    code = cli_read_input("eval", w.input, &text);
    if (code == 0) {
        struct tool_eval_options opt = {.module = {&cfg, cfg.http.events_path},
                                        .policy = cfg.policy.file,
                                        .hook = w.hook,
                                        .input = strbuf_slice(&text),
                                        .json = w.json};
        code = tool_eval_run(&opt);
    }
    strbuf_clear(&text);
    config_clear(&cfg);
    return code;
}
