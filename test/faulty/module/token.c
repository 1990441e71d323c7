// The manners of other tokens: what they say of themselves, how one logs in, how many sessions they
// take, what searches give, and which codes they use.

#include "faulty.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	CKF_LOGIN_REQUIRED = 0x4, CKF_TOKEN_INITIALIZED = 0x400, // of tokens
	CKF_ENCRYPT = 0x100, CKF_DECRYPT = 0x200                 // of mechanisms
};

struct token_info { // the beginning of CK_TOKEN_INFO
	char label[32], manufacturer[32], model[16], serial[16];
	word flags;
};

static void replace(char *field, size_t size, int which)
{
	const struct text *text = &control->text[which];
	size_t n = text->size < size ? text->size : size;

	if (n == 0)
		return;
	memset(field, ' ', size);
	memcpy(field, text->bytes, n);
}

static void change_token(struct token_info *info)
{
	if ((info->flags & CKF_TOKEN_INITIALIZED) == 0) // SoftHSM's free slot
		return;
	replace(info->label, sizeof info->label, TOKEN_LABEL);
	replace(info->manufacturer, sizeof info->manufacturer, TOKEN_MANUFACTURER);
	replace(info->model, sizeof info->model, TOKEN_MODEL);
	replace(info->serial, sizeof info->serial, TOKEN_SERIAL);
	info->flags &= ~(manner(CLEAR_FLAGS) | (manner(NO_LOGIN) ? CKF_LOGIN_REQUIRED : 0));
	info->flags |= manner(SET_FLAGS);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static word log_in(word *a)
{
	uint64_t user = manner(USER_TYPE), throttle = manner(THROTTLE);
	word rv;

	if (throttle != 0 && now_us() < atomic_load(&control->throttled_until)) {
		atomic_fetch_add(&control->injected[C_LOGIN], 1);
		return manner(THROTTLE_CODE);
	}
	if (manner(NO_LOGIN))
		return a[3] == 0 ? CKR_OK : CKR_PIN_INCORRECT;
	if (user != 0 && a[1] == 1)
		return CKR_USER_TYPE_INVALID;
	if (user != 0 && a[1] == user)
		a[1] = 1; // CKU_USER
	rv = with_object_manners(C_LOGIN, a);
	if (throttle != 0 && rv == CKR_PIN_INCORRECT)
		atomic_store(&control->throttled_until, now_us() + throttle);
	return rv;
}

static atomic_long sessions; // open ones of this process

static word open_session(word *a)
{
	struct text *pin = &control->text[TOKEN_PIN];
	long limit = (long)manner(MAX_SESSIONS);
	word rv;

	if (atomic_fetch_add(&sessions, 1) >= limit && limit != 0) {
		atomic_fetch_sub(&sessions, 1);
		atomic_fetch_add(&control->injected[C_OPEN_SESSION], 1);
		return manner(SESSION_CODE);
	}
	rv = with_object_manners(C_OPEN_SESSION, a);
	if (rv != CKR_OK)
		atomic_fetch_sub(&sessions, 1);
	else if (manner(NO_LOGIN)) // SoftHSM needs one anyway
		forward(C_LOGIN, (word[8]){*(word *)a[4], 1, (word)pin->bytes, pin->size});
	return rv;
}

static _Atomic word last_found;
static _Atomic(void *) lost_memory; // only so that the compiler believes in the leak

static _Atomic word next_new = 1ul << 40; // a handle that SoftHSM never gives

// find_objects begins again with the last object when a search is at its end, or invents new ones.
static word find_objects(word *a)
{
	word *count = (word *)a[3], rv = with_object_manners(C_FIND_OBJECTS, a);

	if (rv == CKR_OK && manner(NEW_FINDS)) {
		for (; *count < a[2]; ++*count)
			((word *)a[1])[*count] = atomic_fetch_add(&next_new, 1);
		return rv;
	}
	if (rv != CKR_OK || !manner(ENDLESS_FIND))
		return rv;
	if (*count == 0 && a[2] != 0 && atomic_load(&last_found) != 0) {
		*(word *)a[1] = atomic_load(&last_found);
		*count = 1;
	}
	if (*count != 0)
		atomic_store(&last_found, ((word *)a[1])[*count - 1]);
	return rv;
}

// boast says that the value of CKA_ID is longer than any memory.
static word boast(word *a)
{
	struct attribute *wanted = (struct attribute *)a[2];
	word rv = with_object_manners(C_GET_ATTRIBUTE_VALUE, a);

	for (word i = 0; rv == CKR_OK && i < a[3]; i++)
		if (wanted[i].type == CKA_ID && wanted[i].value == NULL)
			wanted[i].size = 1ul << 40;
	return rv;
}

// leak takes memory, writes to it so that it is really taken, and forgets it.
static void leak(size_t size)
{
	char *lost = malloc(size);

	if (lost != NULL)
		memset(lost, 1, size);
	atomic_store(&lost_memory, lost);
}

// get_attributes adds a NUL to labels, as C programs do that take sizeof "label" for its length.
static word get_attributes(word *a)
{
	struct attribute *wanted = (struct attribute *)a[2];
	word *room, rv;

	if (manner(LONG_VALUES))
		return boast(a);
	if (!manner(NUL_LABELS) || a[3] == 0)
		return with_object_manners(C_GET_ATTRIBUTE_VALUE, a);
	room = malloc(a[3] * sizeof *room);
	if (room == NULL)
		return CKR_HOST_MEMORY;
	for (word i = 0; i < a[3]; i++)
		room[i] = wanted[i].size;
	rv = with_object_manners(C_GET_ATTRIBUTE_VALUE, a);
	for (word i = 0; i < a[3]; i++) {
		if (wanted[i].type != CKA_LABEL || wanted[i].size == (word)-1)
			continue;
		wanted[i].size++;
		if (wanted[i].value == NULL)
			continue;
		if (wanted[i].size <= room[i]) {
			wanted[i].value[wanted[i].size - 1] = 0;
			continue;
		}
		wanted[i].size = (word)-1;
		rv = CKR_BUFFER_TOO_SMALL;
	}
	free(room);
	return rv;
}

// begin_search finds labels by what get_attributes says of them: with a NUL, and not without.
static word begin_search(word *a)
{
	struct attribute *given = (struct attribute *)a[1], *changed;
	word rv;

	if (!manner(NUL_LABELS) || a[2] == 0)
		return with_object_manners(C_FIND_OBJECTS_INIT, a);
	changed = malloc(a[2] * sizeof *changed);
	if (changed == NULL)
		return CKR_HOST_MEMORY;
	memcpy(changed, given, a[2] * sizeof *changed);
	for (word i = 0; i < a[2]; i++) {
		if (changed[i].type != CKA_LABEL)
			continue;
		if (changed[i].size != 0 && changed[i].value[changed[i].size - 1] == 0)
			changed[i].size--;
		else // no object has this one
			changed[i] = (struct attribute){CKA_LABEL, (unsigned char *)"\xFF\xFE none", 7};
	}
	a[1] = (word)changed;
	rv = with_object_manners(C_FIND_OBJECTS_INIT, a);
	free(changed);
	return rv;
}

// in_other_words turns SoftHSM's codes for a wrong tag and for a bad key handle into the HSM's.
static word in_other_words(int f, word rv)
{
	if (f == C_DECRYPT && rv == CKR_GENERAL_ERROR && manner(WRONG_TAG))
		return manner(WRONG_TAG);
	if (f != C_ENCRYPT_INIT && f != C_DECRYPT_INIT)
		return rv;
	return rv == CKR_KEY_HANDLE_INVALID && manner(BAD_KEY) ? manner(BAD_KEY) : rv;
}

static word call(int f, word *a)
{
	switch (f) {
	case C_LOGIN:
		return log_in(a);
	case C_OPEN_SESSION:
		return open_session(a);
	case C_ENCRYPT_INIT:
		if (manner(LEAK))
			leak(manner(LEAK));
		// fallthrough
	case C_DECRYPT_INIT:
		if (manner(KEEPS_DELETED))
			return init_with_kept_key(f, a);
		break;
	case C_FIND_OBJECTS_INIT:
		return begin_search(a);
	case C_FIND_OBJECTS:
		return find_objects(a);
	case C_GET_ATTRIBUTE_VALUE:
		return get_attributes(a);
	}
	return with_object_manners(f, a);
}

word with_token_manners(int f, word *a)
{
	word rv = in_other_words(f, call(f, a));

	if (rv != CKR_OK)
		return rv;
	switch (f) {
	case C_GET_SLOT_LIST:
		if (manner(MANY_SLOTS) && a[1] == 0)
			*(word *)a[2] = 1ul << 40;
		break;
	case C_GET_TOKEN_INFO:
		change_token((struct token_info *)a[1]);
		break;
	case C_GET_MECHANISM_INFO:
		if (manner(NO_USE_FLAGS))
			((word *)a[2])[2] &= ~(word)(CKF_ENCRYPT | CKF_DECRYPT);
		break;
	case C_GET_SESSION_INFO:
		if (manner(NO_LOGIN) && ((word *)a[1])[1] % 2 == 1)
			((word *)a[1])[1]--; // of a user's session a public one: 1 to 0, 3 to 2
		break;
	case C_CLOSE_SESSION:
		atomic_fetch_sub(&sessions, 1);
		break;
	case C_CLOSE_ALL_SESSIONS:
	case C_FINALIZE:
		forget_kept();
		atomic_store(&sessions, 0);
		break;
	}
	return rv;
}
