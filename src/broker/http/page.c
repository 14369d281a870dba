#include "broker/http/page.h"

#include "base/program/embedded.h"
#include "base/require.h"
#include "broker/broker.h"
#include "broker/broker_parts.h"

#include <stdio.h>
#include <string.h>

#define PAGE_FILE "scripts/page/index.html"

enum { PAGE_MAX_BYTES = 64 * 1024 };

static int page_put_escaped(struct strbuf *out, const char *text)
{
    int rc = 0;
    for (; *text && rc == 0; text++) {
        bool special = strchr("&<>\"'", *text) != NULL;
        rc = special ? strbuf_printf(out, "&#%d;", *text) : strbuf_append(out, text, 1);
    }
    return rc;
}

/* The page as in the tree, but for the contents of its meta elements. */
static int page_render(const struct broker *b, struct strbuf *out)
{
    char policy[256];
    const char *label = b->policy->label;
    snprintf(policy, sizeof policy, "%s%s%s", label ? label : "", label ? " " : "",
             b->policy->version);
    const struct {
        const char *in_tree, *content;
    } metas[] = {
        {"name=\"events-path\" content=\"/events", b->opt.events_path},
        {"name=\"broker-version\" content=\"", TIDEGATE_VERSION},
        {"name=\"policy-version\" content=\"", policy},
    };
    const struct embedded *file = embedded_find(PAGE_FILE);
    REQUIRE(file != NULL);
    const char *rest = file->data;
    int rc = 0;
    for (size_t i = 0; i < sizeof metas / sizeof *metas && rc == 0; i++) {
        const char *at = strstr(rest, metas[i].in_tree);
        REQUIRE(at != NULL);
        at = strstr(at, "content=\"") + sizeof "content=\"" - 1;
        rc = strbuf_append(out, rest, (size_t)(at - rest));
        rc = rc ? rc : page_put_escaped(out, metas[i].content);
        rest = strchr(at, '"');
    }
    return rc ? rc : strbuf_append(out, rest, file->size - (size_t)(rest - file->data));
}

void page_answer(const struct broker *b, struct stream *s)
{
    static const char fields_text[] =
        "Cache-Control: no-store\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Referrer-Policy: no-referrer\r\n";
    struct strbuf body;
    strbuf_init(&body, PAGE_MAX_BYTES);
    if (page_render(b, &body)) {
        stream_close(s, CLOSE_NO_MEMORY);
    } else {
        struct http_response r = {.status = 200,
                                  .content_type = "text/html; charset=utf-8",
                                  .body = strbuf_slice(&body),
                                  .fields = slice_of(fields_text, sizeof fields_text - 1)};
        (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    }
    strbuf_clear(&body);
}
