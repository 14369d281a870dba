// URL patterns (urlpattern.spec.whatwg.org), as far as they say which URLs they mean by names and stars:
//
//   https://shop.example/books/:id     one segment of the path, of a host one label
//   https://*.shop.example/books/*     anything: in a host no more than the host, in a path no more than the path
//   /books/:id                         of URLs that have no host either
//
// A pattern without a path means all paths; what follows '?' and '#' is no matter. Groups, regular expressions,
// modifiers, '?' and '#' make it no pattern. Bytes are compared as they are: nothing is made canonical first, so a URL
// that would have to be (dots as segments, backslashes, a user, capitals in the host) fits nothing. Pure, fuzzed, no
// memory but the stack; the time is at most (parts + 1) * bytes of the text.
#ifndef BASE_TEXT_URL_PATTERN_H
#define BASE_TEXT_URL_PATTERN_H

#include "base/slice.h"

#include <stdbool.h>

enum {
    URL_PATTERN_MAX_BYTES = 1024,
    URL_PATTERN_TEXT_MAX_BYTES = 1024,
    URL_PATTERN_WILDCARDS_MAX = 32,
};

bool url_pattern_ok(struct slice pattern);
/* Is it a URL that the pattern means? False where it is no pattern. */
bool url_pattern_fits(struct slice pattern, struct slice url);

#endif
