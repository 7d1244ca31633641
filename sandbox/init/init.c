/* The first process of every jail: starts one program, reaps, and reports its exact end.
 *
 * A program that is PID 1 of its namespace misses the default actions of signals (abort() ends as
 * SIGSEGV, kill(getpid(), SIGTERM) is survived), and nsjail's exit code cannot tell "killed by
 * SIGSEGV" from "return 139". So this process is PID 1, and theirs is its child.
 *
 * It talks to occd over one stream socket, whose number is argv[1]:
 *   init -> occd  "R"           the jail stands; occd reads our host pid from the credentials.
 *   occd -> init  struct go, then argc + envc strings, each NUL-terminated. argv may be unknown
 *                 until then: a jail can be prepared before its job is. With it come open files
 *                 of the job's cgroups, which we join: a thread that moves itself by v1's `tasks`
 *                 waits for nobody, while being moved costs an RCU grace period (7 ms).
 *   init -> occd  "S"           sent just before the program is started.
 *   init -> occd  struct end    the first process ended, or a guard (below) ended it.
 * End of file on the socket means that occd died: we exit, and the kernel kills the namespace.
 *
 * We run as the jail's user, so their program could ptrace us; PR_SET_DUMPABLE 0 forbids that.
 * Without cgroups we sum memory and CPU time of the namespace every 10 ms ourselves.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct go { /* mirrored by occd/sandbox/init.py */
    uint32_t argc, envc, length; /* length: bytes of the strings */
    uint32_t groups;             /* files of cgroups that came along; 0: none limits us, sample */
    uint64_t file_size, open_files, processes, stack, memory, cpu_ns;
};

struct end {
    uint8_t type; /* 'X' */
    uint8_t guarded; /* 0, 'm' (memory) or 'c' (CPU time): a guard ended it */
    uint16_t pad;
    int32_t status; /* as from waitpid */
    uint64_t wall_ns, cpu_ns, peak_bytes;
};

#define GROUPS_MAX 8

static int control;

static void fail(const char *what) {
    fprintf(stderr, "occd-init: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void read_all(void *buffer, size_t length) {
    char *at = buffer;
    while (length > 0) {
        ssize_t n = read(control, at, length);
        if (n == 0) _exit(0); /* occd is gone, or discards a prepared jail */
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("read");
        at += n;
        length -= (size_t)n;
    }
}

static void read_go(struct go *go) {
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(GROUPS_MAX * sizeof(int))];
    } extra;
    struct iovec into = {.iov_base = go, .iov_len = sizeof *go};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    ssize_t n = recvmsg(control, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    if (n == 0) _exit(0); /* occd is gone, or discards a prepared jail */
    if (n != sizeof *go) fail("recvmsg");
    struct cmsghdr *came = CMSG_FIRSTHDR(&message);
    for (uint32_t i = 0; i < go->groups; i++) {
        int fd;
        if (!came || came->cmsg_len < CMSG_LEN((i + 1) * sizeof fd)) fail("missing cgroup");
        memcpy(&fd, CMSG_DATA(came) + i * sizeof fd, sizeof fd);
        if (write(fd, "0", 1) != 1) fail("cannot join a cgroup");
        close(fd);
    }
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void limit(int which, uint64_t value) {
    struct rlimit old, new = {value, value};
    if (getrlimit(which, &old) == 0 && old.rlim_max < value) new.rlim_cur = new.rlim_max = old.rlim_max;
    if (setrlimit(which, &new) != 0) fail("setrlimit");
}

static void start(const struct go *go, char **argv, char **envp) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    limit(RLIMIT_FSIZE, go->file_size);
    limit(RLIMIT_NOFILE, go->open_files);
    limit(RLIMIT_STACK, go->stack);
    if (go->groups == 0) limit(RLIMIT_NPROC, go->processes);
    environ = envp;
    execvp(argv[0], argv);
    fprintf(stderr, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static uint64_t nanoseconds(struct timeval t) {
    return ((uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec) * 1000u;
}

static uint64_t reaped_cpu_ns(struct rusage *usage) {
    getrusage(RUSAGE_CHILDREN, usage);
    return nanoseconds(usage->ru_utime) + nanoseconds(usage->ru_stime);
}

static int read_proc(const char *pid, const char *name, char *into, size_t size) {
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, into, size - 1);
    close(fd);
    if (n <= 0) return 0;
    into[n] = 0;
    return 1;
}

static uint64_t used_bytes(const char *mount) {
    struct statvfs s;
    return statvfs(mount, &s) == 0 ? (uint64_t)(s.f_blocks - s.f_bfree) * s.f_frsize : 0;
}

/* The bytes behind `name` in a text of the kernel's that counts kilobytes. */
static uint64_t kilobytes(const char *text, const char *name) {
    const char *line = strstr(text, name);
    unsigned long long value;
    return line && sscanf(line + strlen(name), "%llu", &value) == 1 ? value * 1024u : 0;
}

/* Shared memory that a process has touched: its share of it, or all where the share is not told. */
static uint64_t shared_bytes(const char *pid) {
    char text[4096];
    uint64_t all = read_proc(pid, "status", text, sizeof text) ? kilobytes(text, "\nRssShmem:") : 0;
    if (all < 1u << 20 || !read_proc(pid, "smaps_rollup", text, sizeof text)) return all;
    return strstr(text, "\nPss_Shmem:") ? kilobytes(text, "\nPss_Shmem:") : all;
}

/* Memory of every process but ourselves and of the writable file systems, and their CPU time. Files
 * there that are mapped would count twice, hence the larger of the two. */
static void sample(uint64_t *memory, uint64_t *cpu_ns) {
    struct rusage usage;
    char text[1024];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    uint64_t files = used_bytes("/box") + used_bytes("/tmp") + used_bytes("/dev/shm"), mapped = 0;
    *memory = 0;
    *cpu_ns = reaped_cpu_ns(&usage);
    DIR *proc = opendir("/proc");
    if (!proc) fail("opendir /proc"); /* a guard that cannot see must not stand by */
    for (struct dirent *e; (e = readdir(proc));) {
        unsigned long long resident, shared, user, system, of_children[2];
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || strcmp(e->d_name, "1") == 0) continue;
        if (read_proc(e->d_name, "statm", text, sizeof text) &&
            sscanf(text, "%*u %llu %llu", &resident, &shared) == 2 && resident > shared)
            *memory += (resident - shared) * page;
        mapped += shared_bytes(e->d_name);
        char *rest;
        if (read_proc(e->d_name, "stat", text, sizeof text) && (rest = strrchr(text, ')')) &&
            sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &user, &system,
                   &of_children[0], &of_children[1]) == 4)
            *cpu_ns += (user + system + of_children[0] + of_children[1]) * tick;
    }
    closedir(proc);
    *memory += mapped > files ? mapped : files;
}

static int reap(pid_t program, int *status) {
    int ended = 0, each;
    for (pid_t pid; (pid = waitpid(-1, &each, WNOHANG)) > 0;)
        if (pid == program) {
            *status = each;
            ended = 1;
        }
    return ended;
}

static struct end supervise(const struct go *go, pid_t program, int signals) {
    struct pollfd fds[2] = {{.fd = control, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    struct end end = {.type = 'X', .status = SIGKILL};
    uint64_t memory = 0, cpu_ns = 0;
    for (;;) {
        poll(fds, 2, go->groups ? -1 : 10);
        if (fds[0].revents) _exit(0);
        if (fds[1].revents) {
            struct signalfd_siginfo info;
            if (read(signals, &info, sizeof info) > 0 && reap(program, &end.status)) return end;
        }
        if (go->groups) continue;
        sample(&memory, &cpu_ns);
        if (memory > end.peak_bytes) end.peak_bytes = memory;
        if (cpu_ns > end.cpu_ns) end.cpu_ns = cpu_ns;
        end.guarded = memory > go->memory ? 'm' : cpu_ns > go->cpu_ns ? 'c' : 0;
        if (end.guarded) return end;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 125;
    control = atoi(argv[1]);
    prctl(PR_SET_DUMPABLE, 0);
    fcntl(control, F_SETFD, FD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    if (write(control, "R", 1) != 1) fail("write");

    struct go go;
    read_go(&go);
    char *text = malloc(go.length), **words = calloc(go.argc + go.envc + 2, sizeof *words);
    if (!text || !words) fail("malloc");
    read_all(text, go.length);
    char **envp = words + go.argc + 1;
    for (uint32_t i = 0; i < go.argc + go.envc; i++, text += strlen(text) + 1)
        words[i < go.argc ? i : i + 1] = text;

    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) fail("signalfd");
    if (write(control, "S", 1) != 1) fail("write");
    signal(SIGPIPE, SIG_DFL);
    uint64_t started = now_ns();
    pid_t program = fork();
    if (program < 0) fail("fork");
    if (program == 0) start(&go, words, envp);
    signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd < 3; fd++) close(fd); /* ends of pipes that only the program should hold */

    struct end end = supervise(&go, program, signals);
    end.wall_ns = now_ns() - started;
    kill(-1, SIGKILL);
    struct rusage usage;
    uint64_t cpu_ns = reaped_cpu_ns(&usage), peak = (uint64_t)usage.ru_maxrss * 1024u;
    if (cpu_ns > end.cpu_ns) end.cpu_ns = cpu_ns;
    if (peak > end.peak_bytes) end.peak_bytes = peak;
    if (write(control, &end, sizeof end) != sizeof end) return 125;
    return 0;
}
