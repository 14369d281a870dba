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
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static bool uri_triplet(struct slice s, size_t at)
{
    return s.p[at] == '%' && s.n - at >= 3 && hex_value(s.p[at + 1]) >= 0 &&
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
        } else if (c != '-' && c != '.' && c != '~' && uri_unreserved(c)) {
            n++;
        } else {
            break;
        }
    }
    bool ok = n > dot;
    *s = slice_of(s->p + n, s->n - n);
    return ok;
}

static struct uri_expression uri_operator(char sign)
{
    switch (sign) {
    case '+':
        return (struct uri_expression){.separator = ',', .reserved = true};
    case '#':
        return (struct uri_expression){.first = '#', .separator = ',', .reserved = true};
    case '.':
    case '/':
        return (struct uri_expression){.first = sign, .separator = sign};
    case ';':
        return (struct uri_expression){.first = ';', .separator = ';', .equals = true};
    case '?':
    case '&':
        return (struct uri_expression){.first = sign, .separator = '&', .equals = true};
    default:
        return (struct uri_expression){.separator = ','};
    }
}

/* What is between the braces. */
static bool uri_read_expression(struct slice s, struct uri_expression *out)
{
    *out = uri_operator(s.n ? *s.p : '\0');
    if (out->first || out->reserved) {
        s = slice_of(s.p + 1, s.n - 1);
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
    switch (s.p[at]) {
    case '"':
    case '<':
    case '>':
    case '\\':
    case '^':
    case '`':
    case '|':
    case '}':
    case 0x7f:
        return false;
    case '%':
        return uri_triplet(s, at);
    default:
        return (unsigned char)s.p[at] > ' ';
    }
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

static bool uri_reserved(char c)
{
    return c != '\0' && strchr(":/?#[]@!$&'()*+,;=", c) != NULL;
}

/* Where the expression may end. `left` has for each place one more than the separators that may still come there. */
static void uri_skip_expression(struct text_places *p, struct slice text,
                                const struct uri_expression *e)
{
    uint8_t left[URI_TEMPLATE_TEXT_MAX_BYTES + 4];
    unsigned most = e->separators == UINT8_MAX ? UINT8_MAX : e->separators + 1U;
    size_t begun = p->high,
           last = p->high; /* places from before; the last one that may be reached */
    memset(left + p->low, 0, text.n - p->low + 4);
    for (size_t i = p->low; i <= last; i++) {
        char c = i < text.n ? text.p[i] : '\0';
        bool begins = i <= begun && p->at[i];
        size_t next = i;
        if (begins && !e->first) {
            uri_raise(&left[i], most);
        } else if (begins && i < text.n && c == e->first) {
            uri_raise(&left[i + 1], most);
            next = i + 1;
        }
        p->at[i] = begins || left[i];
        if (left[i] && i < text.n) {
            unsigned rest = left[i];
            if (uri_triplet(text, i)) {
                uri_raise(&left[i + 3], rest);
                next = i + 3;
            } else if (uri_unreserved(c) || c == ',' || (c == '=' && e->equals) ||
                       (e->reserved && uri_reserved(c))) {
                uri_raise(&left[i + 1], rest);
                next = next > i + 1 ? next : i + 1;
            } else if (c == e->separator && rest > 1) {
                uri_raise(&left[i + 1], rest == UINT8_MAX ? UINT8_MAX : rest - 1U);
                next = next > i + 1 ? next : i + 1;
            }
        }
        last = last > next ? last : next;
    }
    p->high = last;
}

bool uri_template_fits(struct slice template, struct slice text)
{
    struct text_places places;
    struct slice literal, rest = template;
    struct uri_expression e;
    if (slice_eq(template, text)) {
        return true;
    }
    if (!template.p || !text.p || text.n > URI_TEMPLATE_TEXT_MAX_BYTES ||
        template.n > URI_TEMPLATE_MAX_BYTES) {
        return false;
    }
    /* most texts begin otherwise, and that is all there is to it */
    const char *brace = memchr(template.p, '{', template.n);
    size_t begin = brace ? (size_t)(brace - template.p) : 0;
    if (!brace || text.n < begin || memcmp(text.p, template.p, begin) != 0) {
        return false;
    }
    text_places_init(&places);
    for (unsigned expressions = 0; expressions <= URI_TEMPLATE_EXPRESSIONS_MAX;) {
        switch (uri_take_part(&rest, &literal, &e)) {
        case PART_LITERAL:
            if (!text_places_skip(&places, text, literal)) {
                return false;
            }
            break;
        case PART_EXPRESSION:
            uri_skip_expression(&places, text, &e);
            expressions++;
            break;
        case PART_NONE:
            return text_places_at_end(&places, text);
        case PART_BAD:
            return false;
        }
    }
    return false;
}
