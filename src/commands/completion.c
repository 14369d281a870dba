#include "commands/completion.h"

#include "cli/cli_tools.h"

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

/* The first sentence or so of a help, of whole words, between single quotes; without what is syntax there. */
static void completion_put_text(const char *text, size_t most)
{
    size_t n = 0;
    while (text[n] && n < most && !strchr(".;", text[n]) && strncmp(text + n, ": ", 2) != 0) {
        n++;
    }
    while (n == most && most > 0 && text[most] && text[most] != ' ') {
        n = --most;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\'') {
            printf("'\\''");
        } else {
            putchar(strchr("\"`$\\[]:", text[i]) ? ' ' : text[i]);
        }
    }
}

/* What may follow a command, besides options; NULL ends it. `help` takes the names of commands, too. */
static const char *const *completion_words(const char *command)
{
    static const char *const shells[] = {"bash", "zsh", "fish", NULL};
    static const char *const token[] = {"verify", NULL};
    static const char *const none[] = {NULL};
    return strcmp(command, "completion") == 0 ? shells
           : strcmp(command, "eval") == 0     ? cli_eval_hooks()
           : strcmp(command, "token") == 0    ? token
                                              : none;
}

static void completion_put_words(const char *command, const struct command *commands, size_t n)
{
    for (const char *const *word = completion_words(command); *word; word++) {
        printf("%s ", *word);
    }
    for (size_t i = 0; i < n && strcmp(command, "help") == 0; i++) {
        printf("%s ", commands[i].name);
    }
}

/* Whether files may follow, too. */
static bool completion_takes_files(const char *command)
{
    return strcmp(command, "help") != 0 && strcmp(command, "completion") != 0;
}

static bool completion_has_words(const char *command)
{
    return *completion_words(command) || !completion_takes_files(command);
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
        completion_put_words(commands[i].name, commands, n);
        printf("' ;;\n");
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
           "    shift words\n"
           "    (( CURRENT-- ))\n"
           "    case $words[1] in\n");
    for (size_t i = 0; i < n; i++) {
        const char *name = commands[i].name;
        printf("    %s) _arguments -s", name);
        for (const struct option_row *r = commands[i].rows; r && r->name; r++) {
            printf(" \\\n        '%s%s[", r->kind == OPTION_LIST ? "*" : "", r->name);
            completion_put_text(r->help, 60);
            printf("]");
            if (r->value && r->kind != OPTION_MAYBE) {
                printf(":");
                completion_put_text(r->value, 40);
                printf(":%s", completion_is_file(r) ? "_files" : "");
            }
            printf("'");
        }
        if (completion_has_words(name)) {
            printf(" '1: : _alternative \"words:word:(");
            completion_put_words(name, commands, n);
            printf(")\"%s'", completion_takes_files(name) ? " files:file:_files" : "");
        }
        printf("%s ;;\n", completion_takes_files(name) ? " '*:file:_files'" : "");
    }
    /* as a file of $fpath it is the body of the function at its first call */
    printf("    esac\n}\n"
           "compdef _tidegate tidegate\n"
           "if [[ ${funcstack[1]} == _tidegate ]]; then\n    _tidegate \"$@\"\nfi\n");
}

static void completion_fish(const struct command *commands, size_t n)
{
    printf("function __tidegate_command\n"
           "    set -l words (commandline -opc)\n"
           "    test (count $words) -gt 1; and test $words[2] = $argv[1]\n"
           "end\n");
    for (size_t i = 0; i < n; i++) {
        const struct command *c = &commands[i];
        printf("complete -c tidegate -f -n __fish_use_subcommand -a %s -d '", c->name);
        completion_put_text(c->summary, 100);
        printf("'\n");
        for (const struct option_row *r = c->rows; r && r->name; r++) {
            bool is_long = strncmp(r->name, "--", 2) == 0;
            printf("complete -c tidegate -n '__tidegate_command %s' %s %s%s -d '", c->name,
                   is_long ? "-l" : "-s", r->name + (is_long ? 2 : 1),
                   completion_is_file(r)                 ? " -r -F"
                   : r->value && r->kind != OPTION_MAYBE ? " -x"
                                                         : "");
            completion_put_text(r->help, 60);
            printf("'\n");
        }
        if (completion_has_words(c->name)) {
            printf("complete -c tidegate%s -n '__tidegate_command %s' -a '",
                   completion_takes_files(c->name) ? "" : " -f", c->name);
            completion_put_words(c->name, commands, n);
            printf("'\n");
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
