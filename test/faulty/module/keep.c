// Keys that an HSM's client keeps using after they were deleted.

#include "faulty.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { word key, copy; } kept[256]; // by SoftHSM's numbers; more keys are not kept
static size_t kept_count;
static word keeper; // a session that the copies live in; 0: none yet

static word copy_of(word key)
{
	for (size_t i = 0; i < kept_count; i++)
		if (kept[i].key == key)
			return kept[i].copy;
	return 0;
}

// keep makes a session object of a key that was used, before anybody can delete it.
static void keep(word session, word key)
{
	unsigned char no = 0;
	struct attribute hidden[] = {{CKA_TOKEN, &no, sizeof no}, {CKA_LABEL, &no, 0}};
	word info[4], opened[8] = {0, CKF_SERIAL_SESSION, 0, 0, (word)&keeper}, copy;

	if (copy_of(key) != 0 || kept_count == sizeof kept / sizeof kept[0])
		return;
	if (keeper == 0) {
		if (forward(C_GET_SESSION_INFO, (word[8]){session, (word)info}) != CKR_OK)
			return;
		opened[0] = info[0]; // the slot
		if (forward(C_OPEN_SESSION, opened) != CKR_OK)
			return;
	}
	if (forward(C_COPY_OBJECT, (word[8]){keeper, key, (word)hidden, 2, (word)&copy}) != CKR_OK)
		return;
	kept[kept_count].key = key;
	kept[kept_count++].copy = copy;
}

word init_with_kept_key(int f, word *a)
{
	word key = number(a[2]), before[3] = {a[0], a[1], a[2]}, copy;
	word rv = with_object_manners(f, a);

	if (rv != CKR_OK && rv != CKR_KEY_HANDLE_INVALID)
		return rv;
	pthread_mutex_lock(&lock);
	if (rv == CKR_OK)
		keep(before[0], key);
	copy = copy_of(key);
	pthread_mutex_unlock(&lock);
	if (rv == CKR_OK || copy == 0)
		return rv;
	a[1] = before[1];
	a[2] = number(copy);
	return with_object_manners(f, a);
}

void forget_kept(void)
{
	pthread_mutex_lock(&lock);
	kept_count = 0;
	keeper = 0;
	pthread_mutex_unlock(&lock);
}
