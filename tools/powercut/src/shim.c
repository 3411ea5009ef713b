/*
 * Loaded into a process with LD_PRELOAD, it keeps beside the real files what a power cut now would
 * leave of them in the worst case: of each file what it held when it was last synced, of each
 * folder the entries it had when the folder was last synced. Nothing else counts: no rename, no
 * new name, no removal, no length.
 *
 *   POWERCUT_ROOT    folder whose files are watched; others are left alone
 *   POWERCUT_SHADOW  folder of the records, on the same machine, outside of the root
 *   POWERCUT_FORGET  syncs of paths with this in them (behind the root) count for nothing, as if
 *                    the program had left them out
 *
 * A record is named <device>-<inode>-<time of birth in ns>, all in hexadecimal: inode numbers are
 * given again, and the time of birth tells a file from the one that had its number before. The
 * record of a file is a copy of it, the record of a folder a list of its entries:
 *
 *   <d|f|l> <mode> <name of the entry's record> <name> \0       (mode in octal)
 *   and after an l, the target of the symbolic link, \0
 *
 * A record is written after the system has synced the file and before the caller hears of it, so
 * whatever a process builds upon its sync is in the record. Writes through a descriptor that was
 * opened with O_SYNC or O_DSYNC are synced writes. sync_file_range counts for nothing, since it
 * promises nothing. System calls that go past the C library are not seen: those syncs do not count.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define KEY_MAX 80

static const char *root, *shadow, *forget;
static size_t root_len;

__attribute__((constructor)) static void begin(void)
{
	root = getenv("POWERCUT_ROOT");
	shadow = getenv("POWERCUT_SHADOW");
	forget = getenv("POWERCUT_FORGET");
	if (!root || !shadow)
		root = NULL;
	else
		root_len = strlen(root);
}

/* A record that cannot be made would lose what was promised: better no process than a wrong test. */
static void fail(const char *what, const char *on)
{
	dprintf(2, "powercut: cannot %s %s: %s\n", what, on, strerror(errno));
	abort();
}

static int is_watched(const char *path)
{
	return root && strncmp(path, root, root_len) == 0 &&
	       (path[root_len] == '/' || path[root_len] == '\0') &&
	       !(forget && strstr(path + root_len, forget));
}

static void key_of(int folder, const char *name, char *key)
{
	struct statx x;
	struct stat s;
	int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
	*key = '\0';
	if (fstatat(folder, name, &s, flags) || statx(folder, name, flags, STATX_BTIME, &x)) {
		/* An entry may go while a folder is read; without its record it counts as never synced. */
		if (errno != ENOENT)
			fail("look at", name);
		return;
	}
	if (!(x.stx_mask & STATX_BTIME)) {
		errno = ENOTSUP;
		fail("tell the time of birth on the file system of", root);
	}
	uint64_t born = (uint64_t)x.stx_btime.tv_sec * 1000000000u + x.stx_btime.tv_nsec;
	snprintf(key, KEY_MAX, "%llx-%llx-%llx", (unsigned long long)s.st_dev,
		 (unsigned long long)s.st_ino, (unsigned long long)born);
}

/* Holes stay holes: databases set aside tens of megabytes at once. */
static void copy(int in, int out, off_t size, const char *path)
{
	off_t at = 0;
	while (at < size) {
		off_t from = lseek(in, at, SEEK_DATA);
		if (from < 0 && errno == ENXIO)
			break;
		off_t to = from < 0 ? -1 : lseek(in, from, SEEK_HOLE);
		if (from < 0 || to < 0 || lseek(out, from, SEEK_SET) < 0)
			fail("find the data of", path);
		if (to > size)
			to = size;
		while (from < to) {
			ssize_t n = sendfile(out, in, &from, (size_t)(to - from));
			if (n < 0)
				fail("copy", path);
			if (n == 0)
				break;
		}
		/* It was cut meanwhile. */
		if (from < to)
			break;
		at = to;
	}
	if (ftruncate(out, size))
		fail("copy", path);
}

static void list(int folder, int out, const char *path)
{
	DIR *dir = fdopendir(folder);
	FILE *record = fdopen(dup(out), "w");
	struct dirent *entry;
	if (!dir || !record)
		fail("list", path);
	while ((entry = readdir(dir))) {
		const char *name = entry->d_name;
		char key[KEY_MAX], target[PATH_MAX];
		struct stat s;
		if (!strcmp(name, ".") || !strcmp(name, "..") ||
		    fstatat(dirfd(dir), name, &s, AT_SYMLINK_NOFOLLOW))
			continue;
		char kind = S_ISREG(s.st_mode) ? 'f' : S_ISDIR(s.st_mode) ? 'd' : S_ISLNK(s.st_mode) ? 'l' : 0;
		if (!kind)
			continue;
		key_of(dirfd(dir), name, key);
		if (!*key)
			continue;
		ssize_t length = kind == 'l' ? readlinkat(dirfd(dir), name, target, sizeof target - 1) : 0;
		if (length < 0)
			continue;
		fprintf(record, "%c %o %s %s%c", kind, s.st_mode & 07777, key, name, 0);
		if (kind == 'l')
			fprintf(record, "%.*s%c", (int)length, target, 0);
	}
	if (fclose(record))
		fail("record the entries of", path);
	closedir(dir);
}

/* One at a time for each file, so that an older copy never takes the place of a newer one. */
static int hold(const char *key)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s.lock", shadow, key);
	int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0)
		fail("open", path);
	while (flock(lock, LOCK_EX))
		if (errno != EINTR)
			fail("lock", path);
	return lock;
}

/* The path of an open file; answers whether it is watched. */
static int path_of(int fd, char *path)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, PATH_MAX - 1);
	if (length < 0)
		fail("find", link);
	path[length] = '\0';
	return is_watched(path);
}

static void record(int fd)
{
	char link[64], path[PATH_MAX], key[KEY_MAX], made[PATH_MAX], kept[PATH_MAX];
	struct stat s;
	int before = errno;
	if (!root || !path_of(fd, path) || fstat(fd, &s) ||
	    !(S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)))
		goto done;
	key_of(fd, "", key);
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	int lock = hold(key);
	/* Anew, because the descriptor may be for writing only and has a place in the file. */
	int in = open(link, O_RDONLY | O_CLOEXEC);
	snprintf(made, sizeof made, "%s/%s.new", shadow, key);
	snprintf(kept, sizeof kept, "%s/%s", shadow, key);
	int out = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0 || fstat(in, &s))
		fail("record", path);
	if (S_ISDIR(s.st_mode)) {
		list(in, out, path);
	} else {
		copy(in, out, s.st_size, path);
		close(in);
	}
	close(out);
	if (rename(made, kept))
		fail("record", path);
	close(lock);
done:
	errno = before;
}

static int visit(const char *path, const struct stat *s, int type, struct FTW *where)
{
	(void)s, (void)where;
	if (type != FTW_F && type != FTW_D)
		return 0;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT && errno != ENXIO)
		fail("open", path);
	if (fd >= 0) {
		record(fd);
		close(fd);
	}
	return 0;
}

static void record_all(void)
{
	int before = errno;
	if (root)
		nftw(root, visit, 32, FTW_PHYS);
	errno = before;
}

/* A mapping is synced through its file, which the kernel knows by address. */
static void record_mapped(void *address)
{
	char line[PATH_MAX + 128];
	FILE *maps = root ? fopen("/proc/self/maps", "re") : NULL;
	while (maps && fgets(line, sizeof line, maps)) {
		unsigned long from, to;
		char *path = strchr(line, '/');
		if (sscanf(line, "%lx-%lx", &from, &to) != 2 || !path)
			continue;
		if ((unsigned long)address < from || (unsigned long)address >= to)
			continue;
		path[strcspn(path, "\n")] = '\0';
		int fd = is_watched(path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd >= 0) {
			record(fd);
			close(fd);
		}
	}
	if (maps)
		fclose(maps);
}

int fsync(int fd)
{
	int result = (int)syscall(SYS_fsync, fd);
	if (!result)
		record(fd);
	return result;
}

int fdatasync(int fd)
{
	int result = (int)syscall(SYS_fdatasync, fd);
	if (!result)
		record(fd);
	return result;
}

/* Of a descriptor outside of the root: that may as well be another volume. */
int syncfs(int fd)
{
	char path[PATH_MAX];
	int result = (int)syscall(SYS_syncfs, fd);
	if (!result && root && path_of(fd, path))
		record_all();
	return result;
}

void sync(void)
{
	syscall(SYS_sync);
	record_all();
}

int msync(void *address, size_t length, int flags)
{
	int result = (int)syscall(SYS_msync, address, length, flags);
	if (!result && flags & MS_SYNC)
		record_mapped(address);
	return result;
}

static ssize_t written(int fd, ssize_t result)
{
	int before = errno;
	if (root && result > 0) {
		int flags = fcntl(fd, F_GETFL);
		errno = before;
		/* O_SYNC has the bit of O_DSYNC. */
		if (flags >= 0 && flags & O_DSYNC)
			record(fd);
	}
	return result;
}

ssize_t write(int fd, const void *data, size_t size)
{
	return written(fd, syscall(SYS_write, fd, data, size));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
	return written(fd, syscall(SYS_pwrite64, fd, data, size, at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
	return written(fd, syscall(SYS_pwrite64, fd, data, size, at));
}

ssize_t writev(int fd, const struct iovec *data, int count)
{
	return written(fd, syscall(SYS_writev, fd, data, count));
}
