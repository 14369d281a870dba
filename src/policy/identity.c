#include "policy/identity.h"

#include "base/text/json_text.h"

bool identity_is_shown(const struct identity_shown *shown, struct slice name)
{
    for (size_t i = 0; i < shown->count; i++) {
        if (slice_is(name, shown->names[i])) {
            return true;
        }
    }
    return false;
}

bool identity_field(struct slice identity, struct slice name, struct slice *json)
{
    return identity.n && json_text_member(identity, name, json);
}

bool identity_field_is(struct slice identity, struct slice name, struct slice text)
{
    struct slice value;
    if (!identity_field(identity, name, &value)) {
        return false;
    }
    return value.p[0] == '"' ? json_text_string_is(value, text) : slice_eq(value, text);
}

static int identity_describe_field(struct strbuf *out, const char *name, struct slice value)
{
    int rc = strbuf_printf(out, "%s%s=", out->len ? " " : "", name);
    if (rc || value.p[0] != '"') {
        return rc ? rc : strbuf_append(out, value.p, value.n);
    }
    rc = strbuf_reserve(out, value.n);
    if (rc == 0) {
        out->len += json_text_string(out->data + out->len, value);
    }
    return rc;
}

void identity_describe(struct slice identity, const struct identity_shown *shown,
                       struct strbuf *out)
{
    for (size_t i = 0; i < shown->count; i++) {
        struct slice value;
        size_t before = out->len;
        if (identity_field(identity, slice_str(shown->names[i]), &value) &&
            identity_describe_field(out, shown->names[i], value)) {
            out->len = before;
            return;
        }
    }
}
