// Lies to one process: SKEW_S seconds are added to the clock of the day (not to the monotonic one), and
// an fsync does not end while the file FSYNC_WHILE is there, nor does a write to a file that begins meanwhile:
// so is a disk that hangs.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
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

static int hanging;

static void wait_for_the_disk(void) {
  const char *path = getenv("FSYNC_WHILE");
  struct timespec span = {0, 5000000};
  while (path && access(path, F_OK) == 0) nanosleep(&span, NULL);
}

static void hang(void) {
  __atomic_add_fetch(&hanging, 1, __ATOMIC_SEQ_CST);
  wait_for_the_disk();
  __atomic_sub_fetch(&hanging, 1, __ATOMIC_SEQ_CST);
}

int fsync(int fd) {
  hang();
  return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
  hang();
  return (int)syscall(SYS_fdatasync, fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  struct stat file;
  int waits = __atomic_load_n(&hanging, __ATOMIC_SEQ_CST) > 0;
  if (waits && fstat(fd, &file) == 0 && S_ISREG(file.st_mode)) wait_for_the_disk();
  return (ssize_t)syscall(SYS_write, fd, bytes, count);
}
