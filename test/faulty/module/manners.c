// The manners of other HSMs: who makes the IV, what a reboot does to logins and handles, and what
// a device answers that was taken away.

#include "faulty.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define IV_SIZE 16 // bytes that are appended
#define TAG_SIZE 16

// An encryption under an IV of our own that C_Encrypt is to append.
struct encryption {
	struct encryption *next;
	word session;
	unsigned char iv[IV_SIZE];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // never held during a call
static struct encryption *encryptions;

static void begin(struct encryption *e)
{
	pthread_mutex_lock(&lock);
	e->next = encryptions;
	encryptions = e;
	pthread_mutex_unlock(&lock);
}

// find gives the encryption of a session, and takes it off the list if it is to end.
static struct encryption *find(word session, int end)
{
	struct encryption *e, **at;

	pthread_mutex_lock(&lock);
	for (at = &encryptions; *at != NULL && (*at)->session != session; at = &(*at)->next)
		;
	e = *at;
	if (e != NULL && end)
		*at = e->next;
	pthread_mutex_unlock(&lock);
	return e;
}

static void forget_all(void)
{
	pthread_mutex_lock(&lock);
	while (encryptions != NULL) {
		struct encryption *e = encryptions;

		encryptions = e->next;
		free(e);
	}
	pthread_mutex_unlock(&lock);
}

// fill makes an IV with the HSM's generator.
static word fill(word session, unsigned char *iv, word size)
{
	return forward(C_GENERATE_RANDOM, (word[8]){session, (word)iv, size});
}

static word write_back(word *a, struct gcm *p)
{
	word rv;

	if (p->iv == NULL || p->iv_size == 0)
		return CKR_MECHANISM_PARAM_INVALID;
	for (word i = 0; i < p->iv_size; i++)
		if (p->iv[i] != 0)
			return CKR_MECHANISM_PARAM_INVALID;
	rv = fill(a[0], p->iv, p->iv_size);
	return rv ? rv : forward(C_ENCRYPT_INIT, a);
}

static word append(word *a, const struct mechanism *m)
{
	struct gcm ours = *m->parameter;
	struct mechanism changed = {m->type, &ours, sizeof ours};
	struct encryption *e = malloc(sizeof *e);
	word rv;

	if (e == NULL)
		return CKR_HOST_MEMORY;
	e->session = a[0];
	rv = fill(a[0], e->iv, IV_SIZE);
	if (rv == CKR_OK) {
		ours.iv = e->iv;
		ours.iv_size = IV_SIZE;
		ours.iv_bits = 8 * IV_SIZE;
		rv = forward(C_ENCRYPT_INIT, (word[8]){a[0], (word)&changed, a[2]});
	}
	if (rv == CKR_OK)
		begin(e);
	else
		free(e);
	return rv;
}

static word encrypt_init(word *a)
{
	struct mechanism *m = (struct mechanism *)a[1];
	uint32_t manner = atomic_load(&control->iv);

	if (manner == IV_FROM_CALLER || m == NULL || m->type != CKM_AES_GCM || m->parameter_size != sizeof(struct gcm))
		return forward(C_ENCRYPT_INIT, a);
	free(find(a[0], 1)); // one that was begun and never done
	if (manner == IV_WRITTEN_BACK)
		return write_back(a, m->parameter);
	if (manner == IV_LESS && (m->parameter->iv != NULL || m->parameter->iv_size != 0))
		return CKR_MECHANISM_PARAM_INVALID;
	return append(a, m);
}

static word encrypt(word *a)
{
	struct encryption *e = find(a[0], 0);
	unsigned char *out = (unsigned char *)a[3];
	word *length = (word *)a[4], rv;

	if (e == NULL)
		return forward(C_ENCRYPT, a);
	if (out == NULL || *length < a[2] + TAG_SIZE + IV_SIZE) {
		*length = a[2] + TAG_SIZE + IV_SIZE;
		return out == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
	}
	rv = forward(C_ENCRYPT, a);
	if (rv == CKR_OK) {
		memcpy(out + *length, e->iv, IV_SIZE);
		*length += IV_SIZE;
	}
	free(find(a[0], 1));
	return rv;
}

static _Atomic uint32_t reboots; // of which this process knows
static atomic_int logged_out;    // by a reboot, whatever SoftHSM says

word number(word object)
{
	return object ^ (atomic_load(&reboots) & 1);
}

// with_gcm calls an Init function with parameters as SoftHSM wants them, of those that the HSM
// that is played takes.
static word with_gcm(int f, word *a)
{
	const struct mechanism *m = (struct mechanism *)a[1];
	const struct short_gcm *brief;
	struct gcm whole;
	struct mechanism changed = {CKM_AES_GCM, &whole, sizeof whole};
	uint64_t wanted = manner(GCM_PARAMETERS);

	if (wanted == 0 || m == NULL || m->type != CKM_AES_GCM)
		return f == C_ENCRYPT_INIT ? encrypt_init(a) : forward(f, a);
	if (m->parameter_size != (wanted == GCM_40 ? sizeof *brief : sizeof whole))
		return CKR_MECHANISM_PARAM_INVALID;
	if (wanted == GCM_40) {
		brief = (struct short_gcm *)m->parameter;
		whole = (struct gcm){.iv = brief->iv, .iv_size = brief->iv_size, .aad = brief->aad,
			.aad_size = brief->aad_size, .tag_bits = brief->tag_bits};
	} else {
		whole = *m->parameter;
		if (whole.iv_bits != 0)
			return CKR_MECHANISM_PARAM_INVALID;
	}
	whole.iv_bits = 8 * whole.iv_size;
	a[1] = (word)&changed;
	return f == C_ENCRYPT_INIT ? encrypt_init(a) : forward(f, a);
}

static word with_iv_manners(int f, word *a)
{
	switch (f) {
	case C_ENCRYPT_INIT:
	case C_DECRYPT_INIT:
		return with_gcm(f, a);
	case C_ENCRYPT:
		return encrypt(a);
	case C_CLOSE_SESSION:
		free(find(a[0], 1));
		break;
	case C_CLOSE_ALL_SESSIONS:
	case C_FINALIZE:
		forget_all();
		break;
	}
	return forward(f, a);
}

// Nobody is logged in after a reboot: keys cannot be used, and a search finds none.
static word without_login(int f, word *a)
{
	word rv;

	if (f != C_GET_ATTRIBUTE_VALUE && (objects[f].in[0] != 0 || objects[f].out[0] != 0))
		return CKR_USER_NOT_LOGGED_IN;
	rv = with_iv_manners(f, a);
	if (f == C_FIND_OBJECTS && rv == CKR_OK)
		*(word *)a[3] = 0;
	if (f == C_GET_SESSION_INFO && rv == CKR_OK)
		((word *)a[1])[1] = 0; // CKS_RO_PUBLIC_SESSION
	if (f == C_LOGIN && (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)) { // SoftHSM never lost it
		atomic_store(&logged_out, 0);
		return CKR_OK;
	}
	return rv;
}

word with_object_manners(int f, word *a)
{
	uint32_t now = atomic_load(&control->reboots);
	word rv;

	if (now != atomic_load(&reboots)) {
		atomic_store(&logged_out, 1);
		atomic_store(&reboots, now);
	}
	for (int i = 0; i < 2 && objects[f].in[i] != 0; i++)
		a[objects[f].in[i]] = number(a[objects[f].in[i]]);
	rv = atomic_load(&logged_out) ? without_login(f, a) : with_iv_manners(f, a);
	if (rv != CKR_OK)
		return rv;
	for (int i = 0; i < 2 && objects[f].out[i] != 0; i++) {
		word *object = (word *)a[objects[f].out[i]];

		*object = number(*object);
	}
	for (word i = 0; f == C_FIND_OBJECTS && i < *(word *)a[3]; i++)
		((word *)a[1])[i] = number(((word *)a[1])[i]);
	return rv;
}

static _Atomic uint32_t removals, resets; // as of C_Initialize

static word initialize(word *a)
{
	uint32_t removed = atomic_load(&control->removals), reset = atomic_load(&control->resets);
	word rv;

	process_manners();
	rv = with_token_manners(C_INITIALIZE, a);
	if (rv == CKR_OK) {
		atomic_store(&removals, removed);
		atomic_store(&resets, reset);
		atomic_store(&reboots, atomic_load(&control->reboots));
		atomic_store(&logged_out, 0);
	}
	return rv;
}

word with_manners(int f, word *a)
{
	uint32_t now = atomic_load(&control->removals);

	if (f == C_INITIALIZE)
		return initialize(a);
	if (f == C_FINALIZE)
		return with_token_manners(f, a);
	if (now % 2 == 0 && now == atomic_load(&removals)) {
		if (atomic_load(&control->resets) == atomic_load(&resets) || f < C_OPEN_SESSION ||
			f == C_WAIT_FOR_SLOT_EVENT)
			return with_token_manners(f, a);
		atomic_fetch_add(&control->injected[f], 1);
		return atomic_load(&control->reset_code);
	}
	atomic_fetch_add(&control->injected[f], 1);
	if (f == C_GET_SLOT_LIST && atomic_load(&removals) % 2 == 1) { // it was away when we came
		*(word *)a[2] = 0;
		return CKR_OK;
	}
	return CKR_DEVICE_REMOVED;
}
