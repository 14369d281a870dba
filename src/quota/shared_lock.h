/* A lock in memory that several processes share. A process that dies with it, killed at whatever
 * instruction, does not keep it: the next one gets it, and is told to make whole what the lock guards.
 *
 * It is held for some hundred nanoseconds, without a system call. A process that is stopped (SIGSTOP) just then
 * stops those who want it until it goes on, or is killed. */
#ifndef QUOTA_SHARED_LOCK_H
#define QUOTA_SHARED_LOCK_H

#include <pthread.h>
#include <stdbool.h>

struct shared_lock {
    pthread_mutex_t mutex;
};

/* In memory that is shared already. 0, or a negative UV_E*. */
int shared_lock_init(struct shared_lock *l);
/* True: its last holder died in the middle. Then the caller makes whole what it guards, and says so
 * with shared_lock_whole(). */
__attribute__((warn_unused_result)) bool shared_lock_take(struct shared_lock *l);
void shared_lock_whole(struct shared_lock *l);
void shared_lock_leave(struct shared_lock *l);

#endif
