#include "commands/completion.h"

#include <stdio.h>
#include <string.h>

const char completion_details[] =
    "Prints a script that completes commands, options and files:\n"
    "  bash  source <(tidegate completion bash)\n"
    "  zsh   source <(tidegate completion zsh)       after compinit\n"
    "  fish  tidegate completion fish | source\n"
    "\n"
    "In the shell's start-up file, or as a file where the shell looks for completions.\n";

/* Values that are files, as the options' tables name them. */
static bool completion_is_file(const struct option_row *r)
{
    return r->value && (strcmp(r->value, "FILE") == 0 || strcmp(r->value, "CONF") == 0 ||
                        strcmp(r->value, "DIR") == 0);
}

/* The first sentence or so of a help, without what shells would read. */
static void completion_put_text(const char *text, size_t most)
{
    for (size_t i = 0; text[i] && i < most; i++) {
        if (text[i] == '.' || text[i] == ';' || (text[i] == ':' && text[i + 1] == ' ')) {
            break;
        }
        putchar(strchr("'\"`$\\[]:", text[i]) ? ' ' : text[i]);
    }
}

/* What may follow a command, besides options and files. */
static const char *completion_words(const char *command)
{
    static const char *const words[][2] = {
        {"completion", "bash zsh fish"},
        {"eval", "authenticate subscribe publish filter format"}, /* tool_eval_hooks */
        {"token", "verify"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(command, words[i][0]) == 0) {
            return words[i][1];
        }
    }
    return "";
}

static void completion_bash(const struct command *commands, size_t n)
{
    printf("_tidegate() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words='");
    for (size_t i = 0; i < n; i++) {
        printf("%s%s", i ? " " : "", commands[i].name);
    }
    printf("'\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < n; i++) {
        printf("        %s) words='", commands[i].name);
        for (const struct option_row *r = commands[i].rows; r && r->name; r++) {
            printf("%s ", r->name);
        }
        if (strcmp(commands[i].name, "help") == 0) {
            for (size_t k = 0; k < n; k++) {
                printf("%s ", commands[k].name);
            }
        }
        printf("%s' ;;\n", completion_words(commands[i].name));
    }
    printf(
        "        esac\n    fi\n"
        "    case $cur in\n"
        "    @*) mapfile -t COMPREPLY < <(compgen -P @ -f -- \"${cur#@}\") ;;\n"
        "    *) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
        "    esac\n"
        "    if [ ${#COMPREPLY[@]} -eq 0 ] || { [[ $prev == --* ]] && [[ $cur != -* ]]; }; then\n"
        "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$cur\")\n"
        "    fi\n"
        "}\n"
        "complete -o filenames -F _tidegate tidegate\n");
}

static void completion_zsh(const struct command *commands, size_t n)
{
    printf("#compdef tidegate\n_tidegate() {\n"
           "    local -a commands=(\n");
    for (size_t i = 0; i < n; i++) {
        printf("        '%s:", commands[i].name);
        completion_put_text(commands[i].summary, 100);
        printf("'\n");
    }
    printf("    )\n"
           "    if (( CURRENT == 2 )); then\n"
           "        _describe command commands\n"
           "        return\n"
           "    fi\n"
           "    case $words[2] in\n");
    for (size_t i = 0; i < n; i++) {
        printf("    %s) _arguments -s", commands[i].name);
        for (const struct option_row *r = commands[i].rows; r && r->name; r++) {
            printf(" \\\n        '%s%s[", r->kind == OPTION_LIST ? "*" : "", r->name);
            completion_put_text(r->help, 60);
            printf("]");
            if (r->value) {
                printf(":");
                completion_put_text(r->value, 40);
                printf(":%s", completion_is_file(r) ? "_files" : "");
            }
            printf("'");
        }
        if (strcmp(commands[i].name, "help") == 0) {
            printf(" '*:command:(");
            for (size_t k = 0; k < n; k++) {
                printf("%s ", commands[k].name);
            }
            printf(")' ;;\n");
        } else if (strcmp(commands[i].name, "completion") == 0) {
            printf(" '*:shell:(bash zsh fish)' ;;\n");
        } else {
            printf(" '*:file:_files' ;;\n");
        }
    }
    /* as a file of $fpath it is the body of the function at its first call */
    printf("    esac\n}\n"
           "compdef _tidegate tidegate\n"
           "if [[ ${funcstack[1]} == _tidegate ]]; then\n    _tidegate \"$@\"\nfi\n");
}

static void completion_fish(const struct command *commands, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct command *c = &commands[i];
        printf("complete -c tidegate -n __fish_use_subcommand -a %s -d '", c->name);
        completion_put_text(c->summary, 100);
        printf("'\n");
        for (const struct option_row *r = c->rows; r && r->name; r++) {
            bool is_long = strncmp(r->name, "--", 2) == 0;
            printf("complete -c tidegate -n '__fish_seen_subcommand_from %s' %s %s%s -d '", c->name,
                   is_long ? "-l" : "-s", r->name + (is_long ? 2 : 1),
                   completion_is_file(r) ? " -r -F"
                   : r->value            ? " -x"
                                         : "");
            completion_put_text(r->help, 60);
            printf("'\n");
        }
        if (*completion_words(c->name)) {
            printf("complete -c tidegate -n '__fish_seen_subcommand_from %s' -a '%s'\n", c->name,
                   completion_words(c->name));
        }
    }
}

bool completion_print(const char *shell, const struct command *commands, size_t n)
{
    static const struct {
        const char *name;
        void (*print)(const struct command *commands, size_t n);
    } shells[] = {{"bash", completion_bash}, {"zsh", completion_zsh}, {"fish", completion_fish}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(shell, shells[i].name) == 0) {
            shells[i].print(commands, n);
            return true;
        }
    }
    return false;
}
