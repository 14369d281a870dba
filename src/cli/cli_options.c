/* See cli_options.h. */
#include "cli/cli_options.h"

const struct option_row cli_option_rows[] = {CLI_OPTION_ROWS, {.name = NULL}};

int cli_options_parse(const struct options *o, struct cli_options *out, char **words, size_t n)
{
    char *rest[2];
    size_t count = 2;
    out->overrides.listen = out->listen;
    out->overrides.settings = out->settings;
    int rc = options_parse(o, out, words, n, rest, &count);
    if (rc == 0 && !out->help && count + (out->conf != NULL) > 1) {
        rc = options_refuse(o, rest[count - 1], "one configuration file is enough");
    }
    out->conf = count ? rest[0] : out->conf;
    return rc;
}
