/* CloudEvents 1.0.2 (cloudevents.io): the attributes that have a meaning, what their values may be, and how such an
 * event is kept.
 *
 * `type` is the event's type; all others are in attrs under their own names, which tells an event that came in as a
 * CloudEvent, or was stored by an application to be one: it has specversion = "1.0", id and source. Data is text: JSON
 * is kept as its text, and bytes that are no text as Base64, with data_base64 = true in attrs (no attribute of
 * CloudEvents has such a name). Pure. */
#ifndef EVENT_CLOUDEVENTS_CLOUDEVENT_H
#define EVENT_CLOUDEVENTS_CLOUDEVENT_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>

struct event;

#define CLOUDEVENT_VERSION "1.0"
#define CLOUDEVENT_BASE64 "data_base64"

enum cloudevent_attribute {
    CLOUDEVENT_ID,
    CLOUDEVENT_SOURCE,
    CLOUDEVENT_SPECVERSION,
    CLOUDEVENT_TYPE,
    CLOUDEVENT_SUBJECT,
    CLOUDEVENT_TIME,
    CLOUDEVENT_CONTENT_TYPE,
    CLOUDEVENT_SCHEMA,
    CLOUDEVENT_ATTRIBUTES, /* how many */
};
extern const char *const cloudevent_names[CLOUDEVENT_ATTRIBUTES];

/* May an attribute have this name: lower-case letters and digits? */
bool cloudevent_name_ok(struct slice name);
/* May a text, which is UTF-8, be the value of that one? */
bool cloudevent_value_ok(enum cloudevent_attribute which, struct slice value);
/* What may, for people. */
const char *cloudevent_expected(enum cloudevent_attribute which);
/* Does a `datacontenttype` say that data is JSON? An absent one does. */
bool cloudevent_is_json(struct slice content_type);
/* Does data stay as it is? Else it becomes Base64. */
bool cloudevent_is_text(struct slice data);

/* The event as a CloudEvent in JSON, appended. One that is none yet gets `source`, its id, its topic for a subject, its
 * time, and of its attrs those whose names and values may be attributes. `data` is the JSON where that is what it
 * should be, else a text, else data_base64; there is none where it is empty. 0, or a negative UV_E* of the buffer,
 * whose content is then unspecified. */
__attribute__((warn_unused_result)) int cloudevent_format(const struct event *ev,
                                                          struct slice source, struct strbuf *out);

#endif
