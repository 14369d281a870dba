#include "remote/remote_streams.h"

#include "base/strbuf.h"
#include "cli/cli_text.h"
#include "remote/client/remote_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { TARGET_MAX_BYTES = 16384 };

bool remote_streams_some(const struct remote_streams *s)
{
    return s->client || s->topic || s->tag || s->who_count;
}

int remote_streams_check(const struct options *o, const struct remote_streams *s)
{
    return remote_check_pairs(o, "--who", "FIELD=VALUE such as sub=ann", s->who, s->who_count);
}

static int streams_put_who(struct strbuf *target, const char *who)
{
    const char *equals = strchr(who, '=');
    struct strbuf name;
    strbuf_init(&name, TARGET_MAX_BYTES);
    int rc = strbuf_printf(&name, "who.%.*s", (int)(equals - who), who);
    rc = rc ? rc : remote_put_param(target, strbuf_slice(&name), slice_str(equals + 1));
    strbuf_clear(&name);
    return rc;
}

/* Appends what selects them. */
static int streams_put_selection(struct strbuf *target, const struct remote_streams *s)
{
    const char *const names[] = {"client", "topic", "tag"};
    const char *const values[] = {s->client, s->topic, s->tag};
    int rc = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && rc == 0; i++) {
        rc = values[i] ? remote_put_param(target, slice_str(names[i]), slice_str(values[i])) : 0;
    }
    for (size_t i = 0; i < s->who_count && rc == 0; i++) {
        rc = streams_put_who(target, s->who[i]);
    }
    return rc;
}

int remote_streams_ask(struct remote_admin *a, const struct remote_streams *s, uint64_t limit,
                       struct remote_answer *out)
{
    struct strbuf target;
    *out = (struct remote_answer){.status = 0};
    strbuf_init(&target, TARGET_MAX_BYTES);
    int rc = strbuf_printf(&target, "/connections?limit=%llu", (unsigned long long)limit);
    if (rc || streams_put_selection(&target, s)) {
        strbuf_clear(&target);
        return options_refuse(a->options, "--who", "too long");
    }
    int code = remote_admin_ask(a, "GET", target.data, 0, out);
    strbuf_clear(&target);
    if (code == 0 && !out->doc) {
        return remote_admin_failed(a, out);
    }
    /* who orders something about its answer must not take all streams for those */
    if (code == 0 && remote_streams_some(s) && !json_object_get(out->doc, "matched")) {
        fprintf(stderr,
                "tidegate %s: the broker is of an earlier version, which cannot select streams\n",
                a->options->command);
        return EX_PROTOCOL;
    }
    return code;
}

int remote_streams_order(struct remote_admin *a, const struct remote_streams *s, const char *method,
                         const char *path, const char *reason, struct remote_answer *out)
{
    struct strbuf target;
    *out = (struct remote_answer){.status = 0};
    strbuf_init(&target, TARGET_MAX_BYTES);
    int rc = strbuf_append_str(&target, path);
    rc = rc ? rc : streams_put_selection(&target, s);
    rc = rc || !reason ? rc : remote_put_param(&target, slice_str("reason"), slice_str(reason));
    int code = rc ? options_refuse(a->options, "--who", "too long")
                  : remote_admin_ask(a, method, target.data, 0, out);
    strbuf_clear(&target);
    return code == 0 && !out->doc ? remote_admin_failed(a, out) : code;
}

const char *remote_who(const json_t *connection, char out[REMOTE_WHO_TEXT_MAX])
{
    const char *name;
    json_t *value;
    size_t n = 0;
    *out = '\0';
    json_object_foreach(json_object_get(connection, "who"), name, value)
    {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        int more = snprintf(out + n, REMOTE_WHO_TEXT_MAX - n, "%s%s=%s", n ? " " : "", name,
                            json_is_string(value) ? json_string_value(value)
                            : text                ? text
                                                  : "?");
        free(text);
        n += more < 0 ? 0 : (size_t)more;
        if (n >= REMOTE_WHO_TEXT_MAX) {
            break;
        }
    }
    return out;
}
