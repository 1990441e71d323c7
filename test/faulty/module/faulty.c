// A PKCS#11 module that misbehaves when told to, in front of SoftHSM: loading, the function
// list, and the way of every call. The rules are in rules.c, the manners of other HSMs in manners.c.
//
// Environment: FAULTY_CONTROL names the control file (none: a plain SoftHSM), FAULTY_MODULE the
// module behind this one (default: compiled in as SOFTHSM).

#include "faulty.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SOFTHSM
#define SOFTHSM "/usr/lib/softhsm/libsofthsm2.so"
#endif

struct list {
	struct { unsigned char major, minor; } version;
	void *function[FUNCTIONS];
};

static struct list *real;
static struct control no_control;
struct control *control = &no_control;

// No function of PKCS#11 has more than 8 arguments, and each is one machine word (CK_BBOOL too, in a
// register). In the calling conventions of Linux on x86-64 and arm64 a function does not notice
// arguments it does not know, so that one type stands for all 68.
typedef word (*function)(word, word, word, word, word, word, word, word);

word forward(int f, const word *a)
{
	return ((function)real->function[f])(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
}

static word call(int f, word *a)
{
	word error = CKR_OK, rv;

	atomic_fetch_add_explicit(&control->calls[f], 1, memory_order_relaxed);
	if (atomic_load_explicit(&control->rules_on, memory_order_acquire) != 0 && before_call(f, a, &error))
		return error;
	rv = with_manners(f, a);
	if (rv == CKR_OK && (f == C_ENCRYPT || f == C_DECRYPT))
		after_call(f, a);
	return error ? error : rv;
}

#define F(n) static word call_##n(word a, word b, word c, word d, word e, word f, word g, word h) \
	{ word all[8] = {a, b, c, d, e, f, g, h}; return call(n, all); }
#define L(n) call_##n,
#define TEN(X, t) X(t##0) X(t##1) X(t##2) X(t##3) X(t##4) X(t##5) X(t##6) X(t##7) X(t##8) X(t##9)
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) TEN(X, 1) TEN(X, 2) TEN(X, 3) TEN(X, 4) TEN(X, 5) \
	X(60) X(61) X(62) X(63) X(64) X(65) X(66) X(67)

ALL(F)

static struct list ours = {{2, 40}, {ALL(L)}};

// map_control gives 0 if the control file is not what it should be. Running without it would make
// every test pass.
static int map_control(const char *path)
{
	struct stat info;
	struct control *mapped;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (fstat(fd, &info) != 0 || info.st_size != sizeof *mapped) {
		close(fd);
		return 0;
	}
	mapped = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED || mapped->magic != MAGIC)
		return 0;
	control = mapped;
	return 1;
}

static void load(void)
{
	const char *path = getenv("FAULTY_CONTROL"), *module = getenv("FAULTY_MODULE");
	word (*get)(struct list **);
	void *handle;

	if (path != NULL && !map_control(path)) {
		fprintf(stderr, "faulty module: %s is no control file of this version\n", path);
		return;
	}
	handle = dlopen(module ? module : SOFTHSM, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		fprintf(stderr, "faulty module: %s\n", dlerror());
		return;
	}
	*(void **)&get = dlsym(handle, "C_GetFunctionList");
	if (get == NULL || get(&real) != CKR_OK)
		real = NULL;
}

word C_GetFunctionList(struct list **result)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	if (real == NULL)
		return CKR_GENERAL_ERROR;
	ours.function[C_GET_FUNCTION_LIST] = C_GetFunctionList;
	*result = &ours;
	return CKR_OK;
}
