// What a call is about: its object, the object's label, and how long data and AAD are.

#include "faulty.h"

#include <pthread.h>
#include <string.h>

const struct handles objects[FUNCTIONS] = {
	[C_CREATE_OBJECT] = {{0}, {3}}, [C_COPY_OBJECT] = {{1}, {4}}, [C_DESTROY_OBJECT] = {{1}, {0}},
	[C_GET_OBJECT_SIZE] = {{1}, {0}}, [C_GET_ATTRIBUTE_VALUE] = {{1}, {0}},
	[C_SET_ATTRIBUTE_VALUE] = {{1}, {0}},
	[C_ENCRYPT_INIT] = {{2}, {0}}, [C_DECRYPT_INIT] = {{2}, {0}},
	[C_DIGEST_KEY] = {{1}, {0}}, [C_SIGN_INIT] = {{2}, {0}}, [C_VERIFY_INIT] = {{2}, {0}},
	[C_GENERATE_KEY] = {{0}, {4}}, [C_GENERATE_KEY_PAIR] = {{0}, {6, 7}},
	[C_WRAP_KEY] = {{2, 3}, {0}}, [C_UNWRAP_KEY] = {{2}, {7}}, [C_DERIVE_KEY] = {{2}, {5}}
};

// The last operation of each session. Two sessions that share a place forget each other's: with
// SoftHSM's handles, which count up, there would have to be 65,536 of them.
static struct { _Atomic word session, key, aad; } operations[65536];

#define PLACE(session) (&operations[(session) % 65536])

void remember(int f, const word *a)
{
	const struct mechanism *m = (struct mechanism *)a[1];
	word aad = 0;

	if (f != C_ENCRYPT_INIT && f != C_DECRYPT_INIT)
		return;
	if (m != NULL && m->type == CKM_AES_GCM && m->parameter_size == sizeof(struct gcm))
		aad = m->parameter->aad_size;
	if (m != NULL && m->type == CKM_AES_GCM && m->parameter_size == sizeof(struct short_gcm))
		aad = ((struct short_gcm *)m->parameter)->aad_size;
	atomic_store(&PLACE(a[0])->session, a[0]);
	atomic_store(&PLACE(a[0])->key, a[2]);
	atomic_store(&PLACE(a[0])->aad, aad);
}

// Objects in the order in which searches of this process first found them, by SoftHSM's numbers.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static word seen[4096];
static size_t seen_count;

static size_t place_of(word object) // from 1; 0: not seen
{
	for (size_t i = 0; i < seen_count; i++)
		if (seen[i] == object)
			return i + 1;
	return 0;
}

void saw(const word *a)
{
	const word *found = (word *)a[1];

	pthread_mutex_lock(&lock);
	for (word i = 0; i < *(word *)a[3]; i++)
		if (place_of(number(found[i])) == 0 && seen_count < sizeof seen / sizeof seen[0])
			seen[seen_count++] = number(found[i]);
	pthread_mutex_unlock(&lock);
}

static int has_label(word session, word object, struct text *label)
{
	unsigned char value[MAX_LABEL];
	struct attribute read = {CKA_LABEL, value, sizeof value};

	if (forward(C_GET_ATTRIBUTE_VALUE, (word[8]){session, object, (word)&read, 1}) != CKR_OK)
		return 0;
	return read.size == label->size && memcmp(value, label->bytes, read.size) == 0;
}

static int is_object(struct rule *rule, word session, word object)
{
	uint64_t nth = atomic_load(&rule->nth);
	size_t place;

	object = number(object);
	if (rule->label.size != 0 && !has_label(session, object, &rule->label))
		return 0;
	if (nth == 0)
		return 1;
	pthread_mutex_lock(&lock);
	place = place_of(object);
	pthread_mutex_unlock(&lock);
	return place == nth;
}

int concerns(struct rule *rule, int f, const word *a)
{
	uint64_t data = atomic_load(&rule->data_over), aad = atomic_load(&rule->aad_over);
	int ours = atomic_load(&PLACE(a[0])->session) == a[0]; // the operation of this session

	if (data != 0 && a[2] <= data) // only of C_Encrypt and C_Decrypt, see rule.go
		return 0;
	if (aad != 0 && (!ours || atomic_load(&PLACE(a[0])->aad) <= aad))
		return 0;
	if (rule->label.size == 0 && atomic_load(&rule->nth) == 0)
		return 1;
	if (f == C_ENCRYPT || f == C_DECRYPT)
		return ours && is_object(rule, a[0], atomic_load(&PLACE(a[0])->key));
	for (int i = 0; i < 2 && objects[f].in[i] != 0; i++)
		if (is_object(rule, a[0], a[objects[f].in[i]]))
			return 1;
	return 0;
}
