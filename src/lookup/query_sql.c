/* See query_sql.h. Lexical rules: PostgreSQL's manual, 4.1 "Lexical Structure". SQLite knows no
 * dollar quotes, no nested comments and no E'' strings; what it reads differently it refuses when
 * the query is prepared. */
#include "lookup/query_sql.h"

#include <stdint.h>
#include <stdio.h>
#include <uv.h>

struct scan {
    const char *p, *end;
    const char *problem; /* NULL: none so far */
    uint32_t seen;       /* bit n - 1: $n occurs */
    bool ended;          /* a ';' was there: only blanks and comments may follow */
    struct slice first;  /* first word */
};

static bool query_sql_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool query_sql_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool query_sql_at(const struct scan *s, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(s->end - s->p) >= n && memcmp(s->p, text, n) == 0;
}

static void skip_line(struct scan *s)
{
    while (s->p < s->end && *s->p != '\n') {
        s->p++;
    }
}

/* They nest. */
static void skip_comment(struct scan *s)
{
    unsigned depth = 0;
    do {
        if (query_sql_at(s, "/*")) {
            depth++;
            s->p += 2;
        } else if (query_sql_at(s, "*/")) {
            depth--;
            s->p += 2;
        } else {
            s->p++;
        }
    } while (depth && s->p < s->end);
    if (depth) {
        s->problem = "a comment is not closed";
    }
}

/* From the opening quote on; a doubled one stands for itself. */
static void skip_quoted(struct scan *s, bool backslashes)
{
    char quote = *s->p++;
    while (s->p < s->end) {
        bool more = s->p + 1 < s->end;
        if (more && ((*s->p == quote && s->p[1] == quote) || (*s->p == '\\' && backslashes))) {
            s->p += 2;
        } else if (*s->p++ == quote) {
            return;
        }
    }
    s->problem = "a quote is not closed";
}

static void take_parameter(struct scan *s)
{
    unsigned n = 0;
    for (s->p++; s->p < s->end && query_sql_is_digit(*s->p); s->p++) {
        n = n <= QUERY_PARAMETERS_MAX ? n * 10 + (unsigned)(*s->p - '0') : n;
    }
    if (n == 0 || n > QUERY_PARAMETERS_MAX) {
        s->problem = "parameters are $1 to $32";
        return;
    }
    s->seen |= UINT32_C(1) << (n - 1);
}

/* $tag$ ... $tag$ */
static void skip_dollar(struct scan *s)
{
    const char *tag = s->p++;
    while (s->p < s->end && (query_sql_is_letter(*s->p) || query_sql_is_digit(*s->p))) {
        s->p++;
    }
    if (s->p == s->end || *s->p != '$') {
        s->problem = "a '$' stands alone: parameters are $1, $2 ...";
        return;
    }
    size_t n = (size_t)(++s->p - tag);
    for (; (size_t)(s->end - s->p) >= n; s->p++) {
        if (memcmp(s->p, tag, n) == 0) {
            s->p += n;
            return;
        }
    }
    s->problem = "a dollar quote is not closed";
}

static void take_word(struct scan *s)
{
    const char *from = s->p;
    while (s->p < s->end &&
           (query_sql_is_letter(*s->p) || query_sql_is_digit(*s->p) || *s->p == '$')) {
        s->p++;
    }
    struct slice word = slice_of(from, (size_t)(s->p - from));
    if (!s->first.p) {
        s->first = word;
    }
    if (slice_is_nocase(word, "e") && s->p < s->end && *s->p == '\'') {
        skip_quoted(s, true);
    }
}

static void take_one(struct scan *s)
{
    char c = *s->p;
    if (is_blank(c)) {
        s->p++;
        return;
    }
    if (query_sql_at(s, "--")) {
        skip_line(s);
        return;
    }
    if (query_sql_at(s, "/*")) {
        skip_comment(s);
        return;
    }
    if (s->ended) {
        s->problem = "is more than one statement";
        return;
    }
    if (c == '\'' || c == '"') {
        skip_quoted(s, false);
    } else if (c == '$') {
        if (s->p + 1 < s->end && query_sql_is_digit(s->p[1])) {
            take_parameter(s);
        } else {
            skip_dollar(s);
        }
    } else if (query_sql_is_letter(c) || query_sql_is_digit(c)) {
        take_word(s);
    } else {
        s->ended = c == ';';
        s->p++;
    }
}

static bool is_look_up(struct slice word)
{
    return word.p && (slice_is_nocase(word, "select") || slice_is_nocase(word, "with") ||
                      slice_is_nocase(word, "values") || slice_is_nocase(word, "table"));
}

int query_sql_parameters(struct slice sql, struct err *e)
{
    struct scan s = {.p = sql.p, .end = sql.p + sql.n};
    int n = 0;
    if (sql.n > QUERY_SQL_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "is longer than %d bytes", (int)QUERY_SQL_MAX_BYTES);
    }
    if (sql.n && memchr(sql.p, '\0', sql.n)) {
        return err_set(e, UV_EINVAL, "has a NUL byte");
    }
    while (s.p < s.end && !s.problem) {
        take_one(&s);
    }
    if (!s.problem && !is_look_up(s.first)) {
        s.problem = "is no look-up: SELECT, WITH, VALUES or TABLE was expected first";
    }
    while (!s.problem && n < QUERY_PARAMETERS_MAX && s.seen >> n) {
        if (!(s.seen >> n & 1)) {
            s.problem = "skips a parameter: $1, $2 ... are used without gaps";
        }
        n++;
    }
    return s.problem ? err_set(e, UV_EINVAL, "%s", s.problem) : n;
}

void query_sql_place(const char *sql, size_t offset, struct err *e)
{
    char text[sizeof e->text];
    unsigned line = 1, column = 1;
    for (const char *p = sql; *p && p < sql + offset; p++) {
        bool first = ((unsigned char)*p & 0xc0) != 0x80; /* byte of a character */
        column = *p == '\n' ? 1 : column + first;
        line += *p == '\n';
    }
    (void)snprintf(text, sizeof text, "%s", e->text);
    (void)err_set(e, e->code, "%s (line %u, column %u)", text, line, column);
}
