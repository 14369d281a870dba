/* Words of the command line -> options; wrong ones get a message with the nearest right one. */
#ifndef CLI_CLI_OPTIONS_H
#define CLI_CLI_OPTIONS_H

#include "config/config.h"

enum { CLI_LISTEN_MAX = 64 }; /* as many as config_schema.lua allows */

struct cli_options {
    const char *conf; /* the file; NULL: none was given */
    const char *listen[CLI_LISTEN_MAX];
    struct config_overrides overrides; /* .listen points into this struct: do not copy it */
    bool help;
};

/* `words` are those after the command. 0, or UV_EINVAL after a message on stderr. Texts are
 * borrowed from `words`. */
int cli_options_parse(struct cli_options *out, const char *command, char **words, size_t n);
/* What every option means, for the help texts. */
#define CLI_OPTIONS_HELP                                                                           \
    "  --listen HOST:PORT  where clients connect, or unix:/path; repeat it for several.\n"         \
    "                      Replaces the list of the file.\n"                                       \
    "  --admin HOST:PORT   address of health, metrics and operations; \"none\": no listener\n"     \
    "  --store DIR         directory of the database, or a connection string of PostgreSQL\n"      \
    "                      (\"dbname=app\", postgresql://...), which is visible in `ps`\n"         \
    "  --policy FILE       the policy\n"                                                           \
    "  --workers N         processes that share the addresses and the store, or \"auto\"\n"        \
    "  --help              this text\n"
extern const char cli_options_help[];

#endif
