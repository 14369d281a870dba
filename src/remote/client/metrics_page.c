#include "remote/client/metrics_page.h"

#include <stdlib.h>
#include <string.h>

/* "NAME{LABELS} VALUE" or "NAME VALUE" at the start of `line`? */
static const char *metrics_page_value(const char *line, size_t n, const char *name,
                                      const char *label)
{
    size_t name_n = strlen(name);
    if (n <= name_n || memcmp(line, name, name_n) != 0) {
        return NULL;
    }
    const char *rest = line + name_n, *end = line + n;
    if (*rest == ' ') {
        return label ? NULL : rest + 1;
    }
    const char *close = *rest == '{' ? memchr(rest, '}', (size_t)(end - rest)) : NULL;
    if (!close || close + 1 >= end || close[1] != ' ' ||
        (label && !memmem(rest, (size_t)(close - rest), label, strlen(label)))) {
        return NULL;
    }
    return close + 2;
}

double metrics_page_sum(const char *page, const char *name, const char *label, bool *found)
{
    double sum = 0;
    *found = false;
    while (*page) {
        size_t n = strcspn(page, "\n");
        const char *value = metrics_page_value(page, n, name, label);
        if (value) {
            sum += strtod(value, NULL);
            *found = true;
        }
        page += n + (page[n] == '\n');
    }
    return sum;
}
