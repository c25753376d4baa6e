// Runs a command whose syncs do nothing and say that they succeeded.
//
//   no_sync COMMAND ARGUMENT...
//
// A filter of system calls, not a preloaded library: the log calls the kernel without the C library.

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
// Error 0: the call is not made and returns success.
#define PRETEND(number)                                     \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),      \
  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0)

int main(int count, char **words) {
  struct sock_filter filter[] = {
    LOAD_NUMBER,
    PRETEND(__NR_fsync),
    PRETEND(__NR_fdatasync),
    PRETEND(__NR_sync_file_range),
    PRETEND(__NR_msync),
    PRETEND(__NR_syncfs),
    PRETEND(__NR_sync),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
  if (count < 2) return 2;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
      || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
    perror("seccomp");
    return 1;
  }
  execvp(words[1], words + 1);
  perror(words[1]);
  return 1;
}
