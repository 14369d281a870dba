/* Each part of the template, a literal or an expression, moves the places of the text on that it may reach. */
#include "base/text/uri_template.h"

#include "base/text/hex.h"
#include "base/text/text_places.h"

/* One expression: `first` and what may follow it, or nothing. */
struct uri_expression {
    char first, separator; /* first '\0': none */
    bool reserved;         /* also what means something in a URI */
    bool equals;           /* '=' between names and values */
    uint8_t separators;    /* at most so many; UINT8_MAX: any number of them */
};

enum uri_part { PART_NONE, PART_LITERAL, PART_EXPRESSION, PART_BAD };

static bool uri_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

static bool uri_triplet(struct slice s, size_t at)
{
    return s.n - at >= 3 && s.p[at] == '%' && hex_value(s.p[at + 1]) >= 0 &&
           hex_value(s.p[at + 2]) >= 0;
}

/* Moves `s` behind a name of the template; false: there is none. */
static bool uri_take_name(struct slice *s)
{
    size_t n = 0, dot = 0; /* a dot stands between two others */
    while (n < s->n) {
        char c = s->p[n];
        if (uri_triplet(*s, n)) {
            n += 3;
        } else if (c == '.' && n > dot) {
            dot = ++n;
        } else if (c != '-' && c != '.' && c != '~' && (c == '_' || uri_unreserved(c))) {
            n++;
        } else {
            break;
        }
    }
    bool ok = n > dot;
    *s = slice_of(s->p + n, s->n - n);
    return ok;
}

/* What is between the braces. */
static bool uri_read_expression(struct slice s, struct uri_expression *out)
{
    static const struct {
        char sign;
        struct uri_expression e;
    } operators[] = {
        {'+', {.separator = ',', .reserved = true}},
        {'#', {.first = '#', .separator = ',', .reserved = true}},
        {'.', {.first = '.', .separator = '.'}},
        {'/', {.first = '/', .separator = '/'}},
        {';', {.first = ';', .separator = ';', .equals = true}},
        {'?', {.first = '?', .separator = '&', .equals = true}},
        {'&', {.first = '&', .separator = '&', .equals = true}},
    };
    *out = (struct uri_expression){.separator = ','};
    for (size_t i = 0; s.n > 0 && i < sizeof operators / sizeof *operators; i++) {
        if (*s.p == operators[i].sign) {
            *out = operators[i].e;
            s = slice_of(s.p + 1, s.n - 1);
            break;
        }
    }
    for (unsigned n = 0; n < URI_TEMPLATE_VARIABLES_MAX; n++) {
        if (!uri_take_name(&s)) {
            return false;
        }
        if (s.n > 0 && *s.p == '*') {
            out->equals = true;
            out->separators = UINT8_MAX;
            s = slice_of(s.p + 1, s.n - 1);
        }
        if (s.n == 0) {
            return true;
        }
        if (*s.p != ',') {
            return false;
        }
        s = slice_of(s.p + 1, s.n - 1);
        if (out->separators < UINT8_MAX) {
            out->separators++;
        }
    }
    return false;
}

static bool uri_literal_ok(struct slice s, size_t at)
{
    unsigned char c = (unsigned char)s.p[at];
    return c > ' ' && c != 0x7f && !strchr("\"<>\\^`|}", c) && (c != '%' || uri_triplet(s, at));
}

/* Takes the next part off the template. */
static enum uri_part uri_take_part(struct slice *t, struct slice *literal, struct uri_expression *e)
{
    size_t n = 0;
    if (t->n == 0) {
        return PART_NONE;
    }
    if (*t->p == '{') {
        const char *end = memchr(t->p, '}', t->n);
        if (!end || !uri_read_expression(slice_of(t->p + 1, (size_t)(end - t->p) - 1), e)) {
            return PART_BAD;
        }
        *t = slice_of(end + 1, t->n - (size_t)(end + 1 - t->p));
        return PART_EXPRESSION;
    }
    while (n < t->n && t->p[n] != '{') {
        if (!uri_literal_ok(*t, n)) {
            return PART_BAD;
        }
        n++;
    }
    *literal = slice_of(t->p, n);
    *t = slice_of(t->p + n, t->n - n);
    return PART_LITERAL;
}

bool uri_template_ok(struct slice template)
{
    struct slice literal;
    struct uri_expression e;
    unsigned expressions = 0;
    if (template.n > URI_TEMPLATE_MAX_BYTES) {
        return false;
    }
    for (;;) {
        switch (uri_take_part(&template, &literal, &e)) {
        case PART_NONE:
            return expressions > 0;
        case PART_LITERAL:
            break;
        case PART_EXPRESSION:
            if (++expressions > URI_TEMPLATE_EXPRESSIONS_MAX) {
                return false;
            }
            break;
        case PART_BAD:
            return false;
        }
    }
}

/* ---- the places that it reaches */

static void uri_raise(uint8_t *left, unsigned least)
{
    *left = *left < least ? (uint8_t)least : *left;
}

/* Where the expression may end. `left` has for each place one more than the separators that may still come there. */
static void uri_skip_expression(struct slice text, const struct uri_expression *e, uint8_t *at)
{
    uint8_t left[URI_TEMPLATE_TEXT_MAX_BYTES + 4] = {0};
    unsigned most = e->separators == UINT8_MAX ? UINT8_MAX : e->separators + 1U;
    for (size_t i = 0; i <= text.n; i++) {
        char c = i < text.n ? text.p[i] : '\0';
        if (at[i] && !e->first) {
            uri_raise(&left[i], most);
        } else if (at[i] && i < text.n && c == e->first) {
            uri_raise(&left[i + 1], most);
        }
        if (!left[i]) {
            continue;
        }
        at[i] = 1;
        if (i == text.n) {
            break;
        }
        if (uri_triplet(text, i)) {
            uri_raise(&left[i + 3], left[i]);
        } else if (uri_unreserved(c) || c == ',' || (c == '=' && e->equals) ||
                   (e->reserved && c && strchr(":/?#[]@!$&'()*+,;=", c))) {
            uri_raise(&left[i + 1], left[i]);
        } else if (c == e->separator && left[i] > 1) {
            uri_raise(&left[i + 1], left[i] == UINT8_MAX ? UINT8_MAX : left[i] - 1U);
        }
    }
}

bool uri_template_fits(struct slice template, struct slice text)
{
    uint8_t at[URI_TEMPLATE_TEXT_MAX_BYTES + 1];
    struct slice literal, rest = template;
    struct uri_expression e;
    if (slice_eq(template, text)) {
        return true;
    }
    if (!template.p || !text.p || text.n > URI_TEMPLATE_TEXT_MAX_BYTES) {
        return false;
    }
    /* most texts begin otherwise, and that is all there is to it */
    const char *brace = memchr(template.p, '{', template.n);
    size_t begin = brace ? (size_t)(brace - template.p) : template.n;
    if (text.n < begin || memcmp(text.p, template.p, begin) != 0 || !uri_template_ok(template)) {
        return false;
    }
    memset(at, 0, text.n + 1);
    at[0] = 1;
    for (;;) {
        switch (uri_take_part(&rest, &literal, &e)) {
        case PART_LITERAL:
            if (!text_places_skip(text, literal, at)) {
                return false;
            }
            break;
        case PART_EXPRESSION:
            uri_skip_expression(text, &e, at);
            break;
        case PART_NONE:
            return at[text.n];
        case PART_BAD:
            return false;
        }
    }
}
