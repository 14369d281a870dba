/* libcurl's "multi socket" interface on the loop (libcurl-multi(3)): libcurl says which sockets it
 * waits for and when it wants to be called; we tell it what happened.
 *
 * A poll handle lives as long as libcurl watches the socket. libcurl reports CURL_POLL_REMOVE
 * before it closes a socket, and uv_close() takes the number out of epoll at once, so that a new
 * socket may get the same number while the old handle still waits for its close callback. */
#include "base/alloc.h"
#include "base/logging.h"
#include "base/require.h"
#include "net/client/http_client_state.h"

#include <stdlib.h>

/* One socket that libcurl waits for. */
struct watch {
    uv_poll_t poll;
    struct http_client *client;
    curl_socket_t fd;
};

/* Takes what libcurl has finished. Not from inside its callbacks. */
static void reap(struct http_client *c)
{
    const CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(c->multi, &left))) {
        char *private = NULL;
        CURLcode rc = msg->data.result;
        if (msg->msg != CURLMSG_DONE) {
            continue;
        }
        REQUIRE(curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &private) == CURLE_OK);
        http_client_transfer_done((struct http_transfer *)(void *)private, rc);
    }
    job_pool_pump(&c->jobs);
}

static void act(struct http_client *c, curl_socket_t fd, int events)
{
    int running;
    CURLMcode rc = curl_multi_socket_action(c->multi, fd, events, &running);
    if (rc != CURLM_OK) {
        log_error("http_client", "libcurl failed",
                  LOG_F(log_str("error", curl_multi_strerror(rc))));
    }
    reap(c);
}

static void http_client_curl_on_ready(uv_poll_t *h, int status, int events)
{
    struct watch *w = h->data;
    int flags = 0;
    if (status < 0) {
        flags = CURL_CSELECT_ERR;
    } else {
        flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
        flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    }
    act(w->client, w->fd, flags); /* `w` may be closed by it */
}

static void on_watch_closed(uv_handle_t *h)
{
    struct watch *w = h->data;
    struct http_client *c = w->client;
    free(w);
    http_client_handle_closed(c);
}

static struct watch *watch_new(struct http_client *c, curl_socket_t fd)
{
    struct watch *w = xcalloc(1, sizeof *w);
    int rc = uv_poll_init_socket(loop_uv(c->loop), &w->poll, fd);
    if (rc) {
        log_error("http_client", "cannot watch a socket", LOG_F(log_str("error", uv_strerror(rc))));
        free(w);
        return NULL;
    }
    w->poll.data = w;
    w->client = c;
    w->fd = fd;
    c->handles++;
    return w;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http_client *c = ctx;
    struct watch *w = socket_ctx;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            (void)curl_multi_assign(c->multi, fd, NULL);
            uv_close((uv_handle_t *)&w->poll, on_watch_closed);
        }
        return 0;
    }
    if (!w) {
        w = watch_new(c, fd);
        if (!w) {
            return 0; /* its request runs into its time limit; -1 would end all others, too */
        }
        (void)curl_multi_assign(c->multi, fd, w);
    }
    int events = 0;
    events |= what != CURL_POLL_OUT ? UV_READABLE : 0;
    events |= what != CURL_POLL_IN ? UV_WRITABLE : 0;
    REQUIRE(uv_poll_start(&w->poll, events, http_client_curl_on_ready) == 0);
    return 0;
}

static void on_curl_timer(uv_timer_t *t)
{
    act(t->data, CURL_SOCKET_TIMEOUT, 0);
}

/* CURLMOPT_TIMERFUNCTION(3): not to be answered from inside, not even a 0. */
static int on_timeout_wanted(CURLM *multi, long ms, void *ctx)
{
    struct http_client *c = ctx;
    (void)multi;
    if (ms < 0) {
        (void)uv_timer_stop(&c->curl_timer);
    } else {
        REQUIRE(uv_timer_start(&c->curl_timer, on_curl_timer, (uint64_t)ms, 0) == 0);
    }
    return 0;
}

const char *http_client_libcurl_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

int http_curl_open(struct http_client *c, struct err *e)
{
    CURLcode rc = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (rc != CURLE_OK) {
        return err_set(e, UV_ENOTSUP, "libcurl: %s", curl_easy_strerror(rc));
    }
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
    if (!(v->features & CURL_VERSION_ASYNCHDNS) || !(v->features & CURL_VERSION_SSL)) {
        curl_global_cleanup();
        return err_set(e, UV_ENOTSUP, "libcurl %s: was built without %s", v->version,
                       v->features & CURL_VERSION_SSL ? "asynchronous name look-up" : "TLS");
    }
    c->multi = curl_multi_init();
    if (!c->multi) {
        curl_global_cleanup();
        return err_set(e, UV_ENOMEM, "libcurl: out of memory");
    }
    CURLMcode m = curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    m = m ? m : curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    m = m ? m : curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timeout_wanted);
    m = m ? m : curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    m = m ? m : curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)c->opt.max_idle);
    m = m ? m : curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    REQUIRE(m == CURLM_OK);
    return 0;
}

void http_curl_close(struct http_client *c)
{
    (void)curl_multi_cleanup(c->multi); /* closes idle connections: may call on_socket() */
    curl_global_cleanup();
}
