/* For the large buffers of hot paths, written before they are read: they are left as they are where the build fills all
 * other variables with zeros (-ftrivial-auto-var-init). */
#ifndef BASE_UNINITIALIZED_H
#define BASE_UNINITIALIZED_H

#if defined(__has_attribute) && __has_attribute(uninitialized)
#define UNINITIALIZED __attribute__((uninitialized))
#else
#define UNINITIALIZED
#endif

#endif
