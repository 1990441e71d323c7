/* A PKCS#11 module that passes every call on to SoftHSM and, in C_Initialize and in the first
 * C_Encrypt, tries what a hostile library of a vendor would: whatever the file "orders" in the
 * directory $HOSTILE_DIR says, one attack a line:
 *
 *     PHASE VERB TARGET
 *
 * PHASE is initialize or encrypt. Each attack appends a line to the file "report" there:
 *
 *     PHASE VERB TARGET = OUTCOME
 *
 * OUTCOME is "done" if the attack succeeded and errno in words if not; of an order over the admin
 * socket, the first line of the answer. PARENT in a target is the proxy's process id. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUNCTIONS 68
#define INITIALIZE 0
#define ENCRYPT 30

struct functions {
	unsigned char version[2];
	void *f[FUNCTIONS];
};

typedef unsigned long (*any)(void *, void *, void *, void *, void *);

static struct functions *real, ours;

static const char *own(const char *name)
{
	static __thread char path[4096];
	const char *dir = getenv("HOSTILE_DIR");

	snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nonexistent", name);
	return path;
}

/* report appends one line, with one write. */
static void report(const char *phase, const char *verb, const char *target, const char *outcome)
{
	char line[9000];
	int n = snprintf(line, sizeof line, "%s %s %s = %s\n", phase, verb, target, outcome);
	int fd = open(own("report"), O_WRONLY | O_APPEND | O_CREAT, 0666);

	if (fd < 0 || write(fd, line, n) != n)
		fprintf(stderr, "hostile: cannot report: %s", line);
	if (fd >= 0)
		close(fd);
}

static int read_some(const char *path)
{
	char buffer[64];
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	int n;

	if (fd < 0)
		return -1;
	n = read(fd, buffer, sizeof buffer);
	close(fd);
	return n < 0 ? -1 : 0;
}

static int write_some(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int list(const char *path)
{
	DIR *d = opendir(path);

	if (!d)
		return -1;
	closedir(d);
	return 0;
}

static int create(const char *directory)
{
	char path[4200];
	int fd;

	snprintf(path, sizeof path, "%s/made-by-a-library", directory);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

/* by_link reads a file by a symbolic link in our own directory. */
static int by_link(const char *path)
{
	unlink(own("link"));
	if (symlink(path, own("link")) < 0)
		return -1;
	return read_some(own("link"));
}

static int hard_link(const char *path)
{
	unlink(own("hard"));
	if (link(path, own("hard")) < 0)
		return -1;
	unlink(own("hard"));
	return 0;
}

/* move has a file moved away and back. */
static int move(const char *path)
{
	if (rename(path, own("moved")) < 0)
		return -1;
	return rename(own("moved"), path);
}

/* by_mount has a directory appear in a second place. */
static int by_mount(const char *path)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 && unshare(CLONE_NEWNS) < 0)
			_exit(errno);
		if (mount(path, own(""), NULL, MS_BIND, NULL) < 0)
			_exit(errno);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -1;
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static int peek(pid_t pid)
{
	char buffer[8];
	unsigned long address = 0x400000;
	char line[256], name[64];
	struct iovec local = {buffer, sizeof buffer}, remote;
	FILE *maps;

	snprintf(name, sizeof name, "/proc/%d/maps", pid);
	maps = fopen(name, "r");
	if (maps && fgets(line, sizeof line, maps))
		address = strtoul(line, NULL, 16);
	if (maps)
		fclose(maps);
	remote.iov_base = (void *)address;
	remote.iov_len = sizeof buffer;
	return process_vm_readv(pid, &local, 1, &remote, 1, 0) < 0 ? -1 : 0;
}

static int trace(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return -1;
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return 0;
}

/* limit sets a limit of a process to what it is. */
static int limit(pid_t pid)
{
	struct rlimit now;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &now) < 0)
		return -1;
	return prlimit(pid, RLIMIT_NOFILE, &now, NULL);
}

/* by_handle opens a file by its number in the file system. */
static int by_handle(const char *path)
{
	struct {
		struct file_handle head;
		unsigned char rest[MAX_HANDLE_SZ];
	} handle = {.head.handle_bytes = MAX_HANDLE_SZ};
	int mount_id, mount_fd, fd;

	if (name_to_handle_at(AT_FDCWD, path, &handle.head, &mount_id, 0) < 0)
		return -1;
	mount_fd = open(own(""), O_RDONLY | O_DIRECTORY);
	if (mount_fd < 0)
		return -1;
	fd = open_by_handle_at(mount_fd, &handle.head, O_RDONLY);
	close(mount_fd);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

/* sibling is the process of another HSM: the parent's other child that is an hsm-worker. */
static pid_t sibling(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while (d && !found && (e = readdir(d))) {
		pid_t pid = atoi(e->d_name), parent;
		char name[64], text[512] = "", *after;
		FILE *f;

		if (pid <= 0 || pid == getpid())
			continue;
		snprintf(name, sizeof name, "/proc/%d/stat", pid);
		f = fopen(name, "r");
		if (f && fgets(text, sizeof text, f) && (after = strrchr(text, ')')) &&
		    sscanf(after + 1, " %*c %d", &parent) == 1 && parent == getppid())
			found = pid;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	errno = ESRCH;
	return found;
}

static int dial(const struct sockaddr_un *address, socklen_t length)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)address, length) < 0) {
		int why = errno;

		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}

static int abstract(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(name) > sizeof address.sun_path - 2) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path + 1, name);
	fd = dial(&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) < sizeof address.sun_path)
		strcpy(address.sun_path, path);
	return address;
}

/* unblock sends an order over the admin socket and reports the first line of the answer. */
static void unblock(const char *phase, const char *verb, const char *path)
{
	static const char order[] =
		"DELETE /v1/blocks?key_store=regional&reason=none HTTP/1.1\r\nHost: proxy\r\n\r\n";
	struct sockaddr_un address = address_of(path);
	char answer[256] = "";
	int fd;

	fd = dial(&address, sizeof address);
	if (fd < 0 || write(fd, order, sizeof order - 1) < 0) {
		report(phase, verb, path, strerror(errno));
		return;
	}
	if (read(fd, answer, sizeof answer - 1) < 0)
		snprintf(answer, sizeof answer, "%s", strerror(errno));
	answer[strcspn(answer, "\r\n")] = 0;
	report(phase, verb, path, answer);
	close(fd);
}

/* orphaned does it in a process whose parents have ended, which has a session of its own, hides
 * (not dumpable) and has thrown its environment away but for what it needs. */
static void orphaned(const char *phase, const char *verb, const char *path)
{
	pid_t first = fork();

	if (first == 0) {
		pid_t before;

		setsid();
		before = getpid();
		if (fork() == 0) {
			char dir[4096];

			snprintf(dir, sizeof dir, "%s", getenv("HOSTILE_DIR"));
			clearenv();
			setenv("HOSTILE_DIR", dir, 1);
			prctl(PR_SET_DUMPABLE, 0);
			while (getppid() == before)
				usleep(1000);
			unblock(phase, verb, path);
		}
		_exit(0);
	}
	waitpid(first, NULL, 0);
}

/* gone leaves a connection to a process that has not made it, and whose maker has ended. */
static void gone(const char *phase, const char *verb, const char *path)
{
	static const char order[] =
		"DELETE /v1/blocks?key_store=regional&reason=none HTTP/1.1\r\nHost: proxy\r\n\r\n";
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char answer[256] = "";
	pid_t maker;

	maker = fork();
	if (maker == 0)
		_exit(connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? errno : 0);
	waitpid(maker, NULL, 0);
	if (write(fd, order, sizeof order - 1) < 0 || read(fd, answer, sizeof answer - 1) < 0)
		snprintf(answer, sizeof answer, "%s", strerror(errno));
	answer[strcspn(answer, "\r\n")] = 0;
	report(phase, verb, path, answer);
	close(fd);
}

static void attack(const char *phase, const char *verb, const char *named)
{
	char target[4096] = "";
	const char *place = strstr(named, "PARENT");
	int failed;

	if (place)
		snprintf(target, sizeof target, "%.*s%d%s", (int)(place - named), named, getppid(), place + 6);
	else
		snprintf(target, sizeof target, "%s", named);
	if (!strcmp(verb, "unblock")) {
		unblock(phase, verb, target);
		return;
	}
	if (!strcmp(verb, "unblock-orphaned")) {
		orphaned(phase, verb, target);
		return;
	}
	if (!strcmp(verb, "unblock-gone")) {
		gone(phase, verb, target);
		return;
	}
	errno = 0;
	if (!strcmp(verb, "read"))
		failed = read_some(target);
	else if (!strcmp(verb, "write"))
		failed = write_some(target);
	else if (!strcmp(verb, "list"))
		failed = list(target);
	else if (!strcmp(verb, "create"))
		failed = create(target);
	else if (!strcmp(verb, "truncate"))
		failed = truncate(target, 0);
	else if (!strcmp(verb, "remove"))
		failed = unlink(target);
	else if (!strcmp(verb, "symlink"))
		failed = by_link(target);
	else if (!strcmp(verb, "link"))
		failed = hard_link(target);
	else if (!strcmp(verb, "move"))
		failed = move(target);
	else if (!strcmp(verb, "mount"))
		failed = by_mount(target);
	else if (!strcmp(verb, "peek"))
		failed = peek(atoi(target));
	else if (!strcmp(verb, "trace"))
		failed = trace(atoi(target));
	else if (!strcmp(verb, "kill"))
		failed = kill(atoi(target), SIGKILL);
	else if (!strcmp(verb, "peek-sibling"))
		failed = peek(sibling());
	else if (!strcmp(verb, "kill-sibling"))
		failed = sibling() ? kill(sibling(), SIGKILL) : -1;
	else if (!strcmp(verb, "limit"))
		failed = limit(atoi(target));
	else if (!strcmp(verb, "handle"))
		failed = by_handle(target);
	else if (!strcmp(verb, "abstract"))
		failed = abstract(target);
	else if (!strcmp(verb, "gain-privileges"))
		failed = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) ? (errno = EPERM, -1) : 0;
	else
		failed = -1, errno = ENOSYS;
	report(phase, verb, named, failed ? strerror(errno) : "done");
}

static void attacks(const char *phase)
{
	char line[8192], verb[64], target[4096], when[64];
	FILE *orders = fopen(own("orders"), "r");

	if (!orders)
		return;
	while (fgets(line, sizeof line, orders))
		if (sscanf(line, "%63s %63s %4095s", when, verb, target) == 3 && !strcmp(when, phase))
			attack(phase, verb, target);
	fclose(orders);
	report(phase, "end", "-", "done");
}

static void at_encrypt(void) { attacks("encrypt"); }

static unsigned long initialize(void *arguments)
{
	attacks("initialize");
	return ((unsigned long (*)(void *))real->f[INITIALIZE])(arguments);
}

static unsigned long encrypt(void *a, void *b, void *c, void *d, void *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, at_encrypt);
	return ((any)real->f[ENCRYPT])(a, b, c, d, e);
}

__attribute__((visibility("default"))) unsigned long C_GetFunctionList(struct functions **list)
{
	if (!real) {
		void *library = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);
		unsigned long (*get)(struct functions **);

		if (!library)
			return 5; /* CKR_GENERAL_ERROR */
		get = (unsigned long (*)(struct functions **))dlsym(library, "C_GetFunctionList");
		if (!get || get(&real))
			return 5;
		ours = *real;
		ours.f[INITIALIZE] = initialize;
		ours.f[ENCRYPT] = encrypt;
	}
	*list = &ours;
	return 0;
}
