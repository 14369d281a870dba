#include "base/nearest.h"

#include <string.h>

enum { NAME_MAX_COMPARED = 48 };

/* Levenshtein. */
size_t nearest_distance(const char *a, const char *b)
{
    size_t la = strnlen(a, NAME_MAX_COMPARED), lb = strnlen(b, NAME_MAX_COMPARED);
    size_t row[NAME_MAX_COMPARED + 1];
    for (size_t j = 0; j <= lb; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[lb];
}

const char *nearest_name(const char *const *names, size_t n, const char *given)
{
    const char *nearest = NULL;
    size_t least = strnlen(given, NAME_MAX_COMPARED) / 2 + 1;
    for (size_t i = 0; i < n; i++) {
        size_t d = nearest_distance(names[i], given);
        if (d < least) {
            least = d;
            nearest = names[i];
        }
    }
    return nearest;
}
