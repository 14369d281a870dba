#include "event/topic.h"

#include "event/event.h"

/* General category Cc of Unicode: U+0000..U+001F and U+007F..U+009F. `text` is valid UTF-8. */
static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c < 0x20 || c == 0x7f ||
            (c == 0xc2 && i + 1 < text.n && (unsigned char)text.p[i + 1] < 0xa0)) {
            return true;
        }
    }
    return false;
}

bool topic_next_segment(struct slice *rest, struct slice *segment)
{
    if (!rest->p) {
        return false;
    }
    const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    if (!slash) {
        *segment = *rest;
        *rest = (struct slice){NULL, 0};
        return true;
    }
    size_t n = (size_t)(slash - rest->p);
    *segment = slice_of(rest->p, n);
    *rest = slice_of(slash + 1, rest->n - n - 1);
    return true;
}

static bool has_star(struct slice s)
{
    return s.n && memchr(s.p, '*', s.n);
}

/* Each rule is one constant text, with the name of the field for those who want it. */
#define FIELD "topic: "

/* What names and patterns have in common, without their segments. */
static const char *topic_check_text(struct slice t)
{
    if (t.n == 0) {
        return FIELD "is empty; expected segments separated by '/'";
    }
    if (t.n > EVENT_TOPIC_MAX_BYTES) {
        return FIELD "is longer than 255 bytes";
    }
    if (!utf8_ok(t)) {
        return FIELD "is not valid UTF-8";
    }
    return has_control(t) ? FIELD "holds a control character" : NULL;
}

static const char *topic_check(struct slice rest, bool wildcards)
{
    const char *bad = topic_check_text(rest);
    struct slice segment;
    while (!bad && topic_next_segment(&rest, &segment)) {
        if (segment.n == 0) {
            bad = FIELD "has an empty segment ('/' at the start or end, or '//')";
        } else if (!has_star(segment)) {
            continue;
        } else if (!wildcards) {
            bad = FIELD "holds '*', which only patterns may hold";
        } else if (slice_is(segment, "**")) {
            bad = rest.p ? FIELD "has '**' before its last segment" : NULL;
        } else if (!slice_is(segment, "*")) {
            bad = FIELD "mixes '*' with other characters in one segment";
        }
    }
    return bad;
}

const char *topic_field_check(struct slice name)
{
    return topic_check(name, false);
}

const char *topic_name_check(struct slice name)
{
    const char *bad = topic_check(name, false);
    return bad ? bad + sizeof FIELD - 1 : NULL;
}

const char *topic_pattern_check(struct slice pattern)
{
    const char *bad = topic_check(pattern, true);
    return bad ? bad + sizeof FIELD - 1 : NULL;
}

bool topic_is_pattern(struct slice pattern)
{
    return has_star(pattern);
}

bool topic_match(struct slice pattern, struct slice name)
{
    struct slice want, have;
    while (topic_next_segment(&pattern, &want)) {
        if (!topic_next_segment(&name, &have)) {
            return false;
        }
        if (slice_is(want, "**")) {
            return true;
        }
        if (!slice_is(want, "*") && !slice_eq(want, have)) {
            return false;
        }
    }
    return !topic_next_segment(&name, &have);
}

bool topic_segment_ok(struct slice segment)
{
    return segment.n && !memchr(segment.p, '/', segment.n) && !topic_name_check(segment);
}
