#include "net/client/http_fetch.h"

#include "base/alloc.h"
#include "net/client/http_client_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

enum { HTTP_FETCH_POLL_MS = 200 };

struct http_fetch {
    CURLM *multi;
    CURL *easy;
    struct strbuf head; /* of the answer, without its first line */
    char curl_says[CURL_ERROR_SIZE];
    /* of the request that runs */
    const struct http_fetch_request *rq;
    uint64_t last_byte_ms;
    bool enough, too_large;
};

static uint64_t http_fetch_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---------------------------------------------------------------- what libcurl calls */

static size_t http_fetch_on_head(char *data, size_t size, size_t count, void *ctx)
{
    struct http_fetch *f = ctx;
    size_t n = size * count;
    f->last_byte_ms = http_fetch_now_ms();
    f->too_large = http_client_take_head(&f->head, slice_of(data, n)) != 0;
    return f->too_large ? 0 : n; /* less than n: libcurl gives up */
}

static size_t http_fetch_on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct http_fetch *f = ctx;
    size_t n = size * count;
    f->last_byte_ms = http_fetch_now_ms();
    f->enough = !f->rq->on_body(f->rq->ctx, f, slice_of(data, n));
    return f->enough ? 0 : n;
}

/* ---------------------------------------------------------------- life */

struct http_fetch *http_fetch_new(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return NULL;
    }
    struct http_fetch *f = xcalloc(1, sizeof *f);
    strbuf_init(&f->head, HTTP_CLIENT_HEADERS_MAX_BYTES);
    f->multi = curl_multi_init();
    f->easy = curl_easy_init();
    if (!f->multi || !f->easy) {
        http_fetch_free(f);
        return NULL;
    }
    return f;
}

void http_fetch_free(struct http_fetch *f)
{
    if (f) {
        curl_easy_cleanup(f->easy);
        (void)curl_multi_cleanup(f->multi);
        strbuf_clear(&f->head);
        free(f);
        curl_global_cleanup();
    }
}

int http_fetch_status(const struct http_fetch *f)
{
    long status = 0;
    (void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

struct slice http_fetch_header(const struct http_fetch *f, const char *name)
{
    return http_client_header(&(struct http_client_response){.head = strbuf_slice(&f->head)}, name);
}

/* ---------------------------------------------------------------- the request */

static CURLcode http_fetch_set_request(struct http_fetch *f, const struct http_fetch_request *rq)
{
    CURL *c = f->easy;
    bool post = strcmp(rq->method, "POST") == 0;
    CURLcode rc = curl_easy_setopt(c, CURLOPT_URL, rq->url);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, rq->socket);
    rc = rc ? rc : curl_easy_setopt(c, post ? CURLOPT_POST : CURLOPT_HTTPGET, 1L);
    if (post) {
        rc = rc ? rc : curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.n);
        rc = rc ? rc : curl_easy_setopt(c, CURLOPT_POSTFIELDS, rq->body.p ? rq->body.p : "");
    }
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
    rc = rc ? rc
            : curl_easy_setopt(c, CURLOPT_HTTP_VERSION,
                               rq->h2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, rq->gzip ? "gzip" : NULL);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)rq->connect_ms);
    if (rq->ca_file) {
        rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CAINFO, rq->ca_file);
        rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    return rc;
}

static CURLcode http_fetch_set_policy(struct http_fetch *f)
{
    CURL *c = f->easy;
    CURLcode rc = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_USERAGENT, "tidegate/" TIDEGATE_VERSION);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, http_fetch_on_body);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, http_fetch_on_head);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_HEADERDATA, f);
    rc = rc ? rc : curl_easy_setopt(c, CURLOPT_ERRORBUFFER, f->curl_says);
    return rc;
}

/* On failure `list` has what was made so far. */
static int http_fetch_put_headers(const struct http_fetch_request *rq, struct curl_slist **list,
                                  struct err *e)
{
    if (http_client_add_line(list, "Expect:")) { /* 100-continue would cost a second */
        return err_set(e, UV_ENOMEM, "out of memory");
    }
    int rc = 0;
    for (size_t i = 0; i < rq->header_count && rc == 0; i++) {
        rc = http_client_add_header(list, &rq->headers[i], e);
    }
    return rc;
}

/* Until libcurl is done with it, or it is given up. */
static CURLcode http_fetch_drive(struct http_fetch *f, struct http_fetch_result *out, bool *silent)
{
    const struct http_fetch_request *rq = f->rq;
    int running = 1;
    f->last_byte_ms = http_fetch_now_ms();
    for (;;) {
        CURLMcode rc = curl_multi_perform(f->multi, &running);
        int left;
        const CURLMsg *msg = curl_multi_info_read(f->multi, &left);
        if (msg && msg->msg == CURLMSG_DONE) {
            return msg->data.result;
        }
        if (rc != CURLM_OK) {
            return CURLE_FAILED_INIT;
        }
        out->stopped = rq->stop && rq->stop(rq->ctx);
        *silent = http_fetch_now_ms() - f->last_byte_ms > rq->silence_ms;
        if (out->stopped || *silent) {
            return CURLE_OPERATION_TIMEDOUT;
        }
        (void)curl_multi_poll(f->multi, NULL, 0, HTTP_FETCH_POLL_MS, NULL);
    }
}

static int http_fetch_verdict(struct http_fetch *f, CURLcode code, bool silent, struct err *e)
{
    const char *says = f->curl_says[0] ? f->curl_says : curl_easy_strerror(code);
    int n = (int)strcspn(says, "\r\n");
    if (silent) {
        return err_set(e, UV_ETIMEDOUT, "nothing has come for %u s", f->rq->silence_ms / 1000);
    }
    if (code == CURLE_OK) {
        return 0;
    }
    return f->too_large ? err_set(e, UV_EMSGSIZE, "the answer's head is too long")
                        : err_set(e, http_client_code_of(code), "%.*s", n, says);
}

static void http_fetch_measure(const struct http_fetch *f, struct http_fetch_result *out)
{
    long version = 0;
    (void)curl_easy_getinfo(f->easy, CURLINFO_CONNECT_TIME, &out->connect_s);
    (void)curl_easy_getinfo(f->easy, CURLINFO_STARTTRANSFER_TIME, &out->head_s);
    (void)curl_easy_getinfo(f->easy, CURLINFO_HTTP_VERSION, &version);
    out->h2 = version == CURL_HTTP_VERSION_2_0;
    out->status = http_fetch_status(f);
}

int http_fetch_run(struct http_fetch *f, const struct http_fetch_request *rq,
                   struct http_fetch_result *out, struct err *e)
{
    struct curl_slist *headers = NULL;
    bool silent = false;
    *out = (struct http_fetch_result){.status = 0};
    int rc = http_client_check_url(rq->url, e);
    rc = rc ? err_context(e, "the URL") : http_fetch_put_headers(rq, &headers, e);
    if (rc) {
        curl_slist_free_all(headers);
        return rc;
    }
    curl_easy_reset(f->easy);
    strbuf_reset(&f->head);
    f->rq = rq;
    f->enough = f->too_large = false;
    f->curl_says[0] = '\0';
    CURLcode code = http_fetch_set_policy(f);
    code = code ? code : http_fetch_set_request(f, rq);
    code = code ? code : curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, headers);
    if (code == CURLE_OK && curl_multi_add_handle(f->multi, f->easy) == CURLM_OK) {
        code = http_fetch_drive(f, out, &silent);
        (void)curl_multi_remove_handle(f->multi, f->easy);
        http_fetch_measure(f, out);
    } else {
        code = code ? code : CURLE_FAILED_INIT;
    }
    out->stopped = out->stopped || f->enough;
    rc = out->stopped ? 0 : http_fetch_verdict(f, code, silent, e);
    /* what is borrowed ends with the call */
    (void)curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    f->rq = NULL;
    return rc;
}
