// A PKCS#11 module that misbehaves when told to, in front of SoftHSM: loading, the function
// list, and the way of every call. The rules are in rules.c, which calls they are about in
// objects.c, the manners of other HSMs in manners.c, token.c and process.c.
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

static atomic_int owner = -1; // the list that C_Initialize was called through

static word call(int list, int f, word *a)
{
	word error = CKR_OK, rv;

	atomic_fetch_add_explicit(&control->calls[f], 1, memory_order_relaxed);
	if (manner(OWN_LISTS) && f != C_INITIALIZE && list != atomic_load(&owner))
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	remember(f, a);
	if (atomic_load_explicit(&control->rules_on, memory_order_acquire) != 0 && before_call(f, a, &error))
		return error;
	rv = with_manners(f, a);
	if (rv == CKR_OK && (f == C_INITIALIZE || f == C_FINALIZE))
		atomic_store(&owner, f == C_INITIALIZE ? list : -1);
	if (rv == CKR_OK && f == C_FIND_OBJECTS)
		saw(a);
	if (rv == CKR_OK && (f == C_ENCRYPT || f == C_DECRYPT))
		after_call(f, a);
	return error ? error : rv;
}

// The same functions once for each list, as libffi makes them for p11-kit: a call knows its list.
#define F(l, n) static word call_##l##_##n(word a, word b, word c, word d, \
	word e, word f, word g, word h) { word all[8] = {a, b, c, d, e, f, g, h}; return call(l, n, all); }
#define P(l, n) call_##l##_##n,
#define TEN(X, l, t) X(l, t##0) X(l, t##1) X(l, t##2) X(l, t##3) X(l, t##4) \
	X(l, t##5) X(l, t##6) X(l, t##7) X(l, t##8) X(l, t##9)
#define ALL(X, l) X(l, 0) X(l, 1) X(l, 2) X(l, 3) X(l, 4) X(l, 5) X(l, 6) X(l, 7) X(l, 8) X(l, 9) \
	TEN(X, l, 1) TEN(X, l, 2) TEN(X, l, 3) TEN(X, l, 4) TEN(X, l, 5) \
	X(l, 60) X(l, 61) X(l, 62) X(l, 63) X(l, 64) X(l, 65) X(l, 66) X(l, 67)
#define LISTS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define FUNCTIONS_OF(l) ALL(F, l)
#define LIST(l) {{2, 40}, {ALL(P, l)}},

LISTS(FUNCTIONS_OF)

static struct list ours[] = {LISTS(LIST)};

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
	static atomic_uint callers;
	struct list *list = ours;

	pthread_once(&once, load);
	if (real == NULL)
		return CKR_GENERAL_ERROR;
	if (manner(OWN_LISTS)) // the ninth caller has that of the first
		list = &ours[atomic_fetch_add(&callers, 1) % (sizeof ours / sizeof ours[0])];
	list->function[C_GET_FUNCTION_LIST] = C_GetFunctionList;
	*result = list;
	return CKR_OK;
}
