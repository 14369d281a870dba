#include "bench/wire/bench_mark.h"

static const char opening[] = "tgb.";
enum { OPENING_BYTES = sizeof opening - 1, RUN_DIGITS = 8, DIGITS_MAX = 19 };

static char *bench_mark_put_number(char *p, uint64_t n, char end)
{
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    while (count) {
        *p++ = digits[--count];
    }
    *p++ = end;
    return p;
}

size_t bench_mark_write(char out[BENCH_MARK_MAX], const struct bench_mark *m)
{
    char *p = out + OPENING_BYTES;
    memcpy(out, opening, OPENING_BYTES);
    for (int shift = 28; shift >= 0; shift -= 4) {
        *p++ = "0123456789abcdef"[(m->run >> shift) & 15];
    }
    *p++ = '.';
    p = bench_mark_put_number(p, m->topic, '.');
    p = bench_mark_put_number(p, m->seq, '.');
    p = bench_mark_put_number(p, m->sent_ns, '~');
    return (size_t)(p - out);
}

static bool bench_mark_take_number(struct slice *rest, char end, uint64_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; i < rest->n && rest->p[i] >= '0' && rest->p[i] <= '9'; i++) {
        n = n * 10 + (unsigned)(rest->p[i] - '0');
    }
    if (i == 0 || i > DIGITS_MAX || i == rest->n || rest->p[i] != end) {
        return false; /* none, more than surely fit, or something else behind them */
    }
    *rest = slice_of(rest->p + i + 1, rest->n - i - 1);
    *out = n;
    return true;
}

static bool take_run(struct slice *rest, uint32_t *out)
{
    uint32_t run = 0;
    if (rest->n <= RUN_DIGITS || rest->p[RUN_DIGITS] != '.') {
        return false;
    }
    for (unsigned i = 0; i < RUN_DIGITS; i++) {
        char c = rest->p[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && (c < 'a' || c > 'f')) {
            return false;
        }
        run = run << 4 | (uint32_t)(digit ? c - '0' : c - 'a' + 10);
    }
    *rest = slice_of(rest->p + RUN_DIGITS + 1, rest->n - RUN_DIGITS - 1);
    *out = run;
    return true;
}

/* `text` stands behind the opening. */
static bool read_mark(struct slice text, struct bench_mark *out)
{
    uint64_t topic = 0;
    if (!take_run(&text, &out->run) || !bench_mark_take_number(&text, '.', &topic) ||
        !bench_mark_take_number(&text, '.', &out->seq) ||
        !bench_mark_take_number(&text, '~', &out->sent_ns)) {
        return false;
    }
    out->topic = (uint32_t)topic;
    return topic <= UINT32_MAX;
}

bool bench_mark_find(struct slice text, struct bench_mark *out, size_t *at)
{
    const char *p = text.p, *end = text.p + text.n;
    while (p && (size_t)(end - p) > OPENING_BYTES) {
        p = memcmp(p, opening, OPENING_BYTES) == 0
                ? p
                : memmem(p, (size_t)(end - p), opening, OPENING_BYTES);
        if (!p) {
            return false;
        }
        p += OPENING_BYTES;
        if (read_mark(slice_of(p, (size_t)(end - p)), out)) {
            *at = (size_t)(p - text.p) - OPENING_BYTES;
            return true;
        }
    }
    return false;
}
