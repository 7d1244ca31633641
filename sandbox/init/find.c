/* Finds the programs of languages where they will run: `*`, `?` and `[…]` stay within a name, as for a shell. */
#define _GNU_SOURCE
#include "find.h"
#include <dirent.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void tell(int number, const char *path) {
    char real[PATH_MAX];
    struct stat file;
    if (!realpath(path, real) || stat(real, &file) != 0) return;
    printf("%d%c%s%c%s %lld%09ld %lld%c", number, 0, path, 0, real, (long long)file.st_mtim.tv_sec,
        file.st_mtim.tv_nsec, (long long)file.st_size, 0);
}

/* `rest` is what the pattern has below the folder `path`. */
static void descend(int number, const char *path, const char *rest) {
    char name[NAME_MAX + 1], below[PATH_MAX];
    size_t size = strcspn(rest, "/");
    if (size > NAME_MAX) return;
    memcpy(name, rest, size);
    name[size] = 0;
    rest += size;
    DIR *folder = NULL;
    const char *each = name;
    if (strpbrk(name, "*?[")) {
        if (!(folder = opendir(*path ? path : "/"))) return;
        each = NULL;
    }
    for (;;) {
        if (folder) {
            struct dirent *entry = readdir(folder);
            if (!entry) break;
            if (fnmatch(name, entry->d_name, FNM_PERIOD) != 0) continue;
            each = entry->d_name;
        }
        if (snprintf(below, sizeof below, "%s/%s", path, each) < (int)sizeof below) {
            if (*rest) descend(number, below, rest + 1);
            else tell(number, below);
        }
        if (!folder) return;
    }
    closedir(folder);
}

int find(int count, char **patterns) {
    for (int i = 0; i < count; i++) descend(i, "", patterns[i] + strspn(patterns[i], "/"));
    return fflush(stdout) == 0 ? 0 : 1;
}
