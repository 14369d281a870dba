/* The places of a text that the beginning of a pattern may reach: at[i] is 1 where it may end before text[i]. Each part of
 * a pattern moves the set on, so nothing is tried twice, whatever the pattern. */
#ifndef BASE_TEXT_TEXT_PLACES_H
#define BASE_TEXT_TEXT_PLACES_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { TEXT_PLACES_MAX_BYTES = 1024 };

struct text_places {
    size_t low, high; /* the first and the last place; what at[] has elsewhere is not set */
    uint8_t at[TEXT_PLACES_MAX_BYTES + 1];
};

/* The beginning of the text. */
static inline void text_places_init(struct text_places *p)
{
    p->low = p->high = 0;
    p->at[0] = 1;
}

static inline bool text_places_at_end(const struct text_places *p, struct slice text)
{
    return p->high == text.n && p->at[text.n];
}

/* Moves it behind `literal`. False: no place is left. */
static inline bool text_places_skip(struct text_places *p, struct slice text, struct slice literal)
{
    size_t low = p->low, high = p->high;
    bool any = false;
    if (literal.n > text.n || low > text.n - literal.n) {
        return false;
    }
    high = high < text.n - literal.n ? high : text.n - literal.n;
    p->low = p->high = 0;
    for (size_t i = high + 1; i-- > low;) {
        bool fits = p->at[i] && memcmp(text.p + i, literal.p, literal.n) == 0;
        p->at[i + literal.n] = fits;
        p->low = fits ? i + literal.n : p->low;
        p->high = fits && !any ? i + literal.n : p->high;
        any = any || fits;
    }
    return any;
}

#endif
