/* The beginning of dist/occd. It unpacks the folder that follows in the same file, once, and becomes the program
 * in it: the same process, so that signals reach the program, and nothing is left when it is killed.
 *
 * pack.py writes the file: this executable, the list, the files' contents (zlib), and struct tail.
 * The list has a record for each thing in the folder: kind (d, f, l), mode, size, path, and a link's target.
 *
 * The cache is $XDG_CACHE_HOME/occd, else $HOME/.cache/occd. It has
 *   NAME       the folder; NAME is the SHA-256 of what follows this executable
 *   NAME.used  locked (shared) for as long as a process runs from the folder; its time is that of the last start
 *   lock       locked while somebody unpacks or removes
 *   new, old   what is being unpacked or removed; leftovers of a process that was killed go with the next
 *
 * At each start the list is compared with the folder: owner, kind, mode, size and time of change of every file, and
 * where links lead. The contents are not read. A folder that differs is replaced as a whole, and a process that runs
 * from it finds the same files at the same places. When another version is unpacked, the folders that nobody runs
 * from go, except for the one that was used last.
 *
 * No other user may change what we execute. So the cache is ours alone, and each folder above belongs to us or to
 * root, and is not everybody's to write to (a group that may write is trusted). There nobody else may rename our
 * folder, so from then on paths are as good as descriptors.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

enum { OURS = 125, NAME_LENGTH = 64, NOBODY = 65534, CHANGED = 1000000000, FOLDER = O_DIRECTORY | O_NOFOLLOW };

struct tail {
    char name[NAME_LENGTH];
    uint64_t list, stream; /* bytes in the file */
    uint64_t unpacked;     /* bytes in the cache */
    uint64_t check;        /* of the list: CRC-32 */
};

struct record {
    char kind;
    unsigned mode;
    unsigned long long size;
    const char *path, *target;
};

static int self;
static struct tail tail;
static off_t stream_at;
static char *list;
static char name[NAME_LENGTH + 1], used[NAME_LENGTH + 6];
static char where[PATH_MAX + 8]; /* of the cache, for messages and for execve */

static _Noreturn void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    dprintf(2, "occd: ");
    vdprintf(2, format, args);
    dprintf(2, "\n");
    _exit(OURS);
}

#define ELSEWHERE "or name another folder with XDG_CACHE_HOME"
#define DAMAGED "this file is not whole: fetch it again"

static _Noreturn void cannot_write(void) {
    fail("%s: %s. occd unpacks itself there, which takes %llu MB: make that possible, " ELSEWHERE, where, strerror(errno),
         (unsigned long long)(tail.unpacked / 1000000 + 1));
}

/* Never 0, 1 or 2: a closed stdin stays closed. */
static int away(int fd) {
    if (fd < 0 || fd > 2) return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return moved;
}

static int open_in(int folder, const char *path, int flags) { return away(openat(folder, path, flags | O_CLOEXEC, 0600)); }

static int read_whole(void *into, size_t size, off_t at) {
    for (char *to = into; size > 0;) {
        ssize_t got = pread(self, to, size, at);
        if (got <= 0) return 0;
        to += got, at += got, size -= got;
    }
    return 1;
}

static void read_self(void) {
    self = open_in(AT_FDCWD, "/proc/self/exe", O_RDONLY);
    if (self < 0 && errno == ENOENT) fail("/proc is not mounted here: mount it");
    if (self < 0) fail("cannot read its own file: %s: let it be readable", strerror(errno));
    struct stat file;
    if (fstat(self, &file) != 0 || file.st_size < (off_t)sizeof tail) fail(DAMAGED);
    if (!read_whole(&tail, sizeof tail, file.st_size - sizeof tail)) fail(DAMAGED);
    uint64_t size = file.st_size - sizeof tail;
    if (tail.stream > size || tail.list > size - tail.stream) fail(DAMAGED);
    stream_at = size - tail.stream;
    list = malloc(tail.list + 1);
    if (!list || !read_whole(list, tail.list, stream_at - tail.list)) fail(DAMAGED);
    list[tail.list] = 0;
    if (crc32(0, (unsigned char *)list, tail.list) != tail.check) fail(DAMAGED);
    memcpy(name, tail.name, NAME_LENGTH);
    sprintf(used, "%s.used", name);
}

/* The record at `place`, which moves on; 0 at the end. */
static int next_record(const char **place, struct record *record) {
    int length = 0;
    if (*place >= list + tail.list) return 0;
    if (sscanf(*place, "%c %o %llu %n", &record->kind, &record->mode, &record->size, &length) != 3) fail(DAMAGED);
    record->path = *place + length;
    *place = record->path + strlen(record->path) + 1;
    record->target = record->kind == 'l' ? *place : NULL;
    if (record->target) *place += strlen(*place) + 1;
    return 1;
}

/* Whether each user has a number of his own here, so that NOBODY is one of them. In most user namespaces the owners
 * that they do not know are NOBODY, root among them. */
static int all_users_known(void) {
    unsigned long long first, outside, count = 0;
    FILE *map = fopen("/proc/self/uid_map", "re");
    int all = !map || (fscanf(map, "%llu %llu %llu", &first, &outside, &count) == 3 && count == UINT32_MAX);
    if (map) fclose(map);
    return all;
}

/* Goes down `path`, whose first `there` bytes are there and without a link, makes what is missing, and refuses what
 * another user could change. Nothing is made below what is refused. */
static int open_trusted(const char *path, size_t there) {
    char shown[PATH_MAX] = "/", *rest = strdup(path + 1);
    int folder = away(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), all_known = all_users_known();
    for (char *part = strtok(rest, "/");; part = strtok(NULL, "/")) {
        struct stat is;
        if (folder < 0 || fstat(folder, &is) != 0) fail("%s: %s: mend it, " ELSEWHERE, path, strerror(errno));
        if (is.st_uid != 0 && is.st_uid != geteuid() && (is.st_uid != NOBODY || all_known))
            fail("%s belongs to another user (%u), who could change what is executed: set HOME to your own folder, " ELSEWHERE,
                 shown, is.st_uid);
        if ((is.st_mode & S_IWOTH) && !(is.st_mode & S_ISVTX))
            fail("%s: everybody may write there and could change what is executed: chmod o-w it, " ELSEWHERE, shown);
        if (!part) return folder;
        if (strlen(shown) >= there && mkdirat(folder, part, 0700) != 0 && errno != EEXIST) cannot_write();
        if (shown[1]) strcat(shown, "/");
        strcat(shown, part);
        int inner = open_in(folder, part, O_PATH | FOLDER);
        close(folder);
        folder = inner;
    }
}

static int open_cache(void) {
    char path[PATH_MAX], *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (base && *base == '/')
        length = snprintf(path, sizeof path, "%s", base);
    else if (home && *home == '/')
        length = snprintf(path, sizeof path, "%s/.cache", home);
    else
        fail("HOME is not set, so there is no place to unpack to: set XDG_CACHE_HOME to a folder of your own");
    if (length >= PATH_MAX - 128) fail("the path of the cache is too long: name another folder with XDG_CACHE_HOME");
    char whole[PATH_MAX], *missing = path + length; /* what is there ends where this begins */
    strcpy(whole, path);
    while (!realpath(*path ? path : "/", where)) {
        strcpy(where, whole);
        if (errno != ENOENT || missing == path) cannot_write();
        while (*--missing != '/');
        *missing = 0;
    }
    const char *rest = whole + (missing - path);
    size_t there = strlen(where);
    if (there + strlen(rest) >= PATH_MAX - 128) fail("the path of the cache is too long: name another folder with XDG_CACHE_HOME");
    if (*rest) strcpy(there > 1 ? where + there : where, rest);
    if (strpbrk(where, ":;$")) /* LD_LIBRARY_PATH cannot hold it */
        fail("%s: a path with one of : ; $ does not work: name another folder with XDG_CACHE_HOME", where);
    int above = open_trusted(where, there);
    strcat(where, strcmp(where, "/") ? "/occd" : "occd");
    if (mkdirat(above, "occd", 0700) != 0 && errno != EEXIST) cannot_write();
    struct stat is;
    int cache = open_in(above, "occd", O_RDONLY | FOLDER);
    if (cache < 0 && (errno == ENOTDIR || errno == ELOOP)) fail("%s is no folder, or a link: move it away, " ELSEWHERE, where);
    if (cache < 0 || fstat(cache, &is) != 0) fail("%s: %s: remove it, " ELSEWHERE, where, strerror(errno));
    if (is.st_uid != geteuid()) fail("%s belongs to another user (%u): remove it, " ELSEWHERE, where, is.st_uid);
    if (is.st_mode & 077) fail("%s is open to other users, who may have changed it: remove it, " ELSEWHERE, where);
    close(above);
    return cache;
}

/* Nobody removes the folder until all processes that hold the descriptor have ended. */
static int hold_folder(int cache) {
    for (;;) {
        struct stat held, there;
        int fd = open_in(cache, used, O_RDONLY | O_CREAT | O_NOFOLLOW);
        if (fd < 0) cannot_write();
        if (flock(fd, LOCK_SH) != 0) fail("%s/%s cannot be locked: %s: remove it, " ELSEWHERE, where, used, strerror(errno));
        if (fstat(fd, &held) == 0 && fstatat(cache, used, &there, AT_SYMLINK_NOFOLLOW) == 0 && held.st_ino == there.st_ino) {
            futimens(fd, NULL);
            return fd;
        }
        close(fd); /* it was removed before we had it */
    }
}

static int as_listed(int folder, const struct record *record) {
    struct stat is;
    char target[PATH_MAX];
    if (fstatat(folder, record->path, &is, AT_SYMLINK_NOFOLLOW) != 0 || is.st_uid != geteuid()) return 0;
    switch (record->kind) {
    case 'd': return S_ISDIR(is.st_mode) && (is.st_mode & 07777) == 0700;
    case 'l': {
        ssize_t length = readlinkat(folder, record->path, target, sizeof target);
        return length == (ssize_t)strlen(record->target) && memcmp(target, record->target, length) == 0;
    }
    default:
        return S_ISREG(is.st_mode) && (is.st_mode & 07777) == record->mode && (unsigned long long)is.st_size == record->size &&
               is.st_mtim.tv_sec == CHANGED;
    }
}

static int intact(int cache) {
    struct record record;
    int good = as_listed(cache, &(struct record){.kind = 'd', .path = name}), folder = good ? open_in(cache, name, O_PATH | FOLDER) : -1;
    good = folder >= 0;
    for (const char *place = list; good && next_record(&place, &record);) good = as_listed(folder, &record);
    if (folder >= 0) close(folder);
    return good;
}

static void erase(int folder, const char *what) {
    if (unlinkat(folder, what, 0) == 0 || errno == ENOENT) return;
    fchmodat(folder, what, 0700, 0);
    int fd = open_in(folder, what, O_RDONLY | FOLDER);
    DIR *inside = fd < 0 ? NULL : fdopendir(fd);
    if (!inside) return;
    for (struct dirent *entry; (entry = readdir(inside));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) erase(fd, entry->d_name);
    closedir(inside);
    unlinkat(folder, what, AT_REMOVEDIR);
}

static _Noreturn void give_up_unpacking(int cache) {
    int error = errno;
    erase(cache, "new");
    errno = error;
    cannot_write();
}

static z_stream unpacked;
static unsigned char packed[1 << 16];
static off_t next_packed;

/* The next bytes of the contents, at most `size`; 0 at their end. */
static size_t next_bytes(int cache, unsigned char *into, size_t size) {
    unpacked.next_out = into;
    unpacked.avail_out = size;
    for (;;) {
        if (unpacked.avail_in == 0) {
            off_t left = stream_at + (off_t)tail.stream - next_packed;
            size_t some = left < (off_t)sizeof packed ? (size_t)left : sizeof packed;
            if (some && !read_whole(packed, some, next_packed)) break;
            next_packed += some;
            unpacked.next_in = packed;
            unpacked.avail_in = some;
        }
        int state = inflate(&unpacked, Z_NO_FLUSH);
        if (state != Z_OK && state != Z_STREAM_END) break;
        if (state == Z_STREAM_END || unpacked.avail_out == 0) return size - unpacked.avail_out;
    }
    erase(cache, "new");
    fail(DAMAGED);
}

static void unpack_file(int cache, int folder, const struct record *record) {
    static unsigned char bytes[1 << 16];
    int fd = open_in(folder, record->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (fd < 0) give_up_unpacking(cache);
    for (unsigned long long left = record->size; left > 0;) {
        size_t got = next_bytes(cache, bytes, left < sizeof bytes ? left : sizeof bytes);
        if (got == 0) {
            erase(cache, "new");
            fail(DAMAGED);
        }
        for (size_t written = 0; written < got;) {
            ssize_t some = write(fd, bytes + written, got - written);
            if (some < 0) give_up_unpacking(cache);
            written += some;
        }
        left -= got;
    }
    struct timespec changed = {.tv_sec = CHANGED};
    if (fchmod(fd, record->mode) != 0 || futimens(fd, (struct timespec[]){changed, changed}) != 0 || close(fd) != 0)
        give_up_unpacking(cache);
}

static void unpack(int cache) {
    if (mkdirat(cache, "new", 0700) != 0) cannot_write();
    int folder = open_in(cache, "new", O_RDONLY | FOLDER);
    if (folder < 0 || fchmod(folder, 0700) != 0) give_up_unpacking(cache);
    if (inflateInit(&unpacked) != Z_OK) fail("out of memory");
    next_packed = stream_at;
    struct record record;
    for (const char *place = list; next_record(&place, &record);) {
        if (record.kind == 'f')
            unpack_file(cache, folder, &record);
        else if (record.kind == 'd' ? mkdirat(folder, record.path, 0700) != 0 || fchmodat(folder, record.path, 0700, 0) != 0
                                    : symlinkat(record.target, folder, record.path) != 0)
            give_up_unpacking(cache);
    }
    unsigned char more;
    if (next_bytes(cache, &more, 1) != 0) { /* the end also proves the checksum */
        erase(cache, "new");
        fail(DAMAGED);
    }
    inflateEnd(&unpacked);
    if (syncfs(folder) != 0) give_up_unpacking(cache); /* a power cut must not leave the name without the contents */
    close(folder);
    if (renameat2(cache, "new", cache, name, RENAME_EXCHANGE) != 0) { /* there is none, or the file system cannot exchange */
        renameat(cache, name, cache, "old");
        if (renameat(cache, "new", cache, name) != 0) give_up_unpacking(cache);
    }
    erase(cache, "new");
    erase(cache, "old");
}

/* The file NAME.used of a version that nobody runs, locked; else -1. */
static int hold_unused(int cache, const char *file) {
    if (strlen(file) != strlen(used) || strcmp(file + NAME_LENGTH, ".used") != 0 || strcmp(file, used) == 0) return -1;
    int fd = open_in(cache, file, O_RDONLY | O_NOFOLLOW);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static void remove_older(int cache) {
    DIR *inside = fdopendir(open_in(cache, ".", O_RDONLY | FOLDER));
    if (!inside) return;
    char last[sizeof used] = "";
    struct timespec last_time = {0};
    struct stat is;
    struct dirent *entry;
    for (int removing = 0; removing < 2; removing++) {
        rewinddir(inside);
        while ((entry = readdir(inside))) {
            int fd = hold_unused(cache, entry->d_name);
            if (fd < 0) continue;
            if (!removing) {
                if (fstat(fd, &is) == 0 && (is.st_mtim.tv_sec > last_time.tv_sec ||
                                            (is.st_mtim.tv_sec == last_time.tv_sec && is.st_mtim.tv_nsec >= last_time.tv_nsec))) {
                    last_time = is.st_mtim;
                    strcpy(last, entry->d_name);
                }
            } else if (strcmp(entry->d_name, last) != 0) {
                char folder[NAME_LENGTH + 1] = "";
                memcpy(folder, entry->d_name, NAME_LENGTH);
                if (renameat(cache, folder, cache, "old") == 0 || errno == ENOENT) unlinkat(cache, entry->d_name, 0);
                erase(cache, "old");
            }
            close(fd);
        }
    }
    closedir(inside);
}

static void renew(int cache) {
    struct stat is;
    struct statvfs system;
    int lock = open_in(cache, "lock", O_RDWR | O_CREAT | O_NOFOLLOW);
    if (lock < 0) cannot_write();
    if (flock(lock, LOCK_EX) != 0) fail("%s/lock cannot be locked: %s: remove it, " ELSEWHERE, where, strerror(errno));
    if (!intact(cache)) { /* else somebody was faster */
        if (fstatvfs(cache, &system) == 0 && (system.f_flag & ST_NOEXEC))
            fail("%s: nothing may be executed from there (mounted noexec): name another folder with XDG_CACHE_HOME", where);
        if (fstatat(cache, name, &is, AT_SYMLINK_NOFOLLOW) == 0)
            dprintf(2, "occd: %s/%s was damaged, and is unpacked again\n", where, name);
        erase(cache, "new");
        erase(cache, "old");
        unpack(cache);
        if (!intact(cache))
            fail("%s: the file system does not keep owners, modes or times: name another folder with XDG_CACHE_HOME", where);
        remove_older(cache);
    }
    close(lock);
}

/* What a program that was packed by the same tool left for its children, and what would confuse ours. */
static void clean_environment(void) {
    static const char *const theirs[] = {"_PYI_", "_MEIPASS", "PYINSTALLER_", "LD_LIBRARY_PATH_ORIG=", "_OCCD_HOLDS="};
    char **kept = environ;
    for (char **variable = environ; *variable; variable++) {
        int ours = 1;
        for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
            if (strncmp(*variable, theirs[i], strlen(theirs[i])) == 0) ours = 0;
        if (ours) *kept++ = *variable;
    }
    *kept = NULL;
}

int main(int argc, char **argv) {
    read_self();
    int cache = open_cache(), held = hold_folder(cache);
    if (!intact(cache)) renew(cache);
    clean_environment();
    char number[12], program[sizeof where + sizeof used + 8];
    snprintf(number, sizeof number, "%d", held);
    snprintf(program, sizeof program, "%s/%s/occd", where, name);
    if (setenv("_OCCD_HOLDS", number, 1) != 0 || fcntl(held, F_SETFD, 0) != 0) fail("out of memory");
    char *none[] = {"occd", NULL}, **arguments = argc ? argv : none;
    if (!*arguments[0]) arguments[0] = "occd";
    execv(program, arguments);
    fail("%s: %s. occd needs x86-64 Linux with glibc 2.36 or newer, and a cache from which programs may be executed", program,
         strerror(errno));
}
