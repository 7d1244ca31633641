/* Packages that are imported into an interpreter of Python which has stopped before its main file. The work itself is
 * sandbox/shown/packages/import.py. */
#define _GNU_SOURCE
#include "python.h"
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SCRIPT "/opt/occd/packages/import.py"

enum { FILE_INPUT = 257 /* Py_file_input */, TAKES_S = 20, LOOKS = 100, LOOK_NS = 10000000 };

typedef struct object object;
static object *begin, *(*call)(object *, object *);
static int (*ensure)(void);
static void (*release)(int), (*print)(void);

static void fail(const char *what) {
    fprintf(stderr, "occd-hold: %s\n", what);
    _exit(125);
}

static void *find(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    if (!found) fail(name);
    return found;
}

static int threads(void) {
    int count = -2; /* . and .. */
    DIR *folder = opendir("/proc/self/task");
    if (!folder) return -1;
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

/* A library with threads that can be forked ends them before a fork, and starts them anew when they are needed
 * (OpenBLAS). Other threads may be about to end. */
static void end_threads(void) {
    int status;
    pid_t copy = fork();
    if (copy == 0) _exit(0);
    if (copy < 0 || waitpid(copy, &status, 0) != copy) fail("fork");
    for (int look = 0; threads() != 1; look++) {
        if (look == LOOKS) fail("the packages have threads");
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

void import_packages(const char *packages, const char **found) {
    char text[1024];
    object *(*run)(const char *, int, object *, object *) = find("PyRun_String");
    object *(*item)(object *, const char *) = find("PyDict_GetItemString");
    object *(*dict)(void) = find("PyDict_New");
    const char *(*text_of)(object *) = find("PyUnicode_AsUTF8");
    call = find("PyObject_CallObject");
    ensure = find("PyGILState_Ensure"), release = find("PyGILState_Release"), print = find("PyErr_Print");
    snprintf(text, sizeof text, "packages = '%s'.split(); exec(open('" SCRIPT "').read())", packages);
    alarm(TAKES_S);
    int state = ensure();
    object *names = dict();
    if (!run(text, FILE_INPUT, names, names)) {
        print();
        _exit(125);
    }
    begin = item(names, "begin");
    *found = text_of(item(names, "found"));
    end_threads();
    release(state);
    alarm(0);
}

void begin_packages(void) {
    if (!begin) return;
    int state = ensure();
    if (!call(begin, NULL)) print();
    release(state);
}
