// The manners of other HSMs: who makes the IV, what a reboot does to logins and handles, and what
// a device answers that was taken away.

#include "faulty.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CKM_AES_GCM 0x1087
#define IV_SIZE 16 // bytes that are appended
#define TAG_SIZE 16

struct mechanism {
	word type;
	struct gcm *parameter;
	word parameter_size;
};

struct gcm { // CK_GCM_PARAMS
	unsigned char *iv;
	word iv_size, iv_bits;
	unsigned char *aad;
	word aad_size, tag_bits;
};

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

// number is an object's handle since the last reboot, and turns it back as well.
static word number(word object)
{
	return object ^ (atomic_load(&reboots) & 1);
}

// Which arguments are handles of objects, and which point to where one is answered; 0: none.
static const struct { unsigned char in[2], out[2]; } objects[FUNCTIONS] = {
	[C_CREATE_OBJECT] = {{0}, {3}}, [C_COPY_OBJECT] = {{1}, {4}}, [C_DESTROY_OBJECT] = {{1}, {0}},
	[C_GET_OBJECT_SIZE] = {{1}, {0}}, [C_GET_ATTRIBUTE_VALUE] = {{1}, {0}}, [C_SET_ATTRIBUTE_VALUE] = {{1}, {0}},
	[C_ENCRYPT_INIT] = {{2}, {0}}, [C_DECRYPT_INIT] = {{2}, {0}}, [C_DIGEST_KEY] = {{1}, {0}}, [C_SIGN_INIT] = {{2}, {0}},
	[C_VERIFY_INIT] = {{2}, {0}}, [C_GENERATE_KEY] = {{0}, {4}}, [C_GENERATE_KEY_PAIR] = {{0}, {6, 7}},
	[C_WRAP_KEY] = {{2, 3}, {0}}, [C_UNWRAP_KEY] = {{2}, {7}}, [C_DERIVE_KEY] = {{2}, {5}}
};

static word with_iv_manners(int f, word *a)
{
	switch (f) {
	case C_ENCRYPT_INIT:
		return encrypt_init(a);
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

static word with_numbers(int f, word *a)
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

static _Atomic uint32_t removals; // as of C_Initialize

word with_manners(int f, word *a)
{
	uint32_t now = atomic_load(&control->removals);
	word rv;

	if (f == C_INITIALIZE) {
		rv = forward(f, a);
		if (rv == CKR_OK) {
			atomic_store(&removals, now);
			atomic_store(&reboots, atomic_load(&control->reboots));
			atomic_store(&logged_out, 0);
		}
		return rv;
	}
	if (f == C_FINALIZE || (now % 2 == 0 && now == atomic_load(&removals)))
		return with_numbers(f, a);
	atomic_fetch_add(&control->injected[f], 1);
	if (f == C_GET_SLOT_LIST && atomic_load(&removals) % 2 == 1) { // it was away when we came
		*(word *)a[2] = 0;
		return CKR_OK;
	}
	return CKR_DEVICE_REMOVED;
}
