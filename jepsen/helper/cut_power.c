// Cuts the power of file systems: stops the processes given, then switches off the file systems given.
//
//   cut_power PID... -- MOUNT...
//
// The stop comes first, so that nothing is sent any more that a node could act on. The ioctl ends all
// writing of a file system at once and drops what is not written: its journal is not flushed.

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH; the kernel exports no header with them.
#define SHUTDOWN _IOR('X', 125, uint32_t)
static uint32_t no_log_flush = 2;

int main(int count, char **words) {
  int at = 1;
  int folders[64];
  int mounts = 0;
  int split = 1;
  while (split < count && strcmp(words[split], "--") != 0) split++;
  // Opened before anything is stopped: the moments of the cuts should lie close together.
  for (int mount = split + 1; mount < count && mounts < 64; mount++) {
    folders[mounts] = open(words[mount], O_RDONLY | O_DIRECTORY);
    if (folders[mounts] < 0) {
      perror(words[mount]);
      return 1;
    }
    mounts++;
  }
  for (; at < split; at++) {
    if (kill((pid_t)atoi(words[at]), SIGSTOP) != 0) {
      perror("kill");
      return 1;
    }
  }
  for (int mount = 0; mount < mounts; mount++) {
    if (ioctl(folders[mount], SHUTDOWN, &no_log_flush) != 0) {
      perror("EXT4_IOC_SHUTDOWN");
      return 1;
    }
  }
  return 0;
}
