/* Makes one file operation of a process fail, or kills the process there.
 *
 * Loaded with LD_PRELOAD, it stands between the process and the C library. It counts what the process does to files
 * below one folder, by Python, OpenCV and every other library alike. `faults_arm` says at which operation what happens.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL, ONCE, FULL, READONLY };
enum kind { READ, GROW, CHANGE }; /* opens to read; needs space; needs none */

#define FILES 65536
static char folder[PATH_MAX];
static size_t folder_length;
static long target;
static int mode, log_file = -1;
static atomic_long count;
static atomic_char below[FILES]; /* descriptors of files below the folder, open for writing */

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

void faults_arm(const char *path, long at, int what, const char *log) {
    snprintf(folder, sizeof folder, "%s", path);
    target = at;
    mode = what;
    if (log && *log) log_file = REAL(open64)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    atomic_store(&count, 0);
    folder_length = strlen(folder); /* last: from now on operations count */
}

long faults_count(void) { return atomic_load(&count); }

static int is_below(const char *path) {
    return folder_length && path && !strncmp(path, folder, folder_length) &&
           (path[folder_length] == '/' || !path[folder_length]);
}

static void record(long number, const char *name, enum kind kind, const char *what) {
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", number, name,
                          kind == READ ? "read" : kind == GROW ? "grow" : "change", what);
    if (log_file >= 0) REAL(write)(log_file, line, length);
}

/* Counts an operation. Returns 0: do it; -1: it fails, and errno says why; 1: half of a write is done first. */
static int fault(const char *name, enum kind kind, const char *what, size_t size) {
    long number = atomic_fetch_add(&count, 1) + 1;
    record(number, name, kind, what);
    if (mode == COUNT || number < target) return 0;
    switch (mode) {
    case KILL:
        if (size > 1) return 1;
        kill(0, SIGKILL); /* the whole group, as the kernel does when memory is out and `docker kill` does */
        break;
    case ONCE:
        if (number == target) return errno = EIO, -1;
        break;
    case FULL:
        if (kind != GROW) break;
        if (number == target && size > 1) return 1; /* a short write: half fits */
        return errno = ENOSPC, -1;
    case READONLY:
        if (kind != READ) return errno = EROFS, -1;
    }
    return 0;
}

static int begin_open(const char *name, const char *path, int flags) {
    if (!is_below(path) || flags & O_DIRECTORY || (flags & O_TMPFILE) == O_TMPFILE) return 0;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    int makes = writes && flags & O_CREAT && access(path, F_OK);
    return fault(name, makes ? GROW : writes ? CHANGE : READ, path, 0);
}

static int end_open(const char *path, int flags, int file) {
    if (file >= 0 && file < FILES)
        below[file] = is_below(path) && (flags & O_ACCMODE) != O_RDONLY;
    return file;
}

static int is_ours(int file) { return file >= 0 && file < FILES && below[file]; }

static const char *path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int of_file(const char *name, enum kind kind, int file, size_t size) {
    char path[PATH_MAX];
    return fault(name, kind, path_of(file, path), size);
}

static int mode_of(int flags, va_list more) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; }

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list more;                                                     \
        va_start(more, flags);                                            \
        int permissions = mode_of(flags, more);                           \
        va_end(more);                                                     \
        if (begin_open("open", path, flags)) return -1;                   \
        return end_open(path, flags, REAL(name)(path, flags, permissions)); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                             \
    int name(int at, const char *path, int flags, ...) {                         \
        va_list more;                                                            \
        va_start(more, flags);                                                   \
        int permissions = mode_of(flags, more);                                  \
        va_end(more);                                                            \
        if (begin_open("open", path, flags)) return -1;                          \
        return end_open(path, flags, REAL(name)(at, path, flags, permissions)); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
    if (is_ours(file)) below[file] = 0;
    return REAL(close)(file);
}

#define DIES_AFTER(call)    \
    do {                    \
        ssize_t done = call; \
        if (mode == KILL) kill(0, SIGKILL); \
        return done;        \
    } while (0)

ssize_t write(int file, const void *data, size_t size) {
    int fails = is_ours(file) ? of_file("write", GROW, file, size) : 0;
    if (fails < 0) return -1;
    if (fails > 0) DIES_AFTER(REAL(write)(file, data, size / 2));
    return REAL(write)(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    int fails = is_ours(file) ? of_file("write", GROW, file, size) : 0;
    if (fails < 0) return -1;
    if (fails > 0) DIES_AFTER(REAL(pwrite64)(file, data, size / 2, at));
    return REAL(pwrite64)(file, data, size, at);
}

ssize_t writev(int file, const struct iovec *parts, int number) {
    if (is_ours(file) && of_file("write", GROW, file, 0)) return -1;
    return REAL(writev)(file, parts, number);
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
    int fails = is_ours(out) ? of_file("write", GROW, out, size) : 0;
    if (fails < 0) return -1;
    if (fails > 0) DIES_AFTER(REAL(sendfile64)(out, in, at, 1));
    return REAL(sendfile64)(out, in, at, size);
}

int ftruncate64(int file, off64_t size) {
    if (is_ours(file) && of_file("truncate", CHANGE, file, 0)) return -1;
    return REAL(ftruncate64)(file, size);
}

int fsync(int file) {
    char path[PATH_MAX];
    if (folder_length && is_below(path_of(file, path)) && fault("fsync", GROW, path, 0)) return -1;
    return REAL(fsync)(file);
}

int rename(const char *from, const char *to) {
    if (is_below(to) && fault("rename", CHANGE, to, 0)) return -1;
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    if (is_below(path) && fault("unlink", CHANGE, path, 0)) return -1;
    return REAL(unlink)(path);
}

int rmdir(const char *path) {
    if (is_below(path) && fault("rmdir", CHANGE, path, 0)) return -1;
    return REAL(rmdir)(path);
}

int mkdir(const char *path, mode_t permissions) {
    if (is_below(path) && access(path, F_OK) && fault("mkdir", GROW, path, 0)) return -1;
    return REAL(mkdir)(path, permissions);
}

int link(const char *from, const char *to) {
    if (is_below(to) && fault("link", GROW, to, 0)) return -1;
    return REAL(link)(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    if (is_below(to) && fault("link", GROW, to, 0)) return -1;
    return REAL(linkat)(a, from, b, to, flags);
}

int symlink(const char *from, const char *to) {
    if (is_below(to) && fault("symlink", GROW, to, 0)) return -1;
    return REAL(symlink)(from, to);
}
