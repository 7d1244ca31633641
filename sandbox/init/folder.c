#define _GNU_SOURCE
#include "folder.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int open_folder(int at, const char *name) {
    struct stat found;
    int there = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), folder = -1;
    if (there < 0) return -1;
    if (fstat(there, &found) == 0) {
        errno = ENOTDIR;
        if (S_ISDIR(found.st_mode)) folder = openat(there, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    int error = errno;
    close(there);
    errno = error;
    return folder;
}
