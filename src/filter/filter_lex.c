/* Words of a filter text: Lua's, and $name. What Lua has and filters have not is refused with a
 * hint. */
#include "base/text/hex.h"
#include "filter/filter_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool filter_fail(struct filter_error *e, const char *text, size_t at, const char *fmt, ...)
{
    va_list ap;
    *e = (struct filter_error){.offset = at, .line = 1, .column = 1};
    for (size_t i = 0; i < at; i++) {
        e->column = text[i] == '\n' ? 1 : e->column + 1;
        e->line += text[i] == '\n';
    }
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return false;
}

static bool filter_lex_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool filter_lex_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool filter_is_keyword(struct slice name)
{
    static const char *const words[] = {"and",   "break", "do",       "else", "elseif", "end",
                                        "false", "for",   "function", "goto", "if",     "in",
                                        "local", "nil",   "not",      "or",   "repeat", "return",
                                        "then",  "true",  "until",    "while"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (slice_is(name, words[i])) {
            return true;
        }
    }
    return false;
}

static bool skip_space(struct filter_lexer *l)
{
    for (;;) {
        const char *p = l->text + l->at;
        if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
            l->at++;
        } else if (p[0] == '-' && p[1] == '-') {
            if (p[2] == '[') {
                return filter_fail(l->e, l->text, l->at,
                                   "comments end with their line here: --[ is not one");
            }
            l->at += strcspn(p, "\r\n");
        } else {
            return true;
        }
    }
}

static size_t name_size(const char *p)
{
    size_t n = 0;
    while (filter_lex_is_letter(p[n]) || (n && filter_lex_is_digit(p[n]))) {
        n++;
    }
    return n;
}

/* Lua 5.4 reference manual, 3.1: decimal numerals. */
static bool lex_number(struct filter_lexer *l, struct filter_token *out)
{
    const char *p = l->text + l->at, *start = p;
    bool whole = true;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        return filter_fail(l->e, l->text, l->at, "numbers are decimal here");
    }
    while (filter_lex_is_digit(*p)) {
        p++;
    }
    if (*p == '.') {
        whole = false;
        p++;
        while (filter_lex_is_digit(*p)) {
            p++;
        }
    }
    if (*p == 'e' || *p == 'E') {
        whole = false;
        p++;
        p += *p == '+' || *p == '-';
        if (!filter_lex_is_digit(*p)) {
            return filter_fail(l->e, l->text, l->at, "malformed number");
        }
        while (filter_lex_is_digit(*p)) {
            p++;
        }
    }
    if (filter_lex_is_letter(*p) || *p == '.') {
        return filter_fail(l->e, l->text, l->at, "malformed number");
    }
    out->kind = TOKEN_NUMBER;
    out->n = (size_t)(p - start);
    errno = 0;
    int64_t i = whole ? strtoll(start, NULL, 10) : 0;
    out->value = whole && errno == 0
                     ? (struct filter_value){.type = FILTER_INTEGER, .i = i}
                     : (struct filter_value){.type = FILTER_FLOAT, .f = strtod(start, NULL)};
    return true;
}

/* The escape at *p, behind its backslash. False: not one. */
static bool take_escape(const char **p, char *out)
{
    static const char from[] = "abfnrtv\\\"'", to[] = "\a\b\f\n\r\t\v\\\"'";
    char c = **p;
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        *out = to[at - from];
        *p += 1;
        return true;
    }
    if (c == 'x' && hex_value((*p)[1]) >= 0 && hex_value((*p)[2]) >= 0) {
        *out = (char)(hex_value((*p)[1]) * 16 + hex_value((*p)[2]));
        *p += 3;
        return true;
    }
    int n = 0, value = 0;
    while (n < 3 && filter_lex_is_digit((*p)[n])) {
        value = value * 10 + ((*p)[n++] - '0');
    }
    *out = (char)(unsigned char)value;
    *p += n;
    return n > 0 && value <= 255;
}

static bool lex_string(struct filter_lexer *l, struct filter_token *out)
{
    const char *p = l->text + l->at + 1, *end = l->text + l->n;
    char quote = l->text[l->at], *start = l->room;
    while (p < end && *p != quote) {
        if (*p == '\n' || *p == '\r') {
            return filter_fail(l->e, l->text, l->at, "the string does not end in its line");
        }
        if (*p != '\\') {
            *l->room++ = *p++;
            continue;
        }
        const char *backslash = p++;
        if (!take_escape(&p, l->room++)) {
            return filter_fail(
                l->e, l->text, (size_t)(backslash - l->text),
                "unknown escape; known are \\n \\r \\t \\a \\b \\f \\v \\\\ \\\" \\' "
                "\\xXX \\ddd");
        }
    }
    if (p == end) {
        return filter_fail(l->e, l->text, l->at, "the string does not end");
    }
    out->kind = TOKEN_STRING;
    out->n = (size_t)(p + 1 - (l->text + l->at));
    out->value =
        (struct filter_value){.type = FILTER_STRING, .s = {start, (size_t)(l->room - start)}};
    return true;
}

static bool lex_name(struct filter_lexer *l, struct filter_token *out)
{
    static const struct {
        const char *word;
        enum filter_token_kind kind;
    } words[] = {{"and", TOKEN_AND},
                 {"or", TOKEN_OR},
                 {"not", TOKEN_NOT},
                 {"true", TOKEN_TRUE},
                 {"false", TOKEN_FALSE}};
    out->n = name_size(l->text + l->at);
    out->text = slice_of(l->text + l->at, out->n);
    out->kind = TOKEN_NAME;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (slice_is(out->text, words[i].word)) {
            out->kind = words[i].kind;
        }
    }
    return true;
}

static bool lex_param(struct filter_lexer *l, struct filter_token *out)
{
    size_t n = name_size(l->text + l->at + 1);
    if (n == 0) {
        return filter_fail(l->e, l->text, l->at, "a name was expected behind $, as in $tenant");
    }
    out->kind = TOKEN_PARAM;
    out->n = n + 1;
    out->text = slice_of(l->text + l->at + 1, n);
    return true;
}

static bool filter_lex_refuse(const struct filter_lexer *l)
{
    static const struct {
        const char *sign, *hint;
    } hints[] = {
        {"!=", "not equal is ~="},
        {"&&", "say: and"},
        {"||", "say: or"},
        {"!", "say: not"},
        {"..", "filters cannot join strings"},
        {"=", "equal is =="},
        {"%", "filters cannot calculate"},
        {"*", "filters cannot calculate"},
        {"/", "filters cannot calculate"},
        {"+", "filters cannot calculate"},
        {"^", "filters cannot calculate"},
        {"#", "filters cannot take lengths"},
    };
    const char *p = l->text + l->at;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (strncmp(p, hints[i].sign, strlen(hints[i].sign)) == 0) {
            return filter_fail(l->e, l->text, l->at, "'%s': %s", hints[i].sign, hints[i].hint);
        }
    }
    unsigned char c = (unsigned char)*p;
    if (c >= 0x20 && c < 0x7f) {
        return filter_fail(l->e, l->text, l->at, "'%c' has no meaning here", c);
    }
    return filter_fail(l->e, l->text, l->at, "byte 0x%02x has no meaning here", c);
}

static bool lex_sign(const struct filter_lexer *l, struct filter_token *out)
{
    static const struct {
        const char *sign;
        enum filter_token_kind kind;
    } signs[] = {{"==", TOKEN_EQ},         {"~=", TOKEN_NE},   {"<=", TOKEN_LE},
                 {">=", TOKEN_GE},         {"<", TOKEN_LT},    {">", TOKEN_GT},
                 {"(", TOKEN_OPEN},        {")", TOKEN_CLOSE}, {"[", TOKEN_BRACKET},
                 {"]", TOKEN_BRACKET_END}, {",", TOKEN_COMMA}, {"-", TOKEN_MINUS}};
    const char *p = l->text + l->at;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        size_t n = strlen(signs[i].sign);
        if (strncmp(p, signs[i].sign, n) == 0) {
            out->kind = signs[i].kind;
            out->n = n;
            return true;
        }
    }
    if (*p == '.' && p[1] != '.') {
        out->kind = TOKEN_DOT;
        out->n = 1;
        return true;
    }
    return filter_lex_refuse(l);
}

bool filter_lex(struct filter_lexer *l, struct filter_token *out)
{
    if (!skip_space(l)) {
        return false;
    }
    const char *p = l->text + l->at;
    bool ok = true;
    *out = (struct filter_token){.kind = TOKEN_END, .at = l->at};
    if (l->at == l->n) {
        return true;
    }
    if (*p == '"' || *p == '\'') {
        ok = lex_string(l, out);
    } else if (filter_lex_is_digit(*p) || (*p == '.' && filter_lex_is_digit(p[1]))) {
        ok = lex_number(l, out);
    } else if (filter_lex_is_letter(*p)) {
        ok = lex_name(l, out);
    } else if (*p == '$') {
        ok = lex_param(l, out);
    } else {
        ok = lex_sign(l, out);
    }
    l->at += out->n;
    return ok;
}
