/* The options that commands on a configuration have in common. */
#ifndef CLI_CLI_OPTIONS_H
#define CLI_CLI_OPTIONS_H

#include "base/program/options.h"
#include "config/config.h"

enum {
    CLI_LISTEN_MAX = 64, /* as many as config_schema.lua allows */
    CLI_SETTINGS_MAX = POLICY_SETTINGS_MAX,
    CLI_HELP = -1, /* an exit code: the command's help was asked for */
};

struct cli_options {
    const char *conf; /* the file; NULL: none was given */
    const char *listen[CLI_LISTEN_MAX], *settings[CLI_SETTINGS_MAX];
    struct config_overrides overrides; /* points into this struct: do not copy it */
    bool help;
};

/* Of a struct with a list of words, and how many there are. */
#define CLI_SETTING_ROW(type, list, count)                                                                           \
    OPTION_ROW(                                                                                                      \
        "--setting", "NAME=VALUE",                                                                                   \
        "a setting of the policy, instead of that in policy.settings; repeat it for several. It is visible in `ps`", \
        OPTION_LIST, offsetof(type, list), .max = CLI_SETTINGS_MAX,                                                  \
        .count_at = offsetof(type, count), .many = "settings")

/* Rows for a struct that begins with a struct cli_options. */
#define CLI_ADMIN_ROW                                                                              \
    OPTION_ROW("--admin", "HOST:PORT",                                                             \
               "address of health, metrics and operations; \"none\": no listener", OPTION_TEXT,    \
               offsetof(struct cli_options, overrides.admin))
#define CLI_STORE_ROW                                                                              \
    OPTION_ROW("--store", "DIR",                                                                   \
               "directory of the database, or a connection string of PostgreSQL (\"dbname=app\", " \
               "postgresql://...), which is visible in `ps`",                                      \
               OPTION_TEXT, offsetof(struct cli_options, overrides.store))
#define CLI_CONF_ROW                                                                               \
    OPTION_ROW("--conf", "CONF", "the broker's configuration", OPTION_TEXT,                        \
               offsetof(struct cli_options, conf))
#define CLI_HELP_ROW                                                                               \
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct cli_options, help))
#define CLI_OPTION_ROWS                                                                                \
    OPTION_ROW(                                                                                        \
        "--listen", "HOST:PORT",                                                                       \
        "where clients connect, or unix:/path; repeat it for several. Replaces the list of the file.", \
        OPTION_LIST, offsetof(struct cli_options, listen), .max = CLI_LISTEN_MAX,                      \
        .count_at = offsetof(struct cli_options, overrides.listen_count), .many = "addresses"),        \
        CLI_ADMIN_ROW, CLI_STORE_ROW,                                                                  \
        OPTION_ROW("--policy", "FILE", "the policy", OPTION_TEXT,                                      \
                   offsetof(struct cli_options, overrides.policy)),                                    \
        CLI_SETTING_ROW(struct cli_options, settings, overrides.setting_count),                        \
        OPTION_ROW("--workers", "N",                                                                   \
                   "processes that share the addresses and the store, or \"auto\"", OPTION_TEXT,       \
                   offsetof(struct cli_options, overrides.workers)),                                   \
        CLI_HELP_ROW
extern const struct option_row cli_option_rows[];

/* `words` are those after the command, and are left as they are. `out` begins the struct that the
 * rows of `o` are for. 0, or EX_USAGE after a message on stderr. Texts are borrowed from `words`. */
int cli_options_parse(const struct options *o, struct cli_options *out, char **words, size_t n);

#endif
