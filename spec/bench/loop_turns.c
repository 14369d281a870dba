/* What each turn of a broker's event loop costs: loaded into it with LD_PRELOAD, see loop_turns.lua. A turn is from the
 * end of one wait for sockets to the beginning of the next one. Its CPU time is counted: on a machine that others use as
 * well, the clock says little. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BUCKET_NS = 50000, BUCKETS = 4000 }; /* the last one: all that take longer */

/* What loop_turns.lua reads. */
struct turns {
    _Atomic uint64_t longest_ns, count[BUCKETS];
};

static struct turns *turns_map(void)
{
    const char *path = getenv("TIDEGATE_BENCH_TURNS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED
                     : mmap(NULL, sizeof(struct turns), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) {
        (void)close(fd);
    }
    return p == MAP_FAILED ? NULL : p;
}

static uint64_t turns_now(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static struct turns *turns;
static uint64_t since;

static void turns_end(void)
{
    uint64_t took = turns_now() - since;
    uint64_t bucket = took / BUCKET_NS < BUCKETS ? took / BUCKET_NS : BUCKETS - 1;
    turns->count[bucket]++;
    if (took > turns->longest_ns) {
        turns->longest_ns = took;
    }
}

/* libuv calls this one unless it has to block signals. */
int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_wait");
        turns = turns_map();
    }
    if (gettid() != getpid() || !turns) {
        return real(fd, events, n, timeout);
    }
    if (since) {
        turns_end();
    }
    int rc = real(fd, events, n, timeout);
    since = turns_now();
    return rc;
}
