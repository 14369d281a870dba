/* Options of a command line out of one table: read, refused with what was probably meant, explained.
 *
 * Not getopt_long(): it takes beginnings of names, so that a new option can break a script; takes
 * `--store --listen x` for a store named "--listen"; and says neither what was meant nor where help
 * is. Both `--name value` and `--name=value` are understood, `--` ends the options. */
#ifndef BASE_PROGRAM_OPTIONS_H
#define BASE_PROGRAM_OPTIONS_H

#include <stddef.h>

enum option_kind {
    OPTION_FLAG,  /* bool: true */
    OPTION_CLEAR, /* bool: false */
    OPTION_HELP,  /* the same as a flag, also as -h; nothing behind it is read */
    OPTION_TEXT,  /* const char *; once */
    OPTION_MAYBE, /* const char *: what stands behind "=", or "" where there is none */
    OPTION_LIST,  /* const char *[max], and how many as size_t at `count_at` */
    OPTION_COUNT, /* uint64_t from min to max; the last one counts */
    OPTION_REAL,  /* double from min to max; the same */
};

struct option_row {
    const char *name;  /* "--store"; NULL ends the table */
    const char *value; /* "DIR": in the help; NULL: takes none */
    const char *help;
    enum option_kind kind;
    size_t at; /* offset in what options_parse() fills */
    double min, max;
    size_t count_at;  /* of a list */
    const char *many; /* of a list: "addresses" */
};

/* OPTION_ROW("--size", "BYTES", "of a payload", OPTION_COUNT, offsetof(struct s, size), .max = 9) */
#define OPTION_ROW(n, v, h, k, ...)                                                                \
    {                                                                                              \
        .name = n, .value = v, .help = h, .kind = k, .at = __VA_ARGS__                             \
    }

struct options {
    const char *program, *command; /* "tidegate", "check"; the second may be NULL */
    const struct option_row *rows;
};

/* Texts are borrowed from `words`. What is no option goes to `rest`, which has room for *rest_n of
 * them, and may be `words`. 0, or EX_USAGE after a message on stderr. */
int options_parse(const struct options *o, void *into, char **words, size_t n, char **rest,
                  size_t *rest_n);
/* Says on stderr what is wrong about a word, and where help is. Returns EX_USAGE. */
__attribute__((format(printf, 3, 4))) int options_refuse(const struct options *o, const char *about,
                                                         const char *fmt, ...);
/* On stdout in lines of at most 80 columns: lines that begin with a space are left as they are, others
 * are joined to paragraphs. */
void options_print_text(const char *text);
/* One paragraph, from column `at` on. */
void options_print_indented(const char *text, size_t at);
/* What the options mean, on stdout, in lines of at most 80 columns. */
void options_print(const struct option_row *rows);

#endif
