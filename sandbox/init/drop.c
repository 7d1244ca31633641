#define _GNU_SOURCE
#include "drop.h"
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(int file) {
    struct stat found;
    if (fstat(file, &found) != 0) return -1;
    size_t size = (size_t)found.st_size;
    struct sock_filter *instructions = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (instructions == MAP_FAILED) return -1;
    struct sock_fprog program = {.len = (unsigned short)(size / sizeof *instructions), .filter = instructions};
    int result = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    int error = errno;
    munmap(instructions, size);
    errno = error;
    return result;
}

int drop_privileges(int filter) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    for (int each = 0; prctl(PR_CAPBSET_READ, each, 0, 0, 0) >= 0; each++)
        if (prctl(PR_CAPBSET_DROP, each, 0, 0, 0) != 0) return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -1;
    if (syscall(SYS_capset, &header, none) != 0) return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return load(filter);
}
