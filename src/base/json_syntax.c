#include "base/json_syntax.h"

#include "base/utf8.h"

#include <stdint.h>
#include <stdio.h>

/* Which brackets are open: one bit a level, 1 for an object. */
struct scan {
    const char *p, *end;
    uint8_t open[JSON_SYNTAX_DEPTH_MAX / 8];
    unsigned depth;
};

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
        s->p++;
    }
}

static bool take(struct scan *s, char c)
{
    if (s->p < s->end && *s->p == c) {
        s->p++;
        return true;
    }
    return false;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) {
        return false;
    }
    s->p += n;
    return true;
}

static bool take_digits(struct scan *s)
{
    const char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return s->p > start;
}

/* RFC 8259, 6: no leading zero, a digit on both sides of the point. */
static bool take_number(struct scan *s)
{
    take(s, '-');
    if (!take(s, '0') && !take_digits(s)) {
        return false;
    }
    if (take(s, '.') && !take_digits(s)) {
        return false;
    }
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+')) {
            take(s, '-');
        }
        return take_digits(s);
    }
    return true;
}

static bool take_escape(struct scan *s)
{
    if (s->p == s->end) {
        return false;
    }
    char c = *s->p++;
    if (c != 'u') {
        return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
    }
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end || *s->p == '\0' || !strchr("0123456789abcdefABCDEF", *s->p)) {
            return false;
        }
    }
    return true;
}

static bool take_string(struct scan *s)
{
    if (!take(s, '"')) {
        return false;
    }
    while (s->p < s->end) {
        unsigned char c = (unsigned char)*s->p++;
        if (c == '"') {
            return true;
        }
        if (c < 0x20 || (c == '\\' && !take_escape(s))) {
            return false;
        }
    }
    return false;
}

static bool take_scalar(struct scan *s)
{
    if (s->p == s->end) {
        return false;
    }
    switch (*s->p) {
    case '"':
        return take_string(s);
    case 't':
        return take_word(s, "true");
    case 'f':
        return take_word(s, "false");
    case 'n':
        return take_word(s, "null");
    default:
        return take_number(s);
    }
}

static bool in_object(const struct scan *s)
{
    unsigned level = s->depth - 1;
    return ((unsigned)s->open[level / 8] >> (level % 8)) & 1U;
}

static bool take_key(struct scan *s)
{
    skip_space(s);
    if (!take_string(s)) {
        return false;
    }
    skip_space(s);
    return take(s, ':');
}

/* Opens brackets until a value is complete. False: not JSON. *complete: a scalar or an empty
 * container was taken. */
static bool take_opening(struct scan *s, bool *complete)
{
    *complete = false;
    bool object = s->p < s->end && *s->p == '{';
    if (!object && !(s->p < s->end && *s->p == '[')) {
        *complete = true;
        return take_scalar(s);
    }
    s->p++;
    skip_space(s);
    if (take(s, object ? '}' : ']')) {
        *complete = true;
        return true;
    }
    if (s->depth == JSON_SYNTAX_DEPTH_MAX) {
        return false;
    }
    uint8_t bit = (uint8_t)(1U << (s->depth % 8));
    s->open[s->depth / 8] =
        object ? (uint8_t)(s->open[s->depth / 8] | bit) : (uint8_t)(s->open[s->depth / 8] & ~bit);
    s->depth++;
    return !object || take_key(s);
}

/* After a complete value: closes brackets until a comma asks for more, or the outermost is shut. */
static bool take_closing(struct scan *s)
{
    while (s->depth) {
        skip_space(s);
        bool object = in_object(s);
        if (take(s, ',')) {
            return !object || take_key(s);
        }
        if (!take(s, object ? '}' : ']')) {
            return false;
        }
        s->depth--;
    }
    return true;
}

bool json_syntax_ok(struct slice text)
{
    struct scan s = {.p = text.p, .end = text.p ? text.p + text.n : NULL};
    do {
        bool complete;
        skip_space(&s);
        if (!take_opening(&s, &complete)) {
            return false;
        }
        if (complete && !take_closing(&s)) {
            return false;
        }
        if (complete && s.depth == 0) {
            skip_space(&s);
            return s.p == s.end;
        }
    } while (s.p < s.end);
    return false;
}

/* The escape of a byte that JSON text cannot hold as it is (RFC 8259 7); NULL: none needed. */
static const char *json_escape(unsigned char c, char room[8])
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        if (c >= 0x20) {
            return NULL;
        }
        snprintf(room, 8, "\\u%04x", c);
        return room;
    }
}

int json_syntax_quote(struct strbuf *out, struct slice text)
{
    size_t before = out->len, plain = 0;
    int rc = strbuf_append(out, "\"", 1);
    for (size_t i = 0; i < text.n && rc == 0;) {
        char room[8];
        bool valid;
        size_t n = utf8_step(text.p + i, text.n - i, &valid);
        const char *instead =
            valid ? json_escape((unsigned char)text.p[i], room) : "\xef\xbf\xbd"; /* U+FFFD */
        if (instead) {
            rc = strbuf_append(out, text.p + plain, i - plain);
            rc = rc ? rc : strbuf_append_str(out, instead);
            plain = i + n;
        }
        i += n;
    }
    if (rc == 0 && text.n > plain) {
        rc = strbuf_append(out, text.p + plain, text.n - plain);
    }
    rc = rc ? rc : strbuf_append(out, "\"", 1);
    if (rc) {
        out->len = before; /* nothing half written */
        if (out->data) {
            out->data[before] = '\0';
        }
    }
    return rc;
}
