/* A box as a stream, in which it leaves its container (pack.c) and gets into another one (unpack.c). The stream goes
 * through occd, which also writes and reads such streams (occd/sandbox/archive.py).
 *
 * It consists of struct entry, each with its name behind it. The entries of a folder stand between it and the next UP
 * of its depth. So no entry has a path: a nest of folders may be deeper than any path is long, and costs no more than
 * other folders.
 */
#include <stdint.h>

struct entry {
    uint8_t type;
    uint8_t pad;
    uint16_t name_size;
    uint32_t mode;   /* permissions alone: set-uid, set-gid and sticky bits stay behind */
    uint64_t number; /* of a file with several names: 1 for the first one, and so on; of END: the entries; else 0 */
    uint64_t size;   /* of a file or of what a symbolic link says. Of END: what the files take of the box's bytes */
    int64_t used_ns, changed_ns; /* since the epoch */
};

enum {
    FILE_ENTRY = 'f', /* its parts follow; one of size 0 ends them. Between them are holes */
    NAME = 'n',       /* a further name of the file with this number */
    SYMLINK = 's',    /* what it says follows */
    FIFO = 'p',
    SOCKET = 'k',     /* that nobody listens at */
    DEVICE = 'c',     /* a whiteout: a program can make no other. It gets into no box */
    FOLDER = 'd',     /* UP has its permissions and times */
    UP = 'u',
    END = 'e',
};

struct part {
    uint64_t at, size; /* so many bytes follow */
};

/* Prints the working folder. Returns an exit code. */
int pack(void);

/* Reads such a stream, and makes what it has in the working folder. What lies there stays. Returns an exit code. */
int unpack(void);

enum { NO_ROOM = 2 };  /* unpack: the file system is full */
enum { TOO_LARGE = 3 }; /* pack: gVisor holds neither the number of files nor tells their holes */

enum { PIPE = 1 << 16 }; /* the stream goes through pipes of this size */
