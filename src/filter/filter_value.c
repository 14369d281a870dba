#include "filter/filter_value.h"

#include "base/text/json_text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRINT_MAX_BYTES = 80 };

/* ---- comparing */

static enum filter_order order_of_ints(int64_t a, int64_t b)
{
    return a < b ? FILTER_LESS : a > b ? FILTER_GREATER : FILTER_EQUAL;
}

static enum filter_order order_of_floats(double a, double b)
{
    return a < b ? FILTER_LESS : a > b ? FILTER_GREATER : a >= b ? FILTER_EQUAL : FILTER_UNORDERED;
}

/* Without rounding the integer to a float: -2^63 and 2^63 are exact as floats. */
static enum filter_order order_of_mixed(int64_t i, double f)
{
    if (isnan(f)) {
        return FILTER_UNORDERED;
    }
    if (f >= 0x1p63) {
        return FILTER_LESS;
    }
    if (f < -0x1p63) {
        return FILTER_GREATER;
    }
    enum filter_order whole = order_of_ints(i, (int64_t)f); /* cut towards zero */
    return whole != FILTER_EQUAL ? whole : order_of_floats(0, f - trunc(f));
}

static enum filter_order reversed(enum filter_order o)
{
    return o == FILTER_LESS ? FILTER_GREATER : o == FILTER_GREATER ? FILTER_LESS : o;
}

/* By bytes, as Lua does in the C locale. */
static enum filter_order order_of_strings(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c == 0) {
        return a.n < b.n ? FILTER_LESS : a.n > b.n ? FILTER_GREATER : FILTER_EQUAL;
    }
    return c < 0 ? FILTER_LESS : FILTER_GREATER;
}

enum filter_order filter_value_compare(const struct filter_value *a, const struct filter_value *b)
{
    if (a->type == FILTER_STRING && b->type == FILTER_STRING) {
        return order_of_strings(a->s, b->s);
    }
    if (a->type == FILTER_INTEGER) {
        return b->type == FILTER_INTEGER ? order_of_ints(a->i, b->i)
               : b->type == FILTER_FLOAT ? order_of_mixed(a->i, b->f)
                                         : FILTER_DIFFERENT;
    }
    if (a->type == FILTER_FLOAT) {
        return b->type == FILTER_FLOAT     ? order_of_floats(a->f, b->f)
               : b->type == FILTER_INTEGER ? reversed(order_of_mixed(b->i, a->f))
                                           : FILTER_DIFFERENT;
    }
    if (a->type == FILTER_BOOLEAN && b->type == FILTER_BOOLEAN) {
        return a->b == b->b ? FILTER_EQUAL : FILTER_UNEQUAL;
    }
    return FILTER_DIFFERENT;
}

bool filter_value_equal(const struct filter_value *a, const struct filter_value *b)
{
    if (a->type == FILTER_STRING && b->type == FILTER_STRING) {
        return slice_eq(a->s, b->s);
    }
    return filter_value_compare(a, b) == FILTER_EQUAL;
}

/* ---- from JSON */

/* The text is followed by a mark of JSON or by NUL, where strtod() and strtoll() stop. */
static struct filter_value number_of(struct slice raw)
{
    bool whole =
        !memchr(raw.p, '.', raw.n) && !memchr(raw.p, 'e', raw.n) && !memchr(raw.p, 'E', raw.n);
    if (whole) {
        errno = 0;
        int64_t i = strtoll(raw.p, NULL, 10);
        if (errno == 0) {
            return (struct filter_value){.type = FILTER_INTEGER, .i = i};
        }
    }
    return (struct filter_value){.type = FILTER_FLOAT, .f = strtod(raw.p, NULL)};
}

static size_t digits(const char *p)
{
    return strspn(p, "0123456789");
}

/* Length of the numeral at p, which ends in NUL; 0: none. */
static size_t numeral_size(const char *p, bool *whole)
{
    const char *start = p;
    p += *p == '-' || *p == '+';
    size_t before = digits(p), behind = 0;
    p += before;
    *whole = *p != '.';
    if (!*whole) {
        behind = digits(p + 1);
        p += 1 + behind;
    }
    if (before + behind == 0) {
        return 0;
    }
    if (*p == 'e' || *p == 'E') {
        *whole = false;
        p++;
        p += *p == '-' || *p == '+';
        if (digits(p) == 0) {
            return 0;
        }
        p += digits(p);
    }
    return (size_t)(p - start);
}

bool filter_value_of_numeral(struct slice text, struct filter_value *out)
{
    static const char space[] = " \f\n\r\t\v";
    char copy[64];
    bool whole;
    if (text.n >= sizeof copy || memchr(text.p, '\0', text.n)) {
        return false;
    }
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    char *p = copy + strspn(copy, space);
    size_t n = numeral_size(p, &whole);
    if (n == 0 || p[n + strspn(p + n, space)] != '\0') {
        return false;
    }
    errno = 0;
    int64_t i = whole ? strtoll(p, NULL, 10) : 0;
    *out = whole && errno == 0 ? (struct filter_value){.type = FILTER_INTEGER, .i = i}
                               : (struct filter_value){.type = FILTER_FLOAT, .f = strtod(p, NULL)};
    return true;
}

size_t filter_value_room(struct slice raw)
{
    return raw.n && *raw.p == '"' && memchr(raw.p, '\\', raw.n) ? raw.n : 0;
}

struct filter_value filter_value_of_json(struct slice raw, char **room)
{
    switch (raw.n ? *raw.p : 'n') {
    case '"':
        if (filter_value_room(raw) == 0) {
            return (struct filter_value){.type = FILTER_STRING, .s = {raw.p + 1, raw.n - 2}};
        }
        struct slice decoded = slice_of(*room, json_text_string(*room, raw));
        *room += decoded.n;
        return (struct filter_value){.type = FILTER_STRING, .s = decoded};
    case 't':
    case 'f':
        return (struct filter_value){.type = FILTER_BOOLEAN, .b = *raw.p == 't'};
    case 'n':
        return (struct filter_value){.type = FILTER_MISSING};
    case '{':
    case '[':
        return (struct filter_value){.type = FILTER_JSON, .s = raw};
    default:
        return number_of(raw);
    }
}

/* ---- hashing, printing */

void filter_value_key(const struct filter_value *v, struct filter_key *out)
{
    struct filter_value n = *v;
    if (n.type == FILTER_FLOAT && n.f >= -0x1p63 && n.f < 0x1p63 && n.f - trunc(n.f) >= 0 &&
        n.f - trunc(n.f) <= 0) {
        n = (struct filter_value){.type = FILTER_INTEGER, .i = (int64_t)n.f};
    }
    out->bytes = slice_of(out->scratch, sizeof out->scratch);
    if (n.type == FILTER_STRING) {
        out->tag = 's';
        out->bytes = n.s;
    } else if (n.type == FILTER_INTEGER) {
        out->tag = 'i';
        memcpy(out->scratch, &n.i, sizeof n.i);
    } else if (n.type == FILTER_FLOAT) {
        out->tag = 'f';
        memcpy(out->scratch, &n.f, sizeof n.f);
    } else {
        out->tag = 'b';
        out->scratch[0] = n.type == FILTER_BOOLEAN ? (char)(n.b ? 1 : 0) : 2;
        out->bytes.n = 1;
    }
}

static int print_string(struct slice s, struct strbuf *out)
{
    bool cut = s.n > PRINT_MAX_BYTES;
    int rc = json_text_quote(out, slice_of(s.p, cut ? PRINT_MAX_BYTES : s.n));
    return rc || !cut ? rc : strbuf_append_str(out, "...");
}

static int print_list(const struct filter_value *v, struct strbuf *out)
{
    enum { LISTED_MAX = 8 };
    int rc = strbuf_append_str(out, "{");
    for (size_t i = 0; i < v->list.n && i < LISTED_MAX && rc == 0; i++) {
        rc = i ? strbuf_append_str(out, ", ") : 0;
        rc = rc ? rc : filter_value_print(&v->list.v[i], out); /* lists hold scalars only */
    }
    if (rc == 0 && v->list.n > LISTED_MAX) {
        rc = strbuf_printf(out, ", ... %zu in all", v->list.n);
    }
    return rc ? rc : strbuf_append_str(out, "}");
}

/* As short as it may be without becoming another number, and never like an integer. */
static int print_float(double f, struct strbuf *out)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, f);
        double again = strtod(text, NULL);
        if (again >= f && again <= f) {
            break;
        }
    }
    const char *tail = strpbrk(text, ".einf") ? "" : ".0";
    return strbuf_printf(out, "%s%s", text, tail);
}

int filter_value_print(const struct filter_value *v, struct strbuf *out)
{
    char room[ADDRESS_TEXT_MAX];
    switch (v->type) {
    case FILTER_MISSING:
        return strbuf_append_str(out, "nil");
    case FILTER_BOOLEAN:
        return strbuf_append_str(out, v->b ? "true" : "false");
    case FILTER_INTEGER:
        return strbuf_printf(out, "%" PRId64, v->i);
    case FILTER_FLOAT:
        return print_float(v->f, out);
    case FILTER_STRING:
        return print_string(v->s, out);
    case FILTER_LIST:
        return print_list(v, out);
    case FILTER_JSON:
        return strbuf_append_str(out, *v->s.p == '[' ? "[...]" : "{...}");
    case FILTER_NETWORK:
        peer_address_text(&v->network->base, room);
        return strbuf_append_str(out, room);
    }
    return 0;
}
