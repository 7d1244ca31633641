#define _GNU_SOURCE
#include "alone.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OURS AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OURS AUDIT_ARCH_AARCH64
#endif

#ifdef __NR_mknod
#define MKNOD __NR_mknod
#else
#define MKNOD __NR_mknodat
#endif

#define SPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define OF_CALL(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define IF(test, value, yes, no) BPF_JUMP(BPF_JMP | BPF_K | (test), (value), (yes), (no))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, (what))

int stay_alone(void) {
    struct sock_filter filter[] = {
        OF_CALL(arch),
        IF(BPF_JEQ, OURS, 0, 16),               /* numbers of other machines mean other calls */
        OF_CALL(nr),
        IF(BPF_JGE, 0x40000000, 14, 0),         /* x32 */
        IF(BPF_JEQ, __NR_clone3, 13, 0),        /* whose flags a filter cannot read; libraries do without */
        IF(BPF_JEQ, __NR_unshare, 13, 0),
        IF(BPF_JEQ, __NR_setns, 12, 0),
        IF(BPF_JEQ, __NR_clone, 2, 0),
        IF(BPF_JEQ, __NR_mknodat, 3, 0),
        IF(BPF_JEQ, MKNOD, 4, 10),
        OF_CALL(args[0]),
        IF(BPF_JSET, SPACES, 7, 8),
        OF_CALL(args[2]),
        BPF_STMT(BPF_JMP | BPF_JA, 1),
        OF_CALL(args[1]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, S_IFMT),
        IF(BPF_JEQ, S_IFCHR, 2, 0),
        IF(BPF_JEQ, S_IFBLK, 1, 2),
        ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
        ANSWER(SECCOMP_RET_ERRNO | EPERM),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
