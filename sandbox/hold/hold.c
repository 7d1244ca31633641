/* Loaded into an interpreter before its own libraries (LD_PRELOAD). It stops the interpreter at its first look at its
 * main file, when all of its start is over and no byte of a user's was read. From there it is forked, once for each
 * program (sandbox/init/warm.c), or goes on itself.
 *
 * The copies of one interpreter share what it chose by chance at its start: the layout of its memory, the seed of its
 * hashes. */
#define _GNU_SOURCE
#include "../init/begin.h"
#include "../init/drop.h"
#include "../init/warm.h"
#include "pages.h"
#include "python.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 65536, PATH = 256 };

static int holds, keeper, filter;
static uint64_t beside; /* keeper and interpreter, which the kernel counts with a copy's processes: they have one user */
static int once; /* the interpreter itself goes on: `keeper` is then its socket of init */
static char main_file[PATH];
static const char *packages; /* to be imported before the first copy is made */
static struct found found;
static size_t names; /* the bytes of the names in `found` */
static int importing;

static void fail(const char *what) {
    dprintf(2, "occd-hold: %s: %s\n", what, strerror(errno));
    _exit(125);
}

/* The fields of /proc/self/stat, by their numbers in proc(5). */
enum { START_CODE = 26, END_CODE, START_STACK, START_DATA = 45, END_DATA, START_BRK, ARG_START, ARG_END, ENV_START, ENV_END };

static int read_stat(unsigned long field[ENV_END + 1]) {
    char text[1024], *rest;
    int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    if (size <= 0) return 0;
    text[size] = 0;
    if (!(rest = strrchr(text, ')'))) return 0;
    rest += 2; /* the third field */
    for (int i = 4; i <= ENV_END && (rest = strchr(rest, ' ')); i++) field[i] = strtoul(++rest, NULL, 10);
    return rest != NULL;
}

/* What /proc/self/environ shows ends here. Where the kernel cannot do this, zeros follow. */
static void end_environment(const unsigned long *field, const char *end) {
    struct prctl_mm_map map = {
        .start_code = field[START_CODE],
        .end_code = field[END_CODE],
        .start_data = field[START_DATA],
        .end_data = field[END_DATA],
        .start_brk = field[START_BRK],
        .brk = (unsigned long)sbrk(0),
        .start_stack = field[START_STACK],
        .arg_start = field[ARG_START],
        .arg_end = field[ARG_END],
        .env_start = field[ENV_START],
        .env_end = (unsigned long)end,
        .exe_fd = (uint32_t)-1,
    };
    prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

static void follow(char **envp, const char *from, char *into) {
    for (char **each = envp; *each; each++)
        if (*each == from) *each = into;
}

static void forget(char **envp, const char *name) {
    char **kept = envp;
    for (char **each = envp; *each; each++)
        if (strncmp(*each, name, strlen(name)) != 0) *kept++ = *each;
    *kept = NULL;
}

/* Only the program's own environment is left, at the place where it would be. Another library may have taken a variable
 * out of `envp` alone, which /proc/self/environ shows all the same. */
static void forget_environment(char **envp) {
    unsigned long field[ENV_END + 1] = {0};
    if (!read_stat(field)) fail("/proc/self/stat");
    char *from = (char *)field[ENV_START], *into = from, *end = (char *)field[ENV_END];
    forget(envp, "OCCD_");
    while (from < end) {
        char *text = from, *others = NULL;
        from += strlen(text) + 1;
        if (strncmp(text, "OCCD_", 5) == 0) continue;
        if (strncmp(text, "LD_PRELOAD=", 11) == 0) {
            if (!(others = strchr(text + 11, ':'))) {
                forget(envp, "LD_PRELOAD=");
                continue;
            }
            memmove(text + 11, others + 1, strlen(others + 1) + 1);
        }
        size_t size = strlen(text) + 1;
        memmove(into, text, size);
        follow(envp, text, into);
        into += size;
    }
    memset(into, 0, (size_t)(end - into));
    end_environment(field, into);
}

__attribute__((constructor)) static void begin_to_hold(int argc, char **argv, char **envp) {
    (void)argc, (void)argv;
    const char *told = getenv("OCCD_HOLD"), *named = getenv("OCCD_PACKAGES");
    if (!told || sscanf(told, "%d,%d,%d,%255s", &control, &keeper, &filter, main_file) != 4) return;
    if (named && !(packages = strdup(named))) fail("strdup");
    once = filter < 0;
    fcntl(control, F_SETFD, FD_CLOEXEC);
    fcntl(keeper, F_SETFD, FD_CLOEXEC);
    fcntl(filter, F_SETFD, FD_CLOEXEC);
    forget_environment(envp);
    holds = 1;
}

/* The kernel tells a thread in its memory which processor it is on. Of a process that is forked by one that shared its
 * parent's memory the kernel knows nothing, and glibc would go on with the processor that the interpreter had. */
static void register_processor(void) {
    const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
    const unsigned *size = dlsym(RTLD_DEFAULT, "__rseq_size");
    if (!offset || !size || !*size) return;
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + *offset);
    area->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;
    syscall(SYS_rseq, area, *size > sizeof *area ? *size : sizeof *area, 0, RSEQ_SIG);
}

/* Waits for the job, and takes it as init's child does that executes a program. */
static void become_program(int gate) {
    struct go go;
    int files[FILES_MAX];
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof files)];
    } extra;
    struct iovec into = {.iov_base = &go, .iov_len = sizeof go};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    ssize_t size;
    while ((size = recvmsg(gate, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) continue;
    if (size != sizeof go) _exit(0); /* init has ended, or discards this jail */
    struct cmsghdr *came = CMSG_FIRSTHDR(&message);
    size_t count = came ? (came->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
    if (count) memcpy(files, CMSG_DATA(came), count * sizeof(int));
    close(gate);
    setsid();
    if (chdir("/box") != 0) fail_to_start("/box");
    go.processes += beside;
    begin(&go, files, 0);
    for (size_t i = 0; i < count; i++) close(files[i]);
    close(control);
    prctl(PR_SET_DUMPABLE, 1);
}

/* The first process of a new jail, while the interpreter waits: it has the interpreter's memory until it becomes init. */
struct jail {
    int gate[2];
    jmp_buf program;
};

static int begin_jail(void *of) {
    struct jail *jail = of;
    char numbers[5][24];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, jail->gate) != 0) fail("socketpair");
    pid_t program = fork();
    if (program < 0) fail("fork");
    if (program == 0) {
        close(jail->gate[0]);
        longjmp(jail->program, 1);
    }
    int given[4] = {control, filter, jail->gate[0], program};
    for (int i = 0; i < 4; i++) snprintf(numbers[i], sizeof numbers[i], "%d", given[i]);
    snprintf(numbers[4], sizeof numbers[4], "%zu", resident);
    char *argv[] = {"/.occd-init", "adopt", numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], NULL};
    char *envp[] = {NULL};
    for (int i = 0; i < 3; i++) fcntl(given[i], F_SETFD, 0);
    execve(argv[0], argv, envp);
    _exit(125);
}

enum { JAIL = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET };

static void add_name(const char *name) {
    size_t size = strlen(name) + 1;
    if (names + size > sizeof found.names) {
        errno = E2BIG;
        fail("the packages have many names");
    }
    memcpy(found.names + names, name, size - 1);
    found.names[names + size - 1] = '\n';
    names += size;
}

/* With the packages. What a program that does nothing needs of them is tried, because they are large. */
static int is_trial(void) {
    const char *modules;
    struct timespec used;
    importing = 1;
    import_packages(packages, &modules);
    importing = 0;
    add_name(modules);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    found.type = 'I';
    found.cpu_ns = (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
    ssize_t size = (ssize_t)(offsetof(struct found, names) + names);
    find_written();
    pid_t copy = begin_trial();
    if (copy == 0) return 1;
    if (copy < 0) fail("fork");
    end_trial(copy);
    found.copied = copied;
    if (send(control, &found, (size_t)size, MSG_NOSIGNAL) != size) _exit(0);
    return 0;
}

static void hold(void) {
    static struct jail jail;
    char byte;
    holds = 0;
    if (!packages) {
        find_written();
    } else if (is_trial()) {
        begin_packages();
        return;
    }
    prctl(PR_SET_DUMPABLE, 0);
    if (once) {
        if (send(keeper, &resident, sizeof resident, MSG_NOSIGNAL) != sizeof resident) _exit(0);
        become_program(keeper);
        return;
    }
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) fail("mmap");
    if (send(keeper, "", 1, MSG_NOSIGNAL) != 1) _exit(0);
    if (setjmp(jail.program) != 0) {
        register_processor();
        beside = 2;
        close(keeper);
        if (drop_privileges(filter) != 0) fail("cannot drop privileges");
        close(filter);
        copy_written();
        become_program(jail.gate[1]);
        munmap(stack, STACK);
        begin_packages();
        return;
    }
    for (;;) {
        ssize_t size = recv(keeper, &byte, 1, 0);
        if (size < 0 && errno == EINTR) continue;
        if (size != 1) _exit(0);
        if (clone(begin_jail, stack + STACK, JAIL | CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD, &jail) < 0) fail("clone");
    }
}

static void look_at(const char *path) {
    if ((!holds && !importing) || !path) return;
    if (strncmp(path, "/box/", 5) == 0) path += 5;
    if (importing && *path && *path != '/') add_name(path);
    if (!holds || strcmp(path, main_file) != 0) return;
    int error = errno;
    hold();
    errno = error;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list list; \
        va_start(list, last); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

#define SEEN __attribute__((visibility("default")))
#define OPEN(name) \
    SEEN int name(const char *path, int flags, ...) { \
        static __typeof__(&name) real; \
        MODE(flags) \
        look_at(path); \
        if (!real) real = REAL(name); \
        return real(path, flags, mode); \
    }
#define OPENAT(name) \
    SEEN int name(int folder, const char *path, int flags, ...) { \
        static __typeof__(&name) real; \
        MODE(flags) \
        look_at(path); \
        if (!real) real = REAL(name); \
        return real(folder, path, flags, mode); \
    }
#define FOPEN(name) \
    SEEN FILE *name(const char *path, const char *mode) { \
        static __typeof__(&name) real; \
        look_at(path); \
        if (!real) real = REAL(name); \
        return real(path, mode); \
    }
#define STAT(name, type) \
    SEEN int name(const char *restrict path, struct type *restrict into) { \
        static __typeof__(&name) real; \
        look_at(path); \
        if (!real) real = REAL(name); \
        return real(path, into); \
    }
#define STATAT(name, type) \
    SEEN int name(int folder, const char *restrict path, struct type *restrict into, int flags) { \
        static __typeof__(&name) real; \
        look_at(path); \
        if (!real) real = REAL(name); \
        return real(folder, path, into, flags); \
    }

/* Node asks by statx, for which old C libraries have no function. */
SEEN long syscall(long number, ...) {
    static __typeof__(&syscall) real;
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) given[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_statx) look_at((const char *)given[1]);
    if (!real) real = REAL(syscall);
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)
