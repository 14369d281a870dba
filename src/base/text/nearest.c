#include "base/text/nearest.h"

#include <string.h>

enum { NAME_MAX_COMPARED = 64 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t nearest_distance(struct slice a, struct slice b)
{
    if (a.n > NAME_MAX_COMPARED || b.n > NAME_MAX_COMPARED) {
        return NAME_MAX_COMPARED;
    }
    size_t rows[3][NAME_MAX_COMPARED + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b.n; j++) {
        last[j] = j;
    }
    for (size_t i = 1; i <= a.n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            bool same = lower(a.p[i - 1]) == lower(b.p[j - 1]);
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + !same);
            if (i > 1 && j > 1 && lower(a.p[i - 1]) == lower(b.p[j - 2]) &&
                lower(a.p[i - 2]) == lower(b.p[j - 1])) {
                row[j] = least(row[j], before[j - 2] + 1);
            }
        }
        size_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b.n];
}

const char *nearest_name(const char *const *names, size_t n, struct slice given)
{
    const char *nearest = NULL;
    size_t third = given.n / 3;
    size_t best = (given.n < 4 ? 1 : third > 2 ? third : 2) + 1;
    for (size_t i = 0; i < n; i++) {
        size_t d = nearest_distance(given, slice_str(names[i]));
        if (d < best && d < strlen(names[i])) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}
