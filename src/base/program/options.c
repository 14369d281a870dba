#include "base/program/options.h"

#include "base/text/nearest.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { OPTIONS_MAX = 64, COLUMNS = 80, HELP_COLUMN_MAX = 24 };

int options_refuse(const struct options *o, const char *about, const char *fmt, ...)
{
    va_list ap;
    const char *space = o->command ? " " : "", *command = o->command ? o->command : "";
    fprintf(stderr, "%s%s%s: %s: ", o->program, space, command, about);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n(see: %s %s%s)\n", o->program, o->command ? "help " : "--help", command);
    return EX_USAGE;
}

static int options_unknown(const struct options *o, const char *word, size_t len)
{
    const char *names[OPTIONS_MAX];
    char about[64];
    size_t n = 0;
    for (const struct option_row *r = o->rows; r->name && n < OPTIONS_MAX; r++) {
        names[n++] = r->name;
    }
    snprintf(about, sizeof about, "%.*s", (int)len, word);
    const char *near = nearest_name(names, n, slice_of(word, len));
    return near ? options_refuse(o, about, "unknown option; did you mean %s?", near)
                : options_refuse(o, about, "unknown option");
}

static void *options_slot(void *into, size_t at)
{
    return (char *)into + at;
}

static int options_set_number(const struct options *o, const struct option_row *r, void *slot,
                              const char *text)
{
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    bool whole = r->kind == OPTION_REAL || value == floor(value);
    bool inside = value >= r->min && value <= r->max; /* false for what is not a number */
    if (errno || end == text || *end || !inside || !whole) {
        return options_refuse(o, r->name, "%s: expected %s from %.10g to %.10g", text,
                              r->kind == OPTION_REAL ? "a number" : "a whole number", r->min,
                              r->max);
    }
    if (r->kind == OPTION_REAL) {
        *(double *)slot = value;
    } else {
        *(uint64_t *)slot = (uint64_t)value;
    }
    return 0;
}

static int options_set(const struct options *o, const struct option_row *r, void *into,
                       const char *value, bool again)
{
    void *slot = options_slot(into, r->at);
    if (r->kind == OPTION_COUNT || r->kind == OPTION_REAL) {
        return options_set_number(o, r, slot, value);
    }
    if (*value == '\0') {
        return options_refuse(o, r->name, "needs a value that is not empty");
    }
    if (r->kind == OPTION_LIST) {
        size_t *count = options_slot(into, r->count_at);
        if (*count == (size_t)r->max) {
            return options_refuse(o, r->name, "at most %zu %s", *count, r->many);
        }
        ((const char **)slot)[(*count)++] = value;
    } else if (again) {
        return options_refuse(o, r->name, "given twice");
    } else {
        *(const char **)slot = value;
    }
    return 0;
}

static const struct option_row *options_find(const struct options *o, const char *word, size_t len)
{
    for (const struct option_row *r = o->rows; r->name; r++) {
        if ((strlen(r->name) == len && memcmp(r->name, word, len) == 0) ||
            (r->kind == OPTION_HELP && len == 2 && memcmp(word, "-h", 2) == 0)) {
            return r;
        }
    }
    return NULL;
}

int options_parse(const struct options *o, void *into, char **words, size_t n, char **rest,
                  size_t *rest_n)
{
    uint64_t seen = 0;
    size_t kept = 0;
    bool over = false;
    for (size_t i = 0; i < n; i++) {
        char *word = words[i];
        if (over || word[0] != '-' || word[1] == '\0') {
            if (kept == *rest_n) {
                return options_refuse(o, word, "unexpected argument");
            }
            rest[kept++] = word;
            continue;
        }
        over = strcmp(word, "--") == 0;
        if (over) {
            continue;
        }
        const char *equals = strchr(word, '=');
        size_t len = equals ? (size_t)(equals - word) : strlen(word);
        const struct option_row *r = options_find(o, word, len);
        if (!r) {
            return options_unknown(o, word, len);
        }
        if (r->kind == OPTION_MAYBE) {
            *(const char **)options_slot(into, r->at) = equals ? equals + 1 : "";
            continue;
        }
        if (!r->value) {
            if (equals) {
                return options_refuse(o, r->name, "takes no value");
            }
            *(bool *)options_slot(into, r->at) = r->kind != OPTION_CLEAR;
            if (r->kind == OPTION_HELP) {
                break;
            }
            continue;
        }
        if (!equals && (i + 1 == n || strncmp(words[i + 1], "--", 2) == 0)) {
            return options_refuse(o, r->name, "needs a value");
        }
        uint64_t bit = UINT64_C(1) << (r - o->rows);
        int rc = options_set(o, r, into, equals ? equals + 1 : words[++i], (seen & bit) != 0);
        if (rc) {
            return rc;
        }
        seen |= bit;
    }
    *rest_n = kept;
    return 0;
}

/* ---------------------------------------------------------------- help */

static size_t options_width(const struct option_row *r)
{
    size_t around = r->kind == OPTION_MAYBE ? 3 : 1; /* "[=" and "]"; a space */
    return strlen(r->name) + (r->value ? around + strlen(r->value) : 0);
}

/* Words of a line from column `at` on; answers the column behind them. */
static size_t options_print_line(const char *text, size_t n, size_t at, size_t column)
{
    const char *end = text + n;
    while (text < end) {
        size_t left = (size_t)(end - text);
        const char *space = memchr(text, ' ', left);
        size_t word = space ? (size_t)(space - text) : left;
        if (column > at && column + 1 + word > COLUMNS) {
            printf("\n%*s", (int)at, "");
            column = at;
        } else if (column > at) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word + (space != NULL);
    }
    return column;
}

void options_print_text(const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t line = strcspn(text, "\n");
        if (column && (line == 0 || *text == ' ')) {
            putchar('\n');
            column = 0;
        }
        if (line == 0 || *text == ' ') {
            printf("%.*s\n", (int)line, text);
        } else {
            column = options_print_line(text, line, 0, column);
        }
        text += line + (text[line] == '\n');
    }
    if (column) {
        putchar('\n');
    }
}

void options_print_indented(const char *text, size_t at)
{
    printf("%*s", (int)at, "");
    (void)options_print_line(text, strlen(text), at, at);
    putchar('\n');
}

void options_print(const struct option_row *rows)
{
    size_t at = 0;
    for (const struct option_row *r = rows; r->name; r++) {
        size_t w = options_width(r) + 4;
        at = w > at && w <= HELP_COLUMN_MAX ? w : at;
    }
    for (const struct option_row *r = rows; r->name; r++) {
        bool maybe = r->kind == OPTION_MAYBE;
        printf("  %s%s%s%s", r->name,
               maybe      ? "[="
               : r->value ? " "
                          : "",
               r->value ? r->value : "", maybe ? "]" : "");
        size_t column = 2 + options_width(r);
        if (column + 2 > at) {
            putchar('\n');
            column = 0;
        }
        printf("%*s", (int)(at - column), "");
        (void)options_print_line(r->help, strlen(r->help), at, at);
        putchar('\n');
    }
}
