/* Loaded into the nsjail that makes a template's jail. nsjail compiles the policy of system calls and would load it
 * into the jail's first process. The processes of a template make jails, which the policy forbids; each process that
 * becomes a program, and its init, load the very same filter first. So this hands the filter on, in a file in memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILTER_FD = 9 }; /* as in init/warm.h */

static int hand_on(const struct sock_fprog *program) {
    size_t size = program->len * sizeof *program->filter;
    int made = memfd_create("filter", MFD_ALLOW_SEALING);
    if (made < 0 || write(made, program->filter, size) != (ssize_t)size) return -1;
    if (fcntl(made, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0 || dup2(made, FILTER_FD) != FILTER_FD) return -1;
    return made == FILTER_FD ? 0 : close(made);
}

__attribute__((visibility("default"))) int prctl(int option, ...) {
    va_list list;
    unsigned long given[4];
    va_start(list, option);
    for (int i = 0; i < 4; i++) given[i] = va_arg(list, unsigned long);
    va_end(list);
    if (option == PR_SET_SECCOMP) {
        if (given[0] == SECCOMP_MODE_FILTER) return hand_on((const struct sock_fprog *)given[1]);
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_prctl, option, given[0], given[1], given[2], given[3]);
}
