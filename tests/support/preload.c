// Lies to one process: SKEW_S seconds are added to the clock of the day (not to the monotonic one), and
// each fsync takes FSYNC_MS milliseconds longer.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long number(const char *name) {
  const char *value = getenv(name);
  return value ? atol(value) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  int result = (int)syscall(SYS_clock_gettime, clock, out);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += number("SKEW_S");
  return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

static void dawdle(void) {
  long ms = number("FSYNC_MS");
  struct timespec span = {ms / 1000, ms % 1000 * 1000000};
  if (ms > 0) nanosleep(&span, NULL);
}

int fsync(int fd) {
  dawdle();
  return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
  dawdle();
  return (int)syscall(SYS_fdatasync, fd);
}
