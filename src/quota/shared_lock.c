#include "quota/shared_lock.h"

#include "base/require.h"

#include <errno.h>

int shared_lock_init(struct shared_lock *l)
{
    pthread_mutexattr_t how;
    int rc = pthread_mutexattr_init(&how);
    if (rc) {
        return -rc;
    }
    rc = pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    rc = rc ? rc : pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    rc = rc ? rc : pthread_mutex_init(&l->mutex, &how);
    (void)pthread_mutexattr_destroy(&how);
    return -rc;
}

bool shared_lock_take(struct shared_lock *l)
{
    int rc = pthread_mutex_lock(&l->mutex);
    REQUIRE(rc == 0 || rc == EOWNERDEAD); /* anything else is a defect of ours */
    return rc == EOWNERDEAD;
}

void shared_lock_whole(struct shared_lock *l)
{
    REQUIRE(pthread_mutex_consistent(&l->mutex) == 0);
}

void shared_lock_leave(struct shared_lock *l)
{
    REQUIRE(pthread_mutex_unlock(&l->mutex) == 0);
}
