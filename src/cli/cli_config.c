/* See cli_config.h. */
#include "cli/cli_config.h"

#include "base/strbuf.h"
#include "cli/cli_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

enum { PROBLEMS_MAX_BYTES = 256 * 1024 };

/* The problems, one on each line, below a line that names the file. */
static void cli_config_print_problems(const char *command, const char *conf,
                                      const struct strbuf *problems)
{
    size_t count = 0;
    for (size_t i = 0; i < problems->len; i++) {
        count += problems->data[i] == '\n';
    }
    fprintf(stderr, "tidegate%s%s: %s: %zu problem%s\n", command ? " " : "", command ? command : "",
            conf ? conf : "the defaults", count, cli_plural((long long)count));
    const char *line = problems->data ? problems->data : "";
    while (*line) {
        size_t n = strcspn(line, "\n");
        fprintf(stderr, "  %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
}

int cli_config_load(const char *command, const char *conf, const struct config_overrides *overrides,
                    struct config *cfg)
{
    struct strbuf problems;
    strbuf_init(&problems, PROBLEMS_MAX_BYTES);
    int rc = config_load(cfg, conf, overrides, &problems);
    if (rc) {
        cli_config_print_problems(command, conf, &problems);
    }
    strbuf_clear(&problems);
    return rc == 0 ? 0 : rc == UV_EINVAL ? EX_CONFIG : EX_SOFTWARE;
}

const char *cli_config_default(const char *command)
{
    static const char *const places[] = {"tidegate.lua", "/etc/tidegate/tidegate.lua"};
    const char *found = getenv("TIDEGATE_CONF");
    bool named = found && *found;
    for (size_t i = 0; i < sizeof places / sizeof *places && !named; i++) {
        found = access(places[i], R_OK) == 0 ? places[i] : NULL;
        named = found != NULL;
    }
    if (named && command) {
        fprintf(stderr, "tidegate %s: uses the configuration %s\n", command, found);
    }
    return named ? found : NULL;
}
