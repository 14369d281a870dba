/* See cli_options.h. */
#include "cli/cli_options.h"

#include "base/nearest.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

const char cli_options_help[] = CLI_OPTIONS_HELP;

static const char *const names[] = {"--listen", "--admin",   "--store",
                                    "--policy", "--workers", "--help"};
enum { NAME_COUNT = sizeof names / sizeof *names };

static int fail(const char *command, const char *what, const char *about)
{
    fprintf(stderr, "tidegate %s: %s: %s\n(see: tidegate help %s)\n", command, about, what,
            command);
    return UV_EINVAL;
}

static int unknown_option(const char *command, const char *word, size_t len)
{
    const char *near = nearest_name(names, NAME_COUNT, slice_of(word, len));
    fprintf(stderr, "tidegate %s: %.*s: unknown option%s%s%s\n(see: tidegate help %s)\n", command,
            (int)len, word, near ? "; did you mean " : "", near ? near : "", near ? "?" : "",
            command);
    return UV_EINVAL;
}

static int set_option(struct cli_options *o, const char *command, const char *name,
                      const char *value)
{
    struct config_overrides *to = &o->overrides;
    const char **slot = NULL;
    if (strcmp(name, "--listen") == 0) {
        if (to->listen_count == CLI_LISTEN_MAX) {
            return fail(command, "at most 64 addresses", name);
        }
        o->listen[to->listen_count++] = value;
        return 0;
    }
    if (strcmp(name, "--admin") == 0) {
        slot = &to->admin;
    } else if (strcmp(name, "--store") == 0) {
        slot = &to->store;
    } else if (strcmp(name, "--workers") == 0) {
        slot = &to->workers;
    } else {
        slot = &to->policy;
    }
    if (*slot) {
        return fail(command, "given twice", name);
    }
    *slot = value;
    return 0;
}

/* `words[*i]` starts with "-"; moves *i to the option's last word. */
static int parse_option(struct cli_options *o, const char *command, char **words, size_t n,
                        size_t *i)
{
    const char *word = words[*i];
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    const char *name = NULL;
    for (size_t k = 0; k < NAME_COUNT; k++) {
        if (strlen(names[k]) == len && memcmp(names[k], word, len) == 0) {
            name = names[k];
        }
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        o->help = true;
        return 0;
    }
    if (!name || strcmp(name, "--help") == 0) {
        return unknown_option(command, word, len);
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!equals) {
        if (*i + 1 == n || strncmp(words[*i + 1], "--", 2) == 0) {
            return fail(command, "needs a value", name);
        }
        value = words[++*i];
    }
    if (*value == '\0') {
        return fail(command, "needs a value that is not empty", name);
    }
    return set_option(o, command, name, value);
}

int cli_options_parse(struct cli_options *out, const char *command, char **words, size_t n)
{
    *out = (struct cli_options){.conf = NULL};
    out->overrides.listen = out->listen;
    for (size_t i = 0; i < n; i++) {
        if (words[i][0] == '-' && words[i][1] != '\0') {
            int rc = parse_option(out, command, words, n, &i);
            if (rc) {
                return rc;
            }
        } else if (out->conf) {
            return fail(command, "one configuration file is enough", words[i]);
        } else {
            out->conf = words[i];
        }
    }
    return 0;
}
