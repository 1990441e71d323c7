// A PKCS#11 module for tests: SoftHSM with the manners of other HSMs. The tests
// compile it with -DSOFTHSM="path" and choose by environment variables, read in every call:
//
//   VENDOR_IV=written-back   an IV of zeros is replaced by a random one, in the caller's buffer
//   VENDOR_IV=appended       without an IV, one of 16 bytes is made and appended to the output
//   VENDOR_REBOOTS=N         with every new N nobody is logged in any more, and after the next login
//                            objects have other numbers: neighbours have changed places
//   VENDOR_FAIL="F C N"      the function F (EncryptInit, Encrypt, …) answers C (hex), N times

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../gcm.h"

struct list {
	struct { ck_byte major, minor; } version;
	void *function[68];
};

enum {
	OPEN_SESSION = 12, GET_SESSION_INFO = 15, LOGIN = 18, GET_ATTRIBUTE_VALUE = 24, FIND_OBJECTS = 27,
	ENCRYPT_INIT = 29, ENCRYPT = 30, DECRYPT_INIT = 33, DECRYPT = 34, GENERATE_RANDOM = 64
};

typedef ck_ulong (*open_session)(ck_ulong, ck_ulong, void *, void *, ck_ulong *);
typedef ck_ulong (*generate_random)(ck_ulong, ck_byte *, ck_ulong);

static struct list *real, ours;
static ck_byte made[16]; // the IV of the active encryption, if it was made here
static int append;

static ck_ulong failure(const char *function)
{
	static char last[128];
	static int left;
	const char *wanted = getenv("VENDOR_FAIL");
	char name[32];
	unsigned long code;
	int times;

	if (wanted == NULL || sscanf(wanted, "%31s %lx %d", name, &code, &times) != 3)
		return 0;
	if (strcmp(wanted, last) != 0) {
		snprintf(last, sizeof last, "%s", wanted);
		left = times;
	}
	if (strcmp(name, function) != 0 || left == 0)
		return 0;
	left--;
	return code;
}

static int manner(const char *name)
{
	const char *wanted = getenv("VENDOR_IV");

	return wanted != NULL && strcmp(wanted, name) == 0;
}

static int reboots, logged_out;

// number is the object's number since the last reboot, and turns it back as well.
static ck_ulong number(ck_ulong object)
{
	const char *wanted = getenv("VENDOR_REBOOTS");
	int now = wanted ? atoi(wanted) : 0;

	if (now != reboots) {
		reboots = now;
		logged_out = 1;
	}
	return object ^ (reboots & 1);
}

static ck_ulong our_get_session_info(ck_ulong session, ck_ulong *info)
{
	ck_ulong rv = ((ck_ulong (*)(ck_ulong, ck_ulong *))real->function[GET_SESSION_INFO])(session, info);

	number(0);
	if (rv == 0 && logged_out)
		info[1] = 0; // CKS_RO_PUBLIC_SESSION
	return rv;
}

static ck_ulong our_login(ck_ulong session, ck_ulong user, ck_byte *pin, ck_ulong pin_len)
{
	ck_ulong rv = ((ck_ulong (*)(ck_ulong, ck_ulong, ck_byte *, ck_ulong))real->function[LOGIN])(session, user, pin, pin_len);

	if (rv != 0 && rv != 0x100) // CKR_USER_ALREADY_LOGGED_IN: SoftHSM never lost it
		return rv;
	logged_out = 0;
	return 0;
}

static ck_ulong our_get_attribute_value(ck_ulong session, ck_ulong object, void *template, ck_ulong count)
{
	return ((ck_ulong (*)(ck_ulong, ck_ulong, void *, ck_ulong))real->function[GET_ATTRIBUTE_VALUE])(session, number(object), template, count);
}

static ck_ulong our_find_objects(ck_ulong session, ck_ulong *objects, ck_ulong max, ck_ulong *count)
{
	ck_ulong rv = ((ck_ulong (*)(ck_ulong, ck_ulong *, ck_ulong, ck_ulong *))real->function[FIND_OBJECTS])(session, objects, max, count);

	number(0);
	if (rv == 0 && logged_out)
		*count = 0;
	for (ck_ulong i = 0; rv == 0 && i < *count; i++)
		objects[i] = number(objects[i]);
	return rv;
}

static ck_ulong our_open_session(ck_ulong slot, ck_ulong flags, void *app, void *notify, ck_ulong *session)
{
	ck_ulong rv = failure("OpenSession");

	return rv ? rv : ((open_session)real->function[OPEN_SESSION])(slot, flags, app, notify, session);
}

static ck_ulong our_encrypt_init(ck_ulong session, struct ck_mechanism *mechanism, ck_ulong key)
{
	struct ck_gcm_params params = *(struct ck_gcm_params *)mechanism->parameter;
	struct ck_mechanism changed = *mechanism;
	generate_random random = (generate_random)real->function[GENERATE_RANDOM];
	ck_ulong rv = failure("EncryptInit");

	if (rv)
		return rv;
	key = number(key);
	if (logged_out)
		return 0x101; // CKR_USER_NOT_LOGGED_IN
	append = 0;
	if (manner("written-back")) {
		for (ck_ulong i = 0; i < params.iv_len; i++)
			if (params.iv[i] != 0)
				return 0x71; // an IV from outside
		random(session, params.iv, params.iv_len);
	}
	if (manner("appended")) {
		if (params.iv != NULL || params.iv_len != 0)
			return 0x71;
		append = 1;
		random(session, made, sizeof made);
		params.iv = made;
		params.iv_len = sizeof made;
		params.iv_bits = 8 * sizeof made;
	}
	changed.parameter = &params;
	return ((ck_init)real->function[ENCRYPT_INIT])(session, &changed, key);
}

static ck_ulong our_encrypt(ck_ulong session, ck_byte *in, ck_ulong in_len, ck_byte *out, ck_ulong *out_len)
{
	ck_ulong rv = failure("Encrypt");

	if (rv)
		return rv;
	rv = ((ck_data)real->function[ENCRYPT])(session, in, in_len, out, out_len);
	if (rv == 0 && append) {
		memcpy(out + *out_len, made, sizeof made);
		*out_len += sizeof made;
	}
	return rv;
}

static ck_ulong our_decrypt_init(ck_ulong session, struct ck_mechanism *mechanism, ck_ulong key)
{
	ck_ulong rv = failure("DecryptInit");

	key = number(key);
	if (rv == 0 && logged_out)
		rv = 0x101;
	return rv ? rv : ((ck_init)real->function[DECRYPT_INIT])(session, mechanism, key);
}

static ck_ulong our_decrypt(ck_ulong session, ck_byte *in, ck_ulong in_len, ck_byte *out, ck_ulong *out_len)
{
	ck_ulong rv = failure("Decrypt");

	return rv ? rv : ((ck_data)real->function[DECRYPT])(session, in, in_len, out, out_len);
}

ck_ulong C_GetFunctionList(struct list **result)
{
	void *handle = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);
	ck_ulong (*get)(struct list **);

	if (handle == NULL)
		return 0x30;
	*(void **)&get = dlsym(handle, "C_GetFunctionList");
	get(&real);
	ours = *real;
	ours.function[OPEN_SESSION] = our_open_session;
	ours.function[GET_SESSION_INFO] = our_get_session_info;
	ours.function[LOGIN] = our_login;
	ours.function[GET_ATTRIBUTE_VALUE] = our_get_attribute_value;
	ours.function[FIND_OBJECTS] = our_find_objects;
	ours.function[ENCRYPT_INIT] = our_encrypt_init;
	ours.function[ENCRYPT] = our_encrypt;
	ours.function[DECRYPT_INIT] = our_decrypt_init;
	ours.function[DECRYPT] = our_decrypt;
	*result = &ours;
	return 0;
}
