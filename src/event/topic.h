// Topic names and patterns: pure, fuzzed.
//
// A name is 1 to 255 bytes of UTF-8 without control characters, segments separated by '/', no empty
// segment, and no segment that holds '*'. A pattern may have '*' for one whole segment and '**' as
// its last segment for the rest, one segment or more: "a/*" matches "a/b"; "a/**" matches "a/b" and
// "a/b/c", not "a". "**" alone matches everything.
#ifndef EVENT_TOPIC_H
#define EVENT_TOPIC_H

#include "base/slice.h"
#include "base/utf8.h"

/* NULL when valid, else a constant text that names the broken rule. */
const char *topic_name_check(struct slice name);
/* The same, with "topic: " before the text. */
const char *topic_field_check(struct slice name);
const char *topic_pattern_check(struct slice pattern);
/* A valid pattern that holds a wildcard. */
bool topic_is_pattern(struct slice pattern);
/* Both must be valid. A name is a pattern that matches itself only. */
bool topic_match(struct slice pattern, struct slice name);
/* May `segment` be one literal segment of a topic? If not, tg.topic() raises an error for it. */
bool topic_segment_ok(struct slice segment);
/* Cuts the first segment off *rest: false at the end. */
bool topic_next_segment(struct slice *rest, struct slice *segment);

#endif
