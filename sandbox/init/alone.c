#define _GNU_SOURCE
#include "alone.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OURS AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OURS AUDIT_ARCH_AARCH64
#endif

#define SPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define OF_CALL(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define IF(test, value, yes, no) BPF_JUMP(BPF_JMP | BPF_K | (test), (value), (yes), (no))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, (what))

int stay_alone(void) {
    struct sock_filter filter[] = {
        OF_CALL(arch),
        IF(BPF_JEQ, OURS, 0, 8),                /* numbers of other machines mean other calls */
        OF_CALL(nr),
        IF(BPF_JGE, 0x40000000, 6, 0),          /* x32 */
        IF(BPF_JEQ, __NR_clone3, 5, 0),         /* whose flags a filter cannot read; libraries do without */
        IF(BPF_JEQ, __NR_unshare, 5, 0),
        IF(BPF_JEQ, __NR_setns, 4, 0),
        IF(BPF_JEQ, __NR_clone, 0, 4),
        OF_CALL(args[0]),
        IF(BPF_JSET, SPACES, 1, 2),
        ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
        ANSWER(SECCOMP_RET_ERRNO | EPERM),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
