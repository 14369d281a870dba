/* See child_run.h. A loop of its own, so that nothing else happens meanwhile. */
#include "tools/child_run.h"

#include "base/alloc.h"
#include "base/require.h"

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

enum { OUTPUTS = 2, READ_BYTES = 16 * 1024 };

struct child {
    uv_loop_t loop;
    uv_process_t process;
    uv_timer_t timer;
    uv_pipe_t outputs[OUTPUTS];
    char bytes[READ_BYTES];
    struct strbuf *out;
    struct child_result *result;
    unsigned open; /* of process and outputs */
    int rc;        /* why it was given up */
};

/* The time limit holds until the program has ended and no process holds its outputs any more. */
static void child_run_on_closed(uv_handle_t *h)
{
    struct child *c = h->data;
    if (--c->open == 0) {
        uv_close((uv_handle_t *)&c->timer, NULL);
    }
}

static void close_one(uv_handle_t *h)
{
    if (!uv_is_closing(h)) {
        uv_close(h, child_run_on_closed);
    }
}

static void close_outputs(struct child *c)
{
    for (int i = 0; i < OUTPUTS; i++) {
        close_one((uv_handle_t *)&c->outputs[i]);
    }
}

static void child_run_on_ended(uv_process_t *p, int64_t status, int signal)
{
    struct child *c = p->data;
    *c->result = (struct child_result){status, signal};
    close_one((uv_handle_t *)p);
}

static void child_run_give_up(struct child *c, int rc)
{
    c->rc = rc;
    if (!uv_is_closing((uv_handle_t *)&c->process)) {
        (void)uv_process_kill(&c->process, SIGKILL); /* it may have ended just now */
    }
    close_outputs(c);
}

static void on_late(uv_timer_t *t)
{
    child_run_give_up(t->data, UV_ETIMEDOUT);
}

static void alloc_bytes(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct child *c = h->data;
    (void)suggested;
    *buf = uv_buf_init(c->bytes, sizeof c->bytes);
}

static void child_run_on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct child *c = s->data;
    if (n > 0 && strbuf_append(c->out, buf->base, (size_t)n)) {
        child_run_give_up(c, UV_ENOBUFS);
    } else if (n < 0) {
        close_one((uv_handle_t *)s);
    }
}

static int child_run_start(struct child *c, const char *const *argv, unsigned timeout_ms)
{
    uv_stdio_container_t stdio[1 + OUTPUTS] = {{.flags = UV_IGNORE}};
    uv_process_options_t o = {.file = argv[0],
                              .args = (char **)(uintptr_t)argv,
                              .exit_cb = child_run_on_ended,
                              .stdio = stdio,
                              .stdio_count = 1 + OUTPUTS};
    for (int i = 0; i < OUTPUTS; i++) {
        REQUIRE(uv_pipe_init(&c->loop, &c->outputs[i], 0) == 0); /* allocates nothing */
        c->outputs[i].data = c;
        stdio[1 + i].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
        stdio[1 + i].data.stream = (uv_stream_t *)&c->outputs[i];
    }
    REQUIRE(uv_timer_init(&c->loop, &c->timer) == 0);
    c->timer.data = c->process.data = c;
    int rc = uv_spawn(&c->loop, &c->process, &o);
    if (rc) {
        close_one((uv_handle_t *)&c->process); /* there is none: nothing to kill */
        close_outputs(c);
        return rc;
    }
    REQUIRE(uv_timer_start(&c->timer, on_late, timeout_ms, 0) == 0);
    for (int i = 0; i < OUTPUTS; i++) {
        REQUIRE(uv_read_start((uv_stream_t *)&c->outputs[i], alloc_bytes, child_run_on_read) == 0);
    }
    return 0;
}

int child_run(const char *const *argv, unsigned timeout_ms, struct strbuf *out,
              struct child_result *result, struct err *e)
{
    struct child *c = xcalloc(1, sizeof *c);
    int rc = uv_loop_init(&c->loop);
    if (rc) {
        free(c);
        return err_set(e, rc, "%s: %s", argv[0], uv_strerror(rc));
    }
    c->open = 1 + OUTPUTS;
    c->out = out;
    c->result = result;
    rc = child_run_start(c, argv, timeout_ms);
    REQUIRE(uv_run(&c->loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&c->loop) == 0);
    rc = rc ? rc : c->rc;
    free(c);
    switch (rc) {
    case 0:
        return 0;
    case UV_ETIMEDOUT:
        return err_set(e, rc, "%s took longer than %u s", argv[0], timeout_ms / 1000);
    case UV_ENOBUFS:
        return err_set(e, rc, "%s wrote more than %zu bytes", argv[0], out->max);
    default:
        return err_set(e, rc, "%s: %s", argv[0], uv_strerror(rc));
    }
}
