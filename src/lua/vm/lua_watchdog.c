#include "lua/vm/lua_watchdog.h"

#include "base/alloc.h"
#include "base/logging.h"
#include "base/require.h"
#include "lua/vm/lua_failure.h"

#include <errno.h>
#include <execinfo.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum {
    LOOK_MS = 5,
    CALM_MS = 20,        /* between calls: so far apart each is worth a wake-up of its own */
    GRACE_MS = 1,        /* CPU time from the thread's answer on, see `asked` */
    IDLE_WAIT_MS = 1000, /* for the next call, should its signal be missed */
    PLACE_WAIT_MS = 500  /* for the handler to say where the loop thread is */
};

/* What the threads and the signal handler share is atomic. `call` goes up at each entry and exit,
 * so that an odd number is a call under way, and the same number the same call. */
struct lua_watchdog {
    pthread_t watched;
    clockid_t clock; /* CPU time of the watched thread */
    uint64_t hard_ns;
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t wake;
    bool ending; /* under the mutex */

    /* written by the watched thread */
    _Atomic uint64_t call;
    _Atomic(lua_State *) running;
    _Atomic(lua_Hook) stop;
    _Atomic(const struct lua_budget *) budget;
    _Atomic uint64_t cpu_ns; /* allowed, pauses included */
    _Atomic bool paused;
    uint64_t paused_at;
    /* written by the handler, on the watched thread */
    _Atomic uint64_t asked;    /* the overdue call that was going on when the first signal came */
    _Atomic uint64_t asked_at; /* CPU time then */
    _Atomic bool armed;
    _Atomic bool placed;
    char place[160]; /* before `placed` */
    /* written by the watchdog */
    _Atomic uint64_t late;    /* see lua_watchdog_late(); 0: none */
    _Atomic uint64_t overdue; /* the call that is over its budget; 0: none */
    _Atomic uint64_t stopped; /* the call to stop; 0: none */
    _Atomic uint64_t fatal;   /* the call that cannot be stopped; 0: none */
    _Atomic bool logged;
    _Atomic bool asleep; /* also reset by the thread that wakes it */
};

/* What the watchdog has seen of one call. */
struct sight {
    uint64_t call, since;
};

/* Real-time signals carry a pointer, so the handler needs no global. Of these the C library keeps
 * the first ones (signal(7)); libuv and the other libraries here use none. */
static int stop_signal(void)
{
    return SIGRTMIN;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    REQUIRE(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

uint64_t lua_watchdog_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- in the signal handler: only async-signal-safe calls (signal-safety(7)) */

static size_t lua_watchdog_put(char *out, size_t size, size_t at, const char *text)
{
    while (*text && at + 1 < size) {
        out[at++] = *text++;
    }
    out[at] = '\0';
    return at;
}

static size_t lua_watchdog_put_number(char *out, size_t size, size_t at, unsigned n)
{
    char digits[16];
    size_t i = sizeof digits - 1;
    digits[i] = '\0';
    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n && i);
    return lua_watchdog_put(out, size, at, digits + i);
}

/* The innermost line of the policy. lua_getinfo() with these options only reads. */
static void find_place(lua_State *L, char *out, size_t size)
{
    lua_Debug ar;
    out[0] = '\0';
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0 &&
            !lua_failure_internal(ar.short_src)) {
            size_t n = lua_watchdog_put(out, size, 0, ar.short_src);
            n = lua_watchdog_put(out, size, n, ":");
            lua_watchdog_put_number(out, size, n, (unsigned)ar.currentline);
            return;
        }
    }
}

/* Says where the thread is, lets the watchdog log it, adds the C stack, ends the process. */
static void abort_here(struct lua_watchdog *w)
{
    static const char head[] = "C stack of the call that could not be stopped:\n";
    void *frames[48];
    find_place(atomic_load(&w->running), w->place, sizeof w->place);
    atomic_store(&w->placed, true);
    for (int i = 0; i < PLACE_WAIT_MS && !atomic_load(&w->logged); i++) {
        (void)poll(NULL, 0, 1);
    }
    ssize_t n = write(STDERR_FILENO, head, sizeof head - 1);
    (void)n; /* nobody is left to tell */
    backtrace_symbols_fd(frames, backtrace(frames, sizeof frames / sizeof *frames), STDERR_FILENO);
    abort();
}

/* lua_sethook() is one of the few functions that may be called from a handler (its comment in
 * ldebug.c). A hook on calls, too: C functions that call C functions execute no instruction. */
static void arm(struct lua_watchdog *w)
{
    lua_sethook(atomic_load(&w->running), atomic_load(&w->stop), LUA_MASKCOUNT | LUA_MASKCALL, 1);
    atomic_store(&w->armed, true);
}

static void lua_watchdog_on_signal(int signum, siginfo_t *info, void *context)
{
    (void)signum;
    (void)context;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid()) {
        return; /* not from us: what it carries is no pointer */
    }
    struct lua_watchdog *w = info->si_value.sival_ptr;
    uint64_t call = atomic_load(&w->call);
    if (call % 2 == 0) {
        return; /* it has just ended */
    }
    if (call == atomic_load(&w->fatal)) {
        abort_here(w);
    }
    if (call == atomic_load(&w->stopped)) {
        if (!atomic_load(&w->armed)) {
            arm(w);
        }
    } else if (call == atomic_load(&w->overdue) && call != atomic_load(&w->asked)) {
        atomic_store(&w->asked_at, lua_watchdog_cpu_ns()); /* clock_gettime() is on the list */
        atomic_store(&w->asked, call);
    }
}

/* ---- the watchdog's thread */

static void send_signal(struct lua_watchdog *w)
{
    int rc = pthread_sigqueue(w->watched, stop_signal(), (union sigval){.sival_ptr = w});
    if (rc && rc != EAGAIN) { /* EAGAIN: the queue is full; the next look tries again */
        log_error("policy", "cannot signal the loop", LOG_F(log_str("error", strerror(rc))));
    }
}

static void lua_watchdog_give_up(struct lua_watchdog *w, uint64_t call, uint64_t used)
{
    const struct lua_budget *budget = atomic_load(&w->budget);
    atomic_store(&w->fatal, call);
    send_signal(w);
    for (int i = 0; i < PLACE_WAIT_MS && !atomic_load(&w->placed); i++) {
        uv_sleep(1);
    }
    bool placed = atomic_load(&w->placed);
    if (!placed && atomic_load(&w->call) != call) {
        return; /* it ended after all */
    }
    log_error("policy", "a call into the policy does not end and cannot be stopped: aborting",
              LOG_F(log_str("hook", budget->hook), log_str("at", placed ? w->place : "?"),
                    log_uint("cpu_ms", used / 1000000),
                    log_str("setting", "policy.hard_limit_ms")));
    atomic_store(&w->logged, true);
    uv_sleep(2 * PLACE_WAIT_MS); /* for the handler to write the stack and abort */
    abort();
}

static void lua_watchdog_look(struct lua_watchdog *w, struct sight *s)
{
    uint64_t call = atomic_load(&w->call);
    uint64_t cpu = clock_ns(w->clock);
    uint64_t allowed = atomic_load(&w->cpu_ns);
    bool paused = atomic_load(&w->paused);
    if (call != atomic_load(&w->call)) {
        return; /* not one call's figures */
    }
    if (call != s->call) {
        *s = (struct sight){call, cpu};
        return;
    }
    uint64_t used = cpu - s->since;
    if (call % 2 && !paused && used >= (allowed + w->hard_ns) / 5) { /* 5: a look may come late */
        atomic_store(&w->late, call);
    }
    if (call % 2 == 0 || paused || used < allowed) {
        return;
    }
    atomic_store(&w->overdue, call);
    if (atomic_load(&w->asked) != call) {
        send_signal(w);
        return;
    }
    uint64_t asked_at = atomic_load(&w->asked_at); /* may be later than `cpu` */
    uint64_t since = cpu > asked_at ? cpu - asked_at : 0;
    if (since >= w->hard_ns) {
        lua_watchdog_give_up(w, call, used);
    } else if (since >= GRACE_MS * UINT64_C(1000000) && !atomic_load(&w->armed)) {
        atomic_store(&w->stopped, call);
        send_signal(w); /* once: setting a hook visits every frame, which takes long when deep */
    }
}

static void watch(void *arg)
{
    struct lua_watchdog *w = arg;
    struct sight s = {0};
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* the process's signals are the loop's */
    bool calm = true;
    uv_mutex_lock(&w->mutex);
    while (!w->ending) {
        uint64_t before = s.call;
        lua_watchdog_look(w, &s);
        bool idle = s.call % 2 == 0 && (calm || s.call == before);
        /* Without a call the next one is waited for: looks cost more than the few calls of a calm
         * broker. Calls pay for no fence, so one that begins in this very moment may miss `asleep`:
         * the wait has an end. */
        atomic_store(&w->asleep, idle);
        idle = idle && atomic_load(&w->call) == s.call;
        uint64_t wait_ms = idle ? IDLE_WAIT_MS : LOOK_MS, from = uv_hrtime();
        uv_cond_timedwait(&w->wake, &w->mutex, wait_ms * 1000000);
        calm = idle && uv_hrtime() - from >= CALM_MS * UINT64_C(1000000);
    }
    uv_mutex_unlock(&w->mutex);
}

/* ---- life */

static int lua_watchdog_start(struct lua_watchdog *w)
{
    struct sigaction action = {.sa_sigaction = lua_watchdog_on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    void *frame;
    (void)backtrace(&frame, 1); /* loads the unwinder: not for a signal handler to do */
    int rc = pthread_getcpuclockid(w->watched, &w->clock);
    if (rc) {
        return uv_translate_sys_error(rc);
    }
    sigemptyset(&action.sa_mask);
    if (sigaction(stop_signal(), &action, NULL)) {
        return uv_translate_sys_error(errno);
    }
    return uv_thread_create(&w->thread, watch, w);
}

struct lua_watchdog *lua_watchdog_new(uint64_t hard_ms, struct err *e)
{
    struct lua_watchdog *w = xcalloc(1, sizeof *w);
    w->watched = pthread_self();
    w->hard_ns = hard_ms * UINT64_C(1000000);
    REQUIRE(uv_mutex_init(&w->mutex) == 0 && uv_cond_init(&w->wake) == 0);
    int rc = lua_watchdog_start(w);
    if (rc) {
        err_set(e, rc, "cannot watch over policies: %s", uv_strerror(rc));
        uv_cond_destroy(&w->wake);
        uv_mutex_destroy(&w->mutex);
        free(w);
        return NULL;
    }
    return w;
}

void lua_watchdog_free(struct lua_watchdog *w)
{
    if (!w) {
        return;
    }
    REQUIRE(pthread_equal(w->watched, pthread_self()) && atomic_load(&w->call) % 2 == 0);
    uv_mutex_lock(&w->mutex);
    w->ending = true;
    uv_cond_signal(&w->wake);
    uv_mutex_unlock(&w->mutex);
    /* A signal still on its way is delivered before the join returns to this thread. */
    REQUIRE(uv_thread_join(&w->thread) == 0);
    uv_cond_destroy(&w->wake);
    uv_mutex_destroy(&w->mutex);
    free(w);
}

/* ---- on the watched thread */

static void lua_watchdog_set(_Atomic uint64_t *to, uint64_t value)
{
    atomic_store_explicit(to, value, memory_order_release);
}

static uint64_t get(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed); /* this thread wrote it */
}

/* A call begins while the watchdog waits for one. */
static void wake(struct lua_watchdog *w)
{
    atomic_store(&w->asleep, false);
    uv_mutex_lock(&w->mutex); /* it waits already, or has not looked yet */
    uv_mutex_unlock(&w->mutex);
    uv_cond_signal(&w->wake); /* not earlier: it would wake up only to wait for the mutex */
}

void lua_watchdog_enter(struct lua_watchdog *w, lua_State *L, lua_Hook stop,
                        struct lua_allowance allowed)
{
    uint64_t call = get(&w->call);
    atomic_store_explicit(&w->running, L, memory_order_relaxed);
    atomic_store_explicit(&w->stop, stop, memory_order_relaxed);
    atomic_store_explicit(&w->budget, allowed.budget, memory_order_relaxed);
    atomic_store_explicit(&w->cpu_ns, allowed.cpu_ns, memory_order_relaxed);
    lua_watchdog_set(&w->call, call + 1 + call % 2);
    if (atomic_load_explicit(&w->asleep, memory_order_relaxed)) {
        wake(w);
    }
}

void lua_watchdog_expire(struct lua_watchdog *w)
{
    arm(w);
}

void lua_watchdog_rename(struct lua_watchdog *w, const struct lua_budget *budget)
{
    atomic_store_explicit(&w->budget, budget, memory_order_relaxed);
}

void lua_watchdog_leave(struct lua_watchdog *w)
{
    lua_watchdog_set(&w->call, get(&w->call) + 1);
    atomic_signal_fence(memory_order_seq_cst); /* from here on the handler does nothing */
    if (atomic_load_explicit(&w->armed, memory_order_relaxed)) {
        lua_sethook(atomic_load(&w->running), NULL, 0, 0);
        atomic_store(&w->armed, false);
    }
}

void lua_watchdog_pause(struct lua_watchdog *w)
{
    w->paused_at = lua_watchdog_cpu_ns();
    atomic_store(&w->paused, true);
}

void lua_watchdog_resume(struct lua_watchdog *w)
{
    lua_watchdog_set(&w->cpu_ns, get(&w->cpu_ns) + lua_watchdog_cpu_ns() - w->paused_at);
    atomic_store(&w->paused, false);
}

bool lua_watchdog_overdue(const struct lua_watchdog *w)
{
    return atomic_load_explicit(&w->armed, memory_order_relaxed);
}

bool lua_watchdog_late(const struct lua_watchdog *w)
{
    return lua_watchdog_overdue(w) || atomic_load(&w->late) == get(&w->call);
}

/* ---- CPU time of a piece */

enum { SHORT_NS = 1000000 };

struct lua_cpu_mark lua_watchdog_mark(struct lua_cpu_clock *c)
{
    uint64_t now = uv_hrtime();
    if (now - c->wall_ns > SHORT_NS) {
        *c = (struct lua_cpu_clock){now, lua_watchdog_cpu_ns()};
    }
    return (struct lua_cpu_mark){now, c->cpu_ns};
}

uint64_t lua_watchdog_since(const struct lua_cpu_mark *m)
{
    uint64_t wall;
    return lua_watchdog_lap(m, &wall);
}

uint64_t lua_watchdog_lap(const struct lua_cpu_mark *m, uint64_t *wall_ns)
{
    uint64_t wall = uv_hrtime() - m->wall_ns;
    *wall_ns = wall;
    if (wall <= SHORT_NS) {
        return wall;
    }
    uint64_t cpu = lua_watchdog_cpu_ns() - m->cpu_ns;
    return cpu < wall ? cpu : wall;
}
