/* Subcommands and their exit codes. Reads the configuration, hands it on; knows nothing of what a
 * broker does. */
#include "commands/commands.h"

#include "base/logging.h"
#include "base/program/build_info.h"
#include "base/text/nearest.h"
#include "cli/cli_check.h"
#include "cli/cli_config.h"
#include "cli/cli_init.h"
#include "cli/cli_options.h"
#include "cli/cli_token.h"
#include "cli/cli_tools.h"
#include "commands/command.h"
#include "commands/completion.h"
#include "config/config.h"
#include "config/config_advice.h"
#include "config/lua_config.h"
#include "doctor/doctor.h"
#include "net/client/http_client.h"
#include "remote/remote_connections.h"
#include "remote/remote_drain.h"
#include "remote/remote_erase.h"
#include "remote/remote_explain.h"
#include "remote/remote_policy.h"
#include "remote/remote_publish.h"
#include "remote/remote_restart.h"
#include "remote/remote_status.h"
#include "remote/remote_subscribe.h"
#include "remote/remote_top.h"
#include "server/store_open.h"
#include "server/supervisor.h"
#include "store/postgres/pg_schema.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

/* Of jemalloc, which a build with a sanitizer goes without. Its header renames functions. */
__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_size, void *new_value,
                                  size_t new_size);

enum { REFERENCE_MAX_BYTES = 1024 * 1024 };

/* ---------------------------------------------------------------- output */

/* Everything on stdout ends here: a full disk or a closed pipe is not success. */
static int finish_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "tidegate: the output could not be written\n");
        return EX_IOERR;
    }
    return EX_OK;
}

static int print_help_of(const struct command *c)
{
    printf("usage: tidegate %s%s%s\n\n%s\n", c->name, *c->arguments ? " " : "", c->arguments,
           c->summary);
    if (c->details) {
        putchar('\n');
        options_print_text(c->details);
    }
    if (c->rows) {
        printf("\nOptions:\n");
        options_print(c->rows);
    }
    return finish_output();
}

static int take_no_words(const struct command *c, char **words, size_t n)
{
    if (n == 0) {
        return EX_OK;
    }
    fprintf(stderr, "tidegate %s: %s: unexpected argument\n(see: tidegate help %s)\n", c->name,
            words[0], c->name);
    return EX_USAGE;
}

static bool asks_for_help(char **words, size_t n)
{
    return n > 0 && (strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0);
}

/* ---------------------------------------------------------------- serve, check */

/* Words to a checked configuration. `*code` is the exit code when it answers false (0: help was
 * asked for and given). */
static bool cli_load(const struct command *c, char **words, size_t n, struct cli_options *options,
                     struct config *cfg, int *code)
{
    *options = (struct cli_options){.help = false};
    if (cli_options_parse(&(struct options){"tidegate", c->name, c->rows}, options, words, n)) {
        *code = EX_USAGE;
        return false;
    }
    if (options->help) {
        *code = print_help_of(c);
        return false;
    }
    options->conf = options->conf ? options->conf : cli_config_default(c->name);
    if (!options->conf) {
        fprintf(stderr,
                "tidegate %s: no configuration is named, and there is none in $TIDEGATE_CONF, "
                "./tidegate.lua or /etc/tidegate/tidegate.lua\nusage: tidegate %s %s\n",
                c->name, c->name, c->arguments);
        *code = EX_USAGE;
        return false;
    }
    *code = cli_config_load(NULL, options->conf, &options->overrides, cfg);
    if (*code) {
        return false;
    }
    enum log_level level = LOG_LEVEL_INFO;
    if (log_level_parse(cfg->log.level, &level)) {
        log_set_level(level);
    }
    log_set_json(strcmp(cfg->log.format, "json") == 0);
    return true;
}

static void log_advice(void *ctx, bool sure, const char *key, const char *text)
{
    (void)ctx;
    if (sure) { /* else `tidegate check` says it, to a person who knows */
        log_warn("config", text, LOG_F(log_str("setting", key)));
    }
}

struct serve_options {
    struct cli_options common; /* first */
    bool single;
};

static const struct option_row serve_rows[] = {
    OPTION_ROW("--single", NULL,
               "one worker in this process, without a supervisor: for debuggers. It cannot be "
               "restarted without an outage",
               OPTION_FLAG, offsetof(struct serve_options, single)),
    CLI_OPTION_ROWS,
    {.name = NULL}};

static int run_serve(const struct command *c, char **words, size_t n)
{
    struct serve_options options = {.single = false};
    struct config cfg;
    int code = EX_OK;
    while (!cli_load(c, words, n, &options.common, &cfg, &code)) {
        if (!supervisor_waits()) {
            return code;
        }
    }
    const char *workers = options.common.overrides.workers;
    if (options.single && workers && strcmp(workers, "1") != 0) {
        config_clear(&cfg);
        return options_refuse(&(struct options){"tidegate", c->name, c->rows}, "--workers",
                              "%s: with --single there is one: leave one of the two out", workers);
    }
    if (geteuid() == 0) {
        log_warn("server",
                 "runs as root, and needs nothing of it: start it as a user of its own, as "
                 "tidegate.service does",
                 NULL);
    }
    config_advise(&cfg, log_advice, NULL);
    /* the program and the command come before the words */
    code = supervisor_run(&cfg, words - 2, options.single);
    config_clear(&cfg);
    return code;
}

static int run_migrate(const struct command *c, char **words, size_t n)
{
    struct cli_options options;
    struct config cfg;
    struct err e = {0};
    char shown[256];
    int was = 0, version = 0, code = EX_OK;
    if (!cli_load(c, words, n, &options, &cfg, &code)) {
        return code;
    }
    if (!cfg.store.conninfo) {
        fprintf(stderr, "tidegate: store.driver is \"sqlite\": there is nothing to migrate\n");
        code = EX_CONFIG;
    } else if (pg_schema_migrate(cfg.store.conninfo, (uint64_t)cfg.store.partition_ids, &was,
                                 &version, shown, sizeof shown, &e)) {
        fprintf(stderr, "tidegate: %s\n", e.text);
        code = EX_UNAVAILABLE;
    } else {
        printf("ok: %s: schema version %d%s\n", shown, version,
               was == version ? ", as it was"
               : was          ? ", migrated"
                              : ", made");
        code = finish_output();
    }
    config_clear(&cfg);
    return code;
}

static int run_restart(const struct command *c, char **words, size_t n)
{
    struct cli_options options;
    struct config cfg;
    int code = EX_OK;
    if (!cli_load(c, words, n, &options, &cfg, &code)) {
        return code;
    }
    code = remote_restart(&cfg);
    int written = finish_output();
    config_clear(&cfg);
    return code ? code : written;
}

/* ---------------------------------------------------------------- the rest */

static int run_version(const struct command *c, char **words, size_t n)
{
    if (asks_for_help(words, n)) {
        return print_help_of(c);
    }
    int code = take_no_words(c, words, n);
    if (code) {
        return code;
    }
    printf("tidegate %s (commit %s of %s)\n", build_info.version, build_info.commit,
           build_info.date);
    printf("libuv %s\n%s\nSQLite %s\njansson %s\nlibpq %d.%d\n", uv_version_string(),
           lua_config_lua_release(), sqlite3_libversion(), jansson_version_str(),
           store_libpq_version() / 10000, store_libpq_version() % 10000);
    printf("libcurl %s\nOpenSSL %s\n", http_client_libcurl_version(),
           OpenSSL_version(OPENSSL_VERSION_STRING));
    if (mallctl) { /* without: a build with a sanitizer */
        const char *allocator = NULL;
        size_t size = sizeof allocator;
        (void)mallctl("version", &allocator, &size, NULL, 0);
        printf("jemalloc %.*s\n", (int)strcspn(allocator ? allocator : "?", "-"),
               allocator ? allocator : "?");
    }
    return finish_output();
}

static int run_reference(const struct command *c, char **words, size_t n)
{
    struct strbuf text;
    if (asks_for_help(words, n)) {
        return print_help_of(c);
    }
    int code = take_no_words(c, words, n);
    if (code) {
        return code;
    }
    strbuf_init(&text, REFERENCE_MAX_BYTES);
    int rc = config_reference(&text);
    struct slice s = strbuf_slice(&text);
    if (rc) {
        fprintf(stderr, "tidegate: %.*s\n", (int)s.n, s.p);
        code = EX_SOFTWARE;
    } else {
        printf("%.*s", (int)s.n, s.p);
        code = finish_output();
    }
    strbuf_clear(&text);
    return code;
}

static int run_help(const struct command *c, char **words, size_t n);
static int run_completion(const struct command *c, char **words, size_t n);

/* Of a running broker only its address matters, of a database only where it is. */
static const struct option_row restart_rows[] = {
    CLI_ADMIN_ROW, CLI_CONF_ROW, CLI_HELP_ROW, {.name = NULL}};
static const struct option_row migrate_rows[] = {CLI_STORE_ROW, CLI_HELP_ROW, {.name = NULL}};

static const struct command commands[] = {
    {"init", "DIR [options]", "Writes a configuration and a policy to begin with.",
     cli_init_details, cli_init_rows, NULL, cli_init},
    {"serve", "[CONF] [options]", "Runs the broker in the foreground.",
     "SIGTERM or SIGINT drains it: clients are told to reconnect, then it exits. A second signal\n"
     "ends it at once. The options override the file, so that several brokers can run side by side.\n"
     "The process is the supervisor of its workers: it restarts those that crash, and replaces them\n"
     "one by one on `tidegate restart`.\n",
     serve_rows, run_serve, NULL},
    {"check", "[CONF] [options]", "Checks a configuration and its policy; reports all errors.",
     cli_check_details, cli_check_rows, NULL, cli_check},
    {"eval", "HOOK [CONF] [options]", "Runs one hook of the policy and shows its decision.",
     cli_eval_details, cli_eval_rows, NULL, cli_eval},
    {"explain", "[CONF] --conn ID|--who FIELD=VALUE --event ID [options]",
     "Says why a client got an event, or did not.", remote_explain_details, remote_explain_rows,
     NULL, remote_explain},
    {"test", "PATH... [options] [-- busted options]", "Runs the unit tests of policies.",
     cli_test_details, cli_test_rows, NULL, cli_test},
    {"subscribe", "[TOPIC...] [options]", "Prints the events of a stream, and stays connected.",
     remote_subscribe_details, remote_subscribe_rows, NULL, remote_subscribe},
    {"publish", "TOPIC [DATA|-] [options]", "Publishes an event, or one for each line.",
     remote_publish_details, remote_publish_rows, NULL, remote_publish},
    {"token", "[verify TOKEN] [CONF] [options]", "Signs a token, or says why one is not valid.",
     cli_token_details, cli_token_rows, NULL, cli_token},
    {"doctor", "[CONF] [--url URL] [options]",
     "Examines the machine, the database and the way to clients.", doctor_details, doctor_rows,
     NULL, doctor},
    {"migrate", "[CONF] [options]", "Creates the schema in PostgreSQL, or brings it up to date.",
     "Run it as the role that the broker connects as: that role must own the schema. It may run\n"
     "while brokers serve, and several times at once. Exit codes: 0 the schema is up to date; 69 it\n"
     "is not, with the reason; 78 a wrong configuration, or one without PostgreSQL.\n",
     migrate_rows, run_migrate, NULL},
    {"status", "[CONF] [options]", "Says how a running broker is.", remote_status_details,
     remote_status_rows, NULL, remote_status},
    {"connections", "[CONF] [options]", "Lists the open streams of a running broker.",
     remote_connections_details, remote_connections_rows, NULL, remote_connections},
    {"top", "[CONF] [options]", "Shows what a running broker does, once a second.",
     remote_top_details, remote_top_rows, NULL, remote_top},
    {"kick", "ID...|--tag TAG|--who FIELD=VALUE [options]", "Closes streams of a running broker.",
     remote_kick_details, remote_kick_rows, NULL, remote_kick},
    {"reload", "[CONF] [options]", "Loads the policy of a running broker again.",
     remote_reload_details, remote_reload_rows, NULL, remote_reload},
    {"rollback", "[CONF] [options]", "Puts the previous policy back into effect.",
     remote_rollback_details, remote_rollback_rows, NULL, remote_rollback},
    {"erase", "[CONF] --topic PATTERN [options]",
     "Erases events from the store of a running broker.", remote_erase_details, remote_erase_rows,
     NULL, remote_erase},
    {"drain", "[CONF] [options]", "Ends a running broker as SIGTERM does.", remote_drain_details,
     remote_drain_rows, NULL, remote_drain},
    {"restart", "[CONF] [options]", "Replaces the workers of a running broker, one by one.",
     "Sends the request to the admin address of CONF and waits for the end. The new workers run the\n"
     "program on disk with the configuration as it is now, if both pass the check.\n"
     "Exit codes: 0 all workers are new; 69 they are not, with the reason.\n",
     restart_rows, run_restart, NULL},
    {"completion", "bash|zsh|fish", "Prints a script that completes commands and options.",
     completion_details, NULL, run_completion, NULL},
    {"config-reference", "", "Prints every setting of a configuration, as Markdown.", NULL, NULL,
     run_reference, NULL},
    {"version", "", "Prints the version of this program and of its libraries.", NULL, NULL,
     run_version, NULL},
    {"help", "[COMMAND]", "Lists the commands, or describes COMMAND.", NULL, NULL, run_help, NULL},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
    }
    const char *near = nearest_name(names, COMMAND_COUNT, slice_str(name));
    fprintf(stderr, "tidegate: %s: unknown command%s%s%s\n(see: tidegate help)\n", name,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return EX_USAGE;
}

static int print_overview(void)
{
    printf("usage: tidegate COMMAND [arguments]\n\n"
           "A Server-Sent-Events broker whose policies are written in Lua.\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &commands[i];
        printf("  %-18s%s\n", c->name, c->summary);
    }
    printf("\n`tidegate help COMMAND` describes a command. To try the broker:\n\n"
           "  tidegate init my-broker\n");
    return finish_output();
}

static int run_help(const struct command *c, char **words, size_t n)
{
    (void)c;
    if (n == 0 || asks_for_help(words, n)) {
        return print_overview();
    }
    const struct command *about = find_command(words[0]);
    if (!about) {
        return unknown_command(words[0]);
    }
    int code = take_no_words(c, words + 1, n - 1);
    return code ? code : print_help_of(about);
}

static int run_completion(const struct command *c, char **words, size_t n)
{
    if (asks_for_help(words, n)) {
        return print_help_of(c);
    }
    if (n != 1 || !completion_print(words[0], commands, COMMAND_COUNT)) {
        fprintf(stderr, "tidegate completion: bash, zsh or fish was expected\n"
                        "(see: tidegate help completion)\n");
        return EX_USAGE;
    }
    return finish_output();
}

/* 1 of `explain` is an answer, too: what could not be written counts more than any code. */
static int commands_finish(const struct command *c, int code)
{
    if (code == CLI_HELP) {
        return print_help_of(c);
    }
    int written = finish_output();
    return written ? written : code;
}

int commands_run(int argc, char **argv)
{
    if (argc < 2) {
        int code = print_overview();
        return code ? code : EX_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        name = "version";
    }
    const struct command *c = find_command(name);
    if (!c) {
        return unknown_command(name);
    }
    char **words = argv + 2;
    size_t n = (size_t)argc - 2;
    return c->run ? c->run(c, words, n) : commands_finish(c, c->run_words(words, n));
}
