/* One request as libcurl sees it: what may be asked, what is kept of the answer, and what libcurl's
 * verdict means. */
#include "base/alloc.h"
#include "net/client/http_client_state.h"

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- what may be asked */

/* RFC 9110, 5.6.2 */
static bool is_token(struct slice s)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        bool alnum =
            (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        if (!alnum && (ch == '\0' || !strchr(others, ch))) {
            return false;
        }
    }
    return s.n > 0;
}

int http_client_check_header(const struct http_client_header *h, struct err *e)
{
    /* they frame the message, or are about this one connection: RFC 9110, 7.6.1 and 9112, 6 */
    static const char *const reserved[] = {"connection",
                                           "content-length",
                                           "expect",
                                           "host",
                                           "keep-alive",
                                           "proxy-connection",
                                           "te",
                                           "trailer",
                                           "upgrade",
                                           "transfer-encoding",
                                           "accept-encoding"};
    if (!is_token(h->name)) {
        return err_set(e, UV_EINVAL, "a header name is letters, digits and !#$%%&'*+-.^_`|~");
    }
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (slice_is_nocase(h->name, reserved[i])) {
            return err_set(e, UV_EINVAL, "the header \"%s\" is not yours to set", reserved[i]);
        }
    }
    for (size_t i = 0; i < h->value.n; i++) {
        unsigned char ch = (unsigned char)h->value.p[i];
        if ((ch < 0x20 && ch != '\t') || ch == 0x7f) {
            return err_set(e, UV_EINVAL, "the value of the header \"%.*s\" has a control character",
                           (int)h->name.n, h->name.p);
        }
    }
    return 0;
}

/* `part` of the URL is there. */
static bool http_client_transfer_has(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    bool found = curl_url_get(u, part, &text, 0) == CURLUE_OK && *text;
    curl_free(text);
    return found;
}

static bool scheme_ok(CURLU *u)
{
    char *scheme = NULL;
    bool ok = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    return ok;
}

static const char *url_problem(const char *url)
{
    CURLU *u = curl_url();
    const char *problem = NULL;
    if (!u) {
        return "out of memory";
    }
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS);
    if (rc == CURLUE_UNSUPPORTED_SCHEME || rc == CURLUE_BAD_SCHEME || (rc == 0 && !scheme_ok(u))) {
        problem = "a URL begins with http:// or https://";
    } else if (rc) {
        problem = curl_url_strerror(rc);
    } else if (http_client_transfer_has(u, CURLUPART_USER) ||
               http_client_transfer_has(u, CURLUPART_PASSWORD)) {
        problem = "has a user or a password: send an Authorization header instead";
    } else if (http_client_transfer_has(u, CURLUPART_FRAGMENT)) {
        problem = "has a fragment, which is never sent";
    } else if (!http_client_transfer_has(u, CURLUPART_HOST)) {
        problem = "has no host";
    }
    curl_url_cleanup(u);
    return problem;
}

int http_client_check_url(const char *url, struct err *e)
{
    const char *problem = NULL;
    size_t n = strlen(url);
    if (n > HTTP_CLIENT_URL_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "is longer than %d bytes", (int)HTTP_CLIENT_URL_MAX_BYTES);
    }
    for (size_t i = 0; i < n && !problem; i++) {
        unsigned char ch = (unsigned char)url[i];
        if (ch <= 0x20 || ch >= 0x7f || ch == '\\') {
            problem =
                "has a blank, a '\\', a control character or one beyond ASCII: write it as %XX";
        }
    }
    const char *rest = strstr(url, "://");
    if (!problem && rest && rest[3] == '/') { /* libcurl would take the next part for the host */
        problem = "has no host";
    }
    problem = problem ? problem : url_problem(url);
    return problem ? err_set(e, UV_EINVAL, "%s", problem) : 0;
}

/* ---------------------------------------------------------------- the answer */

static bool starts_with(struct slice s, const char *text)
{
    size_t n = strlen(text);
    return s.n >= n && memcmp(s.p, text, n) == 0;
}

int http_client_take_head(struct strbuf *head, struct slice line)
{
    if (starts_with(line, "HTTP/")) {
        strbuf_reset(head);
        return 0;
    }
    return strbuf_append(head, line.p, line.n);
}

static size_t on_head(char *data, size_t size, size_t count, void *ctx)
{
    struct http_transfer *t = ctx;
    size_t n = size * count;
    t->too_large = http_client_take_head(&t->head, slice_of(data, n)) != 0;
    return t->too_large ? 0 : n; /* less than n: libcurl gives up */
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct http_transfer *t = ctx;
    size_t n = size * count;
    t->too_large = strbuf_append(&t->body, data, n) != 0;
    return t->too_large ? 0 : n;
}

static struct slice trimmed(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
        end--;
    }
    return slice_of(p, (size_t)(end - p));
}

struct http_client_header http_client_split_header(const char *line)
{
    const char *colon = strchr(line, ':');
    struct http_client_header h = {{0}, {0}};
    if (colon) {
        h.name = slice_of(line, (size_t)(colon - line));
        h.value = trimmed(colon + 1, colon + strlen(colon));
    }
    return h;
}

struct slice http_client_header(const struct http_client_response *res, const char *name)
{
    struct slice found = {0};
    const char *end = res->head.p ? res->head.p + res->head.n : NULL;
    for (const char *p = res->head.p; p && p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        const char *stop = eol ? eol : end;
        const char *colon = memchr(p, ':', (size_t)(stop - p));
        if (colon && slice_is_nocase(slice_of(p, (size_t)(colon - p)), name)) {
            found = trimmed(colon + 1, stop);
        }
        p = stop + 1;
    }
    return found;
}

/* ---------------------------------------------------------------- what libcurl says */

int http_client_code_of(CURLcode rc)
{
    int v = (int)rc; /* a switch over the enumeration would have to name all hundred */
    switch (v) {
    case CURLE_OPERATION_TIMEDOUT:
        return UV_ETIMEDOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return UV_ENOTCONN;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return UV_EACCES;
    case CURLE_FILESIZE_EXCEEDED:
        return UV_EMSGSIZE;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2_STREAM:
        return UV_ECONNRESET;
    case CURLE_OUT_OF_MEMORY:
        return UV_ENOMEM;
    default:
        return UV_EPROTO;
    }
}

void http_transfer_result(struct http_transfer *t, CURLcode rc)
{
    long version = 0;
    if (rc == CURLE_OK) {
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &version);
        rc = version >= 200 && version <= 599 ? CURLE_OK : CURLE_WEIRD_SERVER_REPLY;
    }
    if (rc == CURLE_OK) {
        return;
    }
    int code = t->too_large ? UV_EMSGSIZE : http_client_code_of(rc);
    const char *says = t->curl_says[0] ? t->curl_says : curl_easy_strerror(rc);
    if (code == UV_EMSGSIZE) {
        (void)err_set(&t->e, code, "the answer is larger than %zu bytes", t->body.max);
    } else {
        (void)err_set(&t->e, code, "%.*s", (int)strcspn(says, "\r\n"), says);
    }
}

/* ---------------------------------------------------------------- life */

struct setup {
    CURL *easy;
    CURLcode rc; /* of the first option that failed */
};

static void set_long(struct setup *s, CURLoption option, long value)
{
    CURLcode rc = curl_easy_setopt(s->easy, option, value);
    s->rc = s->rc ? s->rc : rc;
}

static void set_text(struct setup *s, CURLoption option, const char *value)
{
    CURLcode rc = curl_easy_setopt(s->easy, option, value);
    s->rc = s->rc ? s->rc : rc;
}

static void set_pointer(struct setup *s, CURLoption option, void *value)
{
    CURLcode rc = curl_easy_setopt(s->easy, option, value);
    s->rc = s->rc ? s->rc : rc;
}

static void set_size(struct setup *s, CURLoption option, size_t value)
{
    CURLcode rc = curl_easy_setopt(s->easy, option, (curl_off_t)value);
    s->rc = s->rc ? s->rc : rc;
}

static void set_callback(struct setup *s, CURLoption option,
                         size_t (*value)(char *, size_t, size_t, void *))
{
    CURLcode rc = curl_easy_setopt(s->easy, option, value);
    s->rc = s->rc ? s->rc : rc;
}

static void set_policy(struct setup *s)
{
    set_text(s, CURLOPT_PROTOCOLS_STR, "http,https");
    set_long(s, CURLOPT_FOLLOWLOCATION, 0);
    set_long(s, CURLOPT_DISALLOW_USERNAME_IN_URL, 1);
    set_text(s, CURLOPT_PROXY, ""); /* also not that of the environment */
    set_long(s, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    set_long(s, CURLOPT_HTTP09_ALLOWED, 0);
    set_long(s, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    set_long(s, CURLOPT_SSL_VERIFYPEER, 1);
    set_long(s, CURLOPT_SSL_VERIFYHOST, 2);
    set_long(s, CURLOPT_PATH_AS_IS, 1);
    set_long(s, CURLOPT_NOSIGNAL, 1);
    /* Giving up must not wait for the thread that looks a name up (which may take half a minute):
     * it is let go of and cleans up behind itself. */
    set_long(s, CURLOPT_QUICK_EXIT, 1);
    set_text(s, CURLOPT_USERAGENT, "tidegate/" TIDEGATE_VERSION);
}

static void set_request(struct setup *s, struct http_transfer *t,
                        const struct http_client_request *rq)
{
    set_text(s, CURLOPT_URL, rq->url);
    set_pointer(s, CURLOPT_HTTPHEADER, t->headers);
    if (rq->post) {
        set_long(s, CURLOPT_POST, 1);
        set_size(s, CURLOPT_POSTFIELDSIZE_LARGE, rq->body.n);
        set_text(s, CURLOPT_COPYPOSTFIELDS, rq->body.p ? rq->body.p : ""); /* after the size */
    }
    if (rq->ca_file) {
        set_text(s, CURLOPT_CAINFO, rq->ca_file);
        set_pointer(s, CURLOPT_CAPATH, NULL);
    }
    set_size(s, CURLOPT_MAXFILESIZE_LARGE, rq->max_response_bytes);
    set_callback(s, CURLOPT_WRITEFUNCTION, on_body);
    set_pointer(s, CURLOPT_WRITEDATA, t);
    set_callback(s, CURLOPT_HEADERFUNCTION, on_head);
    set_pointer(s, CURLOPT_HEADERDATA, t);
    set_pointer(s, CURLOPT_ERRORBUFFER, t->curl_says);
    set_pointer(s, CURLOPT_PRIVATE, t);
}

int http_client_add_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    *list = longer ? longer : *list;
    return longer ? 0 : UV_ENOMEM;
}

int http_client_add_header(struct curl_slist **list, const struct http_client_header *h,
                           struct err *e)
{
    struct strbuf line;
    int rc = http_client_check_header(h, e);
    if (rc) {
        return rc;
    }
    strbuf_init(&line, HTTP_CLIENT_HEADERS_MAX_BYTES);
    /* "Name;" makes libcurl send an empty value */
    rc = h->value.n ? strbuf_printf(&line, "%.*s: %.*s", (int)h->name.n, h->name.p, (int)h->value.n,
                                    h->value.p)
                    : strbuf_printf(&line, "%.*s;", (int)h->name.n, h->name.p);
    rc = rc ? rc : http_client_add_line(list, line.data);
    strbuf_clear(&line);
    return rc ? err_set(e, UV_EINVAL, "the header \"%.*s\" is too long", (int)h->name.n, h->name.p)
              : 0;
}

static int http_client_transfer_fill(struct http_transfer *t, const struct http_client_request *rq,
                                     struct err *e)
{
    int rc = http_client_check_url(rq->url, e);
    if (rc) {
        return err_context(e, "the URL");
    }
    rc = http_client_add_line(&t->headers,
                              "Expect:"); /* 100-continue would cost a round trip, or a second */
    if (rc == 0 && rq->post) {
        rc = http_client_add_line(
            &t->headers, "Content-Type:"); /* not libcurl's form type, unless asked for below */
    }
    for (size_t i = 0; i < rq->header_count && rc == 0; i++) {
        rc = http_client_add_header(&t->headers, &rq->headers[i], e);
    }
    if (rc) {
        return rc == UV_ENOMEM ? err_set(e, rc, "out of memory") : rc;
    }
    struct setup s = {.easy = t->easy};
    set_policy(&s);
    set_request(&s, t, rq);
    return s.rc ? err_set(e, UV_EINVAL, "libcurl: %s", curl_easy_strerror(s.rc)) : 0;
}

int http_transfer_new(struct http_client *c, const struct http_client_request *rq,
                      struct http_transfer **out, struct err *e)
{
    if (rq->timeout_ms == 0) {
        return err_set(e, UV_ETIMEDOUT, "no time is left to ask");
    }
    struct http_transfer *t = xcalloc(1, sizeof *t);
    t->client = c;
    strbuf_init(&t->head, HTTP_CLIENT_HEADERS_MAX_BYTES);
    strbuf_init(&t->body, rq->max_response_bytes);
    t->easy = curl_easy_init();
    int rc = t->easy ? http_client_transfer_fill(t, rq, e) : err_set(e, UV_ENOMEM, "out of memory");
    if (rc) {
        http_transfer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void http_transfer_free(struct http_transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    strbuf_clear(&t->head);
    strbuf_clear(&t->body);
    free(t);
}
