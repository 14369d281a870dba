#include "admin/admin_reply.h"

#include "base/logging.h"
#include "net/message/http_response.h"

#include <string.h>
#include <uv.h>

static const char no_store[] = HTTP_ANSWER_FIELDS;

void admin_answer(struct stream *s, int status, const char *type, struct slice body)
{
    struct http_response r = {
        .status = status, .content_type = type, .body = body, .fields = slice_str(no_store)};
    int rc = stream_respond(s, &r);
    if (rc) {
        log_debug("admin", "answer failed", LOG_F(log_str("error", uv_strerror(rc))));
    }
}

void admin_refuse(struct stream *s, int status, struct slice detail, const char *allow)
{
    struct strbuf body, fields;
    struct request_id id;
    stream_request_id(s, &id);
    strbuf_init(&body, 16 * 1024);
    strbuf_init(&fields, 512);
    int rc = http_problem(&body, status, detail, id.text);
    if (rc == 0) {
        rc = strbuf_append_str(&fields, no_store);
    }
    if (rc == 0 && allow) {
        rc = strbuf_printf(&fields, "Allow: %s\r\n", allow);
    }
    if (rc == 0) {
        struct http_response r = {.status = status,
                                  .content_type = HTTP_PROBLEM_TYPE,
                                  .body = strbuf_slice(&body),
                                  .fields = strbuf_slice(&fields)};
        (void)stream_respond(s, &r); /* the stream is gone either way */
    } else {
        stream_close(s, CLOSE_NO_MEMORY);
    }
    strbuf_clear(&body);
    strbuf_clear(&fields);
}

void admin_answer_built(struct stream *s, int rc, const char *type, struct strbuf *body)
{
    if (rc == 0) {
        admin_answer(s, 200, type, strbuf_slice(body));
    } else {
        admin_refuse(s, 503,
                     slice_str("The answer could not be built: memory is short, or it is larger "
                               "than the broker sends at once."),
                     NULL);
    }
    strbuf_clear(body);
}
