/* engine/base/control_group.h -- what the control groups that a process is in leave it.
 *
 * A group is bound by its own limits and by those of every group above it.  Both versions of the
 * interface are read, where /proc/self/cgroup and /proc/self/mountinfo say that they are; of a
 * container's own view there is only what it shows.  What cannot be read sets no limit.
 */
#ifndef REFINE_CONTROL_GROUP_H
#define REFINE_CONTROL_GROUP_H

#include <stdint.h>

/* Bytes that may still be had; what the kernel can take back at once, of files it has read, does
 * not count as taken.  UINT64_MAX: no limit.  root: the directory that /proc and /sys are in, ""
 * but in tests. */
uint64_t control_group_memory(const char *root);

/* Processors' worth of time, such as 1.5; INFINITY: no limit. */
double control_group_cpus(const char *root);

#endif
