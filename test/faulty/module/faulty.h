// What the files of the faulty PKCS#11 module share: the functions of PKCS#11 2.40, the
// control file, and who calls whom. See the package comment in control.go.
#ifndef FAULTY_H
#define FAULTY_H

#include <stdatomic.h>
#include <stdint.h>

typedef unsigned long word; // CK_ULONG, CK_RV, a handle, or a pointer: one machine word all

// Places in CK_FUNCTION_LIST, of those that something is done about.
enum {
	C_INITIALIZE = 0, C_FINALIZE = 1, C_GET_FUNCTION_LIST = 3, C_GET_SLOT_LIST = 4, C_CLOSE_SESSION = 13,
	C_CLOSE_ALL_SESSIONS = 14, C_GET_SESSION_INFO = 15, C_LOGIN = 18, C_LOGOUT = 19, C_CREATE_OBJECT = 20,
	C_COPY_OBJECT = 21, C_DESTROY_OBJECT = 22, C_GET_OBJECT_SIZE = 23, C_GET_ATTRIBUTE_VALUE = 24,
	C_SET_ATTRIBUTE_VALUE = 25, C_FIND_OBJECTS = 27, C_ENCRYPT_INIT = 29, C_ENCRYPT = 30, C_DECRYPT_INIT = 33,
	C_DECRYPT = 34, C_DIGEST_KEY = 40, C_SIGN_INIT = 42, C_VERIFY_INIT = 48, C_GENERATE_KEY = 58,
	C_GENERATE_KEY_PAIR = 59, C_WRAP_KEY = 60, C_UNWRAP_KEY = 61, C_DERIVE_KEY = 62, C_GENERATE_RANDOM = 64,
	FUNCTIONS = 68
};

enum {
	CKR_OK = 0, CKR_HOST_MEMORY = 0x2, CKR_GENERAL_ERROR = 0x5, CKR_DEVICE_REMOVED = 0x32,
	CKR_MECHANISM_PARAM_INVALID = 0x71, CKR_USER_ALREADY_LOGGED_IN = 0x100, CKR_USER_NOT_LOGGED_IN = 0x101,
	CKR_BUFFER_TOO_SMALL = 0x150
};

// The actions of a rule, the IV manners: the numbers of rule.go and control.go.
enum { DELAY = 1, RETURN, ERROR_AFTER, HANG, HANG_FOREVER, CRASH, ABORT, EXIT, FLIP_BIT, TRUNCATE, DROP_LOGIN };
enum { IV_FROM_CALLER, IV_WRITTEN_BACK, IV_APPENDED, IV_LESS };

#define MAX_RULES 32

// The control file: types ruleSlot and file of control.go.
struct rule {
	_Atomic uint64_t serial; // another for every rule; 0: none
	_Atomic uint64_t functions[2];
	_Atomic uint64_t delay, jitter; // µs
	_Atomic uint64_t after, times;
	_Atomic uint32_t action, code, per_million, unused;
	_Atomic uint64_t matched, injected;
	uint64_t spare[5];
};

struct control {
	uint64_t magic;
	_Atomic uint32_t change; // a futex
	_Atomic uint32_t rules_on;
	_Atomic uint32_t iv, reboots, removals;
	uint32_t spare[9];
	_Atomic uint64_t calls[FUNCTIONS], injected[FUNCTIONS];
	struct rule rules[MAX_RULES];
};

_Static_assert(sizeof(struct rule) == 128, "ruleSlot of control.go");
_Static_assert(sizeof(struct control) == 64 + 2 * 8 * FUNCTIONS + 128 * MAX_RULES, "file of control.go");

#define MAGIC 0x313059544C554146

extern struct control *control; // never NULL once the function list was handed out

// forward calls SoftHSM. Arguments are those of the function, in an array of 8.
word forward(int function, const word *arguments);

// with_manners calls SoftHSM with the manners of the HSM that is played.
word with_manners(int function, word *arguments);

// before_call applies the rules that act before a call. 1: the call is over, with *rv. If *rv is not
// CKR_OK otherwise, it is to be answered after the call.
int before_call(int function, const word *arguments, word *rv);

// after_call applies the rules that spoil the output of a call that succeeded.
void after_call(int function, const word *arguments);

#endif
