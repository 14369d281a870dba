/* Any bytes as path, segments and query of an outbound request: the first byte says which.
 * Property, with libcurl's URL parser as the second opinion: the server stays, and the path stays
 * below the base, also once its dot segments are resolved and its encodings undone. */
#include "net/client/http_client.h"
#include "net/client/http_url.h"

#include <curl/curl.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x) ((x) ? (void)0 : abort())

enum { PARTS_MAX = 8 };

static void must_be(CURLU *u, CURLUPart part, const char *expected)
{
    char *text = NULL;
    CURLUcode rc = curl_url_get(u, part, &text, 0);
    MUST(expected ? rc == CURLUE_OK && strcmp(text, expected) == 0 : rc != CURLUE_OK);
    curl_free(text);
}

static void check_url(const char *url)
{
    struct err e;
    char *path = NULL;
    int n = 0;
    CURLU *u = curl_url();
    MUST(u && http_client_check_url(url, &e) == 0);
    MUST(curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK);
    must_be(u, CURLUPART_SCHEME, "http");
    must_be(u, CURLUPART_HOST, "h.example");
    must_be(u, CURLUPART_PORT, "81");
    must_be(u, CURLUPART_USER, NULL);
    must_be(u, CURLUPART_FRAGMENT, NULL);
    MUST(curl_url_get(u, CURLUPART_PATH, &path, 0) == CURLUE_OK);
    MUST(strncmp(path, "/base", 5) == 0 && (path[5] == '/' || path[5] == '\0'));
    char *decoded = curl_easy_unescape(NULL, path, 0, &n);
    MUST(decoded && (int)strlen(decoded) == n && !strstr(decoded, "/../") &&
         !strstr(decoded, "\\..\\"));
    curl_free(decoded);
    curl_free(path);
    curl_url_cleanup(u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice v[PARTS_MAX];
    struct http_url_param params[PARTS_MAX];
    struct http_url_parts parts = {0};
    struct strbuf url;
    struct err e = {0};
    size_t n = 0, from = 1;
    if (size < 2) {
        return 0;
    }
    for (size_t i = 1; i <= size && n < PARTS_MAX; i++) {
        if (i == size || data[i] == 0xff) {
            v[n++] = slice_of((const char *)data + from, i - from);
            from = i + 1;
        }
    }
    for (size_t i = 0; i < n; i++) {
        params[i] = (struct http_url_param){v[i], v[n - 1 - i]};
    }
    if (data[0] & 1) {
        parts.segments = v;
        parts.segment_count = n;
    } else if (data[0] & 2) {
        parts.path = v[0];
    }
    if (data[0] & 4) {
        parts.query = params;
        parts.query_count = n;
    }
    strbuf_init(&url, HTTP_CLIENT_URL_MAX_BYTES);
    int rc = http_url_join(
        &url, data[0] & 8 ? "http://h.example:81/base/" : "http://h.example:81/base", &parts, &e);
    MUST((rc != 0) == (e.code != 0));
    if (rc == 0) {
        check_url(url.data);
    }
    strbuf_clear(&url);
    return 0;
}
