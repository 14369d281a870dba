/* What filters see of the event asked about last: each field is looked up once, however many
 * filters and audiences ask for it. */
#include "base/text/json_text.h"
#include "event/topic.h"
#include "filter/filter_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void filter_set_event(struct filter_set *set, struct event *ev)
{
    if (set->ev == ev) {
        return; /* we hold a reference: an equal pointer is the same event */
    }
    for (size_t i = 0; i < set->field_count; i++) {
        free(set->rooms[i]);
        set->rooms[i] = NULL;
        set->known[i] = false;
    }
    set->attrs_known = set->failed = false;
    set->data = DATA_UNKNOWN;
    event_unref(set->ev);
    set->ev = ev ? event_ref(ev) : NULL;
}

static const struct filter_value missing = {.type = FILTER_MISSING};

static struct filter_value string_of(struct slice s)
{
    return s.p ? (struct filter_value){.type = FILTER_STRING, .s = s} : missing;
}

/* All attributes that some filter asks for, in one pass. */
static void read_attrs(struct filter_set *set)
{
    struct slice rest = event_attrs(set->ev), key, value;
    char *room = set->attrs_room;
    for (size_t i = 0; i < set->field_count; i++) {
        if (set->fields[i].kind == FIELD_ATTR) {
            set->values[i] = missing;
        }
    }
    set->attrs_known = true;
    if (rest.n == 0 || !json_text_take(&rest, '{')) {
        return;
    }
    while (json_text_value(&rest, &key) && json_text_take(&rest, ':') &&
           json_text_value(&rest, &value)) {
        for (size_t i = 0; i < set->field_count; i++) {
            const struct filter_field *f = &set->fields[i];
            if (f->kind == FIELD_ATTR &&
                json_text_string_is(key, slice_of(f->steps[0].name, f->steps[0].name_n))) {
                set->values[i] = filter_value_of_json(value, &room); /* fits: attrs do */
                break;
            }
        }
        if (!json_text_take(&rest, ',')) {
            break;
        }
    }
}

/* The member of that name: of several the last, as JSON.parse() has it. */
static bool step_into_object(struct slice *at, struct slice name)
{
    struct slice rest = *at, key, value;
    bool found = false;
    if (!json_text_take(&rest, '{')) {
        return false;
    }
    while (json_text_value(&rest, &key) && json_text_take(&rest, ':') &&
           json_text_value(&rest, &value)) {
        if (json_text_string_is(key, name)) {
            *at = value;
            found = true;
        }
        if (!json_text_take(&rest, ',')) {
            break;
        }
    }
    return found;
}

static bool step_into_array(struct slice *at, uint32_t index)
{
    struct slice rest = *at, value;
    if (!json_text_take(&rest, '[')) {
        return false;
    }
    for (uint32_t i = 1; json_text_value(&rest, &value); i++) {
        if (i == index) {
            *at = value;
            return true;
        }
        if (!json_text_take(&rest, ',')) {
            break;
        }
    }
    return false;
}

static struct filter_value data_value(struct filter_set *set, size_t index)
{
    const struct filter_field *f = &set->fields[index];
    struct slice at = event_data(set->ev);
    if (set->data == DATA_UNKNOWN) {
        set->data = json_text_ok(at) ? DATA_JSON : DATA_NOT_JSON;
    }
    if (set->data == DATA_NOT_JSON) {
        return missing;
    }
    json_text_skip(&at);
    for (size_t i = 0; i < f->step_count; i++) {
        const struct filter_step *step = &f->steps[i];
        if (!(step->name ? step_into_object(&at, slice_of(step->name, step->name_n))
                         : step_into_array(&at, step->index))) {
            return missing;
        }
    }
    size_t need = filter_value_room(at);
    char *room = NULL;
    if (need) {
        room = set->rooms[index] = malloc(need);
        if (!room) {
            set->failed = true;
            return missing;
        }
    }
    return filter_value_of_json(at, &room);
}

static struct filter_value segment(const struct event *ev, uint32_t index)
{
    struct slice rest = event_topic(ev), part;
    for (uint32_t i = 1; topic_next_segment(&rest, &part); i++) {
        if (i == index) {
            return string_of(part);
        }
    }
    return missing;
}

static struct filter_value look_up(struct filter_set *set, size_t index)
{
    const struct filter_field *f = &set->fields[index];
    const struct event *ev = set->ev;
    switch (f->kind) {
    case FIELD_ID: {
        int n = snprintf(set->id_text, sizeof set->id_text, "%" PRIu64, ev->id);
        return string_of(slice_of(set->id_text, (size_t)n));
    }
    case FIELD_TOPIC:
        return string_of(event_topic(ev));
    case FIELD_TYPE:
        return string_of(event_type(ev));
    case FIELD_KEY:
        return string_of(event_key(ev));
    case FIELD_TIME:
        return (struct filter_value){.type = FILTER_FLOAT, .f = (double)ev->time_ms / 1000.0};
    case FIELD_EXPIRES:
        return ev->expires_ms ? (struct filter_value){.type = FILTER_FLOAT,
                                                      .f = (double)ev->expires_ms / 1000.0}
                              : missing;
    case FIELD_SEGMENT:
        return segment(ev, f->steps[0].index);
    case FIELD_DATA:
        return data_value(set, index);
    case FIELD_ATTR:
        break;
    }
    return missing;
}

const struct filter_value *filter_field_value(struct filter_set *set, size_t index)
{
    if (set->fields[index].kind == FIELD_ATTR) {
        if (!set->attrs_known) {
            read_attrs(set);
        }
    } else if (!set->known[index]) {
        set->values[index] = look_up(set, index);
        set->known[index] = true;
    }
    return &set->values[index];
}
