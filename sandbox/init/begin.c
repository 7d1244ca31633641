#define _GNU_SOURCE
#include "begin.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int control = -1;

void fail_to_start(const char *what) {
    struct end end = {.type = 'F'};
    fprintf(stderr, "occd-init: %s: %s\n", what, strerror(errno));
    write(control, &end, sizeof end) == sizeof end ? _exit(125) : _exit(126);
}

void limit(int which, uint64_t value) {
    struct rlimit old, new = {value, value};
    if (getrlimit(which, &old) == 0 && old.rlim_max < value) new.rlim_cur = new.rlim_max = old.rlim_max;
    if (setrlimit(which, &new) != 0) fail_to_start("setrlimit");
}

void begin_with(int which, uint64_t value) {
    struct rlimit limits;
    if (getrlimit(which, &limits) != 0) fail_to_start("getrlimit");
    limits.rlim_cur = value < limits.rlim_max ? value : limits.rlim_max;
    if (setrlimit(which, &limits) != 0) fail_to_start("setrlimit");
}

void join_groups(const struct go *go, const int *files) {
    for (uint32_t i = 0; i < go->groups; i++)
        if (write(files[STDIO + i], "0", 1) != 1) fail_to_start("cannot join a cgroup");
}

void begin(const struct go *go, const int *files, uint64_t others) {
    join_groups(go, files);
    limit(RLIMIT_FSIZE, go->file_size);
    limit(RLIMIT_NOFILE, go->open_files);
    begin_with(RLIMIT_STACK, go->stack);
    if (!go->told) limit(RLIMIT_NPROC, go->processes - others);
    for (int fd = 0; fd < STDIO; fd++)
        if (dup2(files[fd], fd) != fd) fail_to_start("dup2");
}
