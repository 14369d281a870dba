#include "base/text/json_text.h"

#include "base/utf8.h"

#include <stdint.h>
#include <stdio.h>

static bool json_text_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* ---------------------------------------------------------------- is it JSON? */

/* Which brackets are open: one bit a level, 1 for an object. */
struct json_scan {
    const char *p, *end;
    const char *wrong; /* of the first fault */
    uint8_t open[JSON_TEXT_DEPTH_MAX / 8];
    unsigned depth;
    bool pairs; /* half a surrogate pair is a fault */
};

static bool json_scan_fail(struct json_scan *s, const char *wrong)
{
    s->wrong = wrong;
    return false;
}

static void json_scan_skip_space(struct json_scan *s)
{
    while (s->p < s->end && json_text_is_space(*s->p)) {
        s->p++;
    }
}

static bool json_scan_take(struct json_scan *s, char c)
{
    if (s->p < s->end && *s->p == c) {
        s->p++;
        return true;
    }
    return false;
}

static bool json_scan_take_word(struct json_scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) {
        return json_scan_fail(s, "expected a value");
    }
    s->p += n;
    return true;
}

static bool json_scan_take_digits(struct json_scan *s)
{
    const char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return s->p > start || json_scan_fail(s, "expected a digit");
}

/* RFC 8259, 6: no leading zero, a digit on both sides of the point. */
static bool json_scan_take_number(struct json_scan *s)
{
    bool negative = json_scan_take(s, '-');
    if (!json_scan_take(s, '0') && !json_scan_take_digits(s)) {
        return negative ? false : json_scan_fail(s, "expected a value");
    }
    if (json_scan_take(s, '.') && !json_scan_take_digits(s)) {
        return false;
    }
    if (json_scan_take(s, 'e') || json_scan_take(s, 'E')) {
        if (!json_scan_take(s, '+')) {
            json_scan_take(s, '-');
        }
        return json_scan_take_digits(s);
    }
    return true;
}

static unsigned json_text_hex4(const char *p)
{
    unsigned n = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
        n = n << 4 | (digit & 0xf);
    }
    return n;
}

/* The four digits behind "\u". */
static bool json_scan_take_hex4(struct json_scan *s, unsigned *code)
{
    const char *start = s->p;
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end || *s->p == '\0' || !strchr("0123456789abcdefABCDEF", *s->p)) {
            return json_scan_fail(s, "expected four hexadecimal digits");
        }
    }
    *code = json_text_hex4(start);
    return true;
}

/* Behind "\uXXXX": the other half, where the code is one (RFC 8259, 7). */
static bool json_scan_take_pair(struct json_scan *s, unsigned code)
{
    unsigned low = 0;
    if (!s->pairs || code < 0xd800 || code > 0xdfff) {
        return true;
    }
    bool paired = code < 0xdc00 && json_scan_take(s, '\\') && json_scan_take(s, 'u') &&
                  json_scan_take_hex4(s, &low) && low >= 0xdc00 && low <= 0xdfff;
    return paired || json_scan_fail(s, "half of a surrogate pair is no character");
}

static bool json_scan_take_escape(struct json_scan *s)
{
    unsigned code;
    if (s->p == s->end) {
        return json_scan_fail(s, "the string does not end");
    }
    char c = *s->p++;
    if (c != 'u') {
        bool known = c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
        return known || json_scan_fail(s, "unknown escape");
    }
    return json_scan_take_hex4(s, &code) && json_scan_take_pair(s, code);
}

static bool json_scan_take_string(struct json_scan *s)
{
    if (!json_scan_take(s, '"')) {
        return json_scan_fail(s, "expected a string");
    }
    while (s->p < s->end) {
        unsigned char c = (unsigned char)*s->p++;
        if (c == '"') {
            return true;
        }
        if (c < 0x20) {
            return json_scan_fail(s, "a control character in a string must be escaped");
        }
        if (c == '\\' && !json_scan_take_escape(s)) {
            return false;
        }
    }
    return json_scan_fail(s, "the string does not end");
}

static bool json_scan_take_scalar(struct json_scan *s)
{
    if (s->p == s->end) {
        return json_scan_fail(s, "expected a value");
    }
    switch (*s->p) {
    case '"':
        return json_scan_take_string(s);
    case 't':
        return json_scan_take_word(s, "true");
    case 'f':
        return json_scan_take_word(s, "false");
    case 'n':
        return json_scan_take_word(s, "null");
    default:
        return json_scan_take_number(s);
    }
}

static bool json_scan_in_object(const struct json_scan *s)
{
    unsigned level = s->depth - 1;
    return ((unsigned)s->open[level / 8] >> (level % 8)) & 1U;
}

static bool json_scan_take_key(struct json_scan *s)
{
    json_scan_skip_space(s);
    if (!json_scan_take_string(s)) {
        return false;
    }
    json_scan_skip_space(s);
    return json_scan_take(s, ':') || json_scan_fail(s, "expected ':'");
}

/* Opens brackets until a value is complete. False: not JSON. *complete: a scalar or an empty
 * container was taken. */
static bool json_scan_take_opening(struct json_scan *s, bool *complete)
{
    *complete = false;
    bool object = s->p < s->end && *s->p == '{';
    if (!object && !(s->p < s->end && *s->p == '[')) {
        *complete = true;
        return json_scan_take_scalar(s);
    }
    s->p++;
    json_scan_skip_space(s);
    if (json_scan_take(s, object ? '}' : ']')) {
        *complete = true;
        return true;
    }
    if (s->depth == JSON_TEXT_DEPTH_MAX) {
        return json_scan_fail(s, "nested more than 512 deep");
    }
    uint8_t bit = (uint8_t)(1U << (s->depth % 8));
    s->open[s->depth / 8] =
        object ? (uint8_t)(s->open[s->depth / 8] | bit) : (uint8_t)(s->open[s->depth / 8] & ~bit);
    s->depth++;
    return !object || json_scan_take_key(s);
}

/* After a complete value: closes brackets until a comma asks for more, or the outermost is shut. */
static bool json_scan_take_closing(struct json_scan *s)
{
    while (s->depth) {
        json_scan_skip_space(s);
        bool object = json_scan_in_object(s);
        if (json_scan_take(s, ',')) {
            return !object || json_scan_take_key(s);
        }
        if (!json_scan_take(s, object ? '}' : ']')) {
            return json_scan_fail(s, object ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        s->depth--;
    }
    return true;
}

/* Moves over one value. */
static bool json_scan_value(struct json_scan *s)
{
    bool complete;
    do {
        json_scan_skip_space(s);
        if (!json_scan_take_opening(s, &complete) || (complete && !json_scan_take_closing(s))) {
            return false;
        }
    } while (s->depth || !complete);
    return true;
}

bool json_text_ok(struct slice text)
{
    struct json_scan s = {.p = text.p, .end = text.p ? text.p + text.n : NULL};
    if (!json_scan_value(&s)) {
        return false;
    }
    json_scan_skip_space(&s);
    return s.p == s.end;
}

const char *json_text_checked_value(struct slice *rest, struct slice *value)
{
    json_text_skip(rest);
    struct json_scan s = {.p = rest->p,
                          .end = rest->p ? rest->p + rest->n : NULL,
                          .pairs = rest->p && rest->n && *rest->p == '"'}; /* all else stays text */
    bool ok = json_scan_value(&s);
    size_t n = rest->n ? (size_t)(s.p - rest->p) : 0;
    *value = slice_of(rest->p, n);
    *rest = slice_of(rest->p + n, rest->n - n);
    return ok ? NULL : s.wrong;
}

/* ---------------------------------------------------------------- cutting */

/* Length of the string that begins at text.p[0], with its quotes; 0: it does not end. */
static size_t json_text_string_size(struct slice text)
{
    for (size_t i = 1; i < text.n; i++) {
        if (text.p[i] == '\\') {
            i++;
        } else if (text.p[i] == '"') {
            return i + 1;
        }
    }
    return 0;
}

/* Length of the array or object that begins at text.p[0]; 0: it does not end. */
static size_t json_text_container_size(struct slice text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '"') {
            size_t n = json_text_string_size(slice_of(text.p + i, text.n - i));
            if (n == 0) {
                return 0;
            }
            i += n - 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

static bool json_text_is_mark(char c)
{
    return c == ',' || c == ':' || c == ']' || c == '}' || c == '[' || c == '{' || c == '"';
}

static size_t json_text_literal_size(struct slice text)
{
    size_t n = 0;
    while (n < text.n && !json_text_is_space(text.p[n]) && !json_text_is_mark(text.p[n])) {
        n++;
    }
    return n;
}

void json_text_skip(struct slice *rest)
{
    while (rest->n && json_text_is_space(*rest->p)) {
        *rest = slice_of(rest->p + 1, rest->n - 1);
    }
}

bool json_text_take(struct slice *rest, char c)
{
    json_text_skip(rest);
    if (rest->n == 0 || *rest->p != c) {
        return false;
    }
    *rest = slice_of(rest->p + 1, rest->n - 1);
    return true;
}

bool json_text_value(struct slice *rest, struct slice *value)
{
    json_text_skip(rest);
    if (rest->n == 0) {
        return false;
    }
    char c = *rest->p;
    size_t n = c == '"'               ? json_text_string_size(*rest)
               : c == '{' || c == '[' ? json_text_container_size(*rest)
                                      : json_text_literal_size(*rest);
    *value = slice_of(rest->p, n);
    *rest = slice_of(rest->p + n, rest->n - n);
    return n > 0;
}

size_t json_text_compact(char *out, struct slice text)
{
    size_t at = 0;
    for (size_t i = 0; i < text.n;) {
        size_t start = i;
        while (i < text.n && !json_text_is_space(text.p[i])) {
            size_t size = 1;
            if (text.p[i] == '"') {
                size = json_text_string_size(slice_of(text.p + i, text.n - i));
            }
            i = size ? i + size : text.n;
        }
        if (out) {
            memcpy(out + at, text.p + start, i - start);
        }
        at += i - start;
        while (i < text.n && json_text_is_space(text.p[i])) {
            i++;
        }
    }
    return at;
}

/* ---------------------------------------------------------------- strings */

/* The escape of a byte that JSON text cannot hold as it is (RFC 8259 7); NULL: none needed. */
static const char *json_text_escape(unsigned char c, char room[8])
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

int json_text_quote(struct strbuf *out, struct slice text)
{
    size_t before = out->len, plain = 0;
    int rc = strbuf_append(out, "\"", 1);
    for (size_t i = 0; i < text.n && rc == 0;) {
        char room[8];
        bool valid;
        size_t n = utf8_step(text.p + i, text.n - i, &valid);
        const char *instead =
            valid ? json_text_escape((unsigned char)text.p[i], room) : "\xef\xbf\xbd"; /* U+FFFD */
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

static size_t json_text_utf8_put(char out[4], unsigned code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[n] | code);
    return n;
}

/* The escape "\uXXXX" at p (p[0] is the 'u'), with the other half of a pair where there is one.
 * *used: bytes behind the backslash. RFC 8259, 7. */
static size_t json_text_decode_unicode(const char *p, const char *end, char out[4], size_t *used)
{
    *used = 5;
    if (end - p < 5) {
        *used = (size_t)(end - p);
        return json_text_utf8_put(out, 0xfffd);
    }
    unsigned code = json_text_hex4(p + 1);
    if (code < 0xd800 || code > 0xdfff) {
        return json_text_utf8_put(out, code);
    }
    if (code < 0xdc00 && end - p >= 11 && p[5] == '\\' && p[6] == 'u') {
        unsigned low = json_text_hex4(p + 7);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *used = 11;
            return json_text_utf8_put(out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
        }
    }
    return json_text_utf8_put(out, 0xfffd);
}

/* The character at *p, decoded; *p moves behind it. */
static size_t json_text_decode_step(const char **p, const char *end, char out[4])
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (**p != '\\' || end - *p < 2) {
        out[0] = *(*p)++;
        return 1;
    }
    char c = (*p)[1];
    if (c == 'u') {
        size_t used;
        size_t n = json_text_decode_unicode(*p + 1, end, out, &used);
        *p += 1 + used;
        return n;
    }
    const char *at = c ? strchr(from, c) : NULL;
    out[0] = at ? to[at - from] : c;
    *p += 2;
    return 1;
}

size_t json_text_string(char *out, struct slice raw)
{
    size_t n = 0;
    const char *end = raw.p + raw.n - 1;
    for (const char *p = raw.p + 1; p < end;) {
        char one[4];
        size_t more = json_text_decode_step(&p, end, one); /* never more than it was written with */
        if (out) {
            memcpy(out + n, one, more);
        }
        n += more;
    }
    return n;
}

bool json_text_string_is(struct slice raw, struct slice text)
{
    const char *p = raw.p + 1, *end = raw.p + raw.n - 1;
    if (!memchr(p, '\\', (size_t)(end - p))) {
        return slice_eq(slice_of(p, (size_t)(end - p)), text);
    }
    size_t at = 0;
    while (p < end) {
        char one[4];
        size_t n = json_text_decode_step(&p, end, one);
        if (n > text.n - at || memcmp(one, text.p + at, n) != 0) {
            return false;
        }
        at += n;
    }
    return at == text.n;
}

/* ---------------------------------------------------------------- members */

bool json_text_member(struct slice object, struct slice name, struct slice *value)
{
    struct slice key, one;
    if (!object.p || !json_text_take(&object, '{')) {
        return false;
    }
    while (json_text_value(&object, &key) && json_text_take(&object, ':') &&
           json_text_value(&object, &one)) {
        if (json_text_string_is(key, name)) {
            *value = one;
            return true;
        }
        if (!json_text_take(&object, ',')) {
            break;
        }
    }
    return false;
}
