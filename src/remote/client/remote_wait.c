#include "remote/client/remote_wait.h"

#include <signal.h>
#include <time.h>

static void remote_wait_set(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGHUP);
}

void remote_wait_begin(void)
{
    sigset_t set;
    remote_wait_set(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

bool remote_wait(uint64_t ms)
{
    sigset_t set;
    const struct timespec most = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    remote_wait_set(&set);
    return sigtimedwait(&set, NULL, &most) > 0; /* EINTR: a signal that nobody asked about */
}
