/* The places of a text that the beginning of a pattern may reach: at[i] is 1 where it may end before text[i]. Each part of
 * a pattern moves the set on, so nothing is tried twice, whatever the pattern. */
#ifndef BASE_TEXT_TEXT_PLACES_H
#define BASE_TEXT_TEXT_PLACES_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Moves it behind `literal`; `at` has text.n + 1 places. False: no place is left. */
static inline bool text_places_skip(struct slice text, struct slice literal, uint8_t *at)
{
    bool any = false;
    for (size_t i = text.n + 1; i-- > 0;) {
        at[i] = i >= literal.n && at[i - literal.n] &&
                memcmp(text.p + i - literal.n, literal.p, literal.n) == 0;
        any = any || at[i];
    }
    return any;
}

#endif
