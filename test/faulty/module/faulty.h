// What the files of the faulty PKCS#11 module share: the functions of PKCS#11 2.40, the
// control file, and who calls whom. See the package comment in control.go.
#ifndef FAULTY_H
#define FAULTY_H

#include <stdatomic.h>
#include <stdint.h>

typedef unsigned long word; // CK_ULONG, CK_RV, a handle, or a pointer: one machine word all

// Places in CK_FUNCTION_LIST, of those that something is done about.
enum {
	C_INITIALIZE = 0, C_FINALIZE = 1, C_GET_FUNCTION_LIST = 3, C_GET_SLOT_LIST = 4,
	C_GET_TOKEN_INFO = 6, C_GET_MECHANISM_INFO = 8, C_OPEN_SESSION = 12, C_CLOSE_SESSION = 13,
	C_CLOSE_ALL_SESSIONS = 14, C_GET_SESSION_INFO = 15, C_LOGIN = 18, C_LOGOUT = 19, C_CREATE_OBJECT = 20,
	C_COPY_OBJECT = 21, C_DESTROY_OBJECT = 22, C_GET_OBJECT_SIZE = 23, C_GET_ATTRIBUTE_VALUE = 24,
	C_SET_ATTRIBUTE_VALUE = 25, C_FIND_OBJECTS_INIT = 26, C_FIND_OBJECTS = 27,
	C_ENCRYPT_INIT = 29, C_ENCRYPT = 30, C_DECRYPT_INIT = 33, C_DECRYPT = 34, C_DIGEST_KEY = 40, C_SIGN_INIT = 42, C_VERIFY_INIT = 48, C_GENERATE_KEY = 58,
	C_GENERATE_KEY_PAIR = 59, C_WRAP_KEY = 60, C_UNWRAP_KEY = 61, C_DERIVE_KEY = 62, C_GENERATE_RANDOM = 64,
	C_WAIT_FOR_SLOT_EVENT = 67,
	FUNCTIONS = 68
};

enum {
	CKR_OK = 0, CKR_HOST_MEMORY = 0x2, CKR_GENERAL_ERROR = 0x5, CKR_DEVICE_REMOVED = 0x32,
	CKR_MECHANISM_PARAM_INVALID = 0x71, CKR_KEY_HANDLE_INVALID = 0x82, CKR_PIN_INCORRECT = 0xA0,
	CKR_USER_ALREADY_LOGGED_IN = 0x100, CKR_USER_NOT_LOGGED_IN = 0x101,
	CKR_USER_TYPE_INVALID = 0x103, CKR_BUFFER_TOO_SMALL = 0x150, CKR_CRYPTOKI_NOT_INITIALIZED = 0x190
};

enum { CKM_AES_GCM = 0x1087, CKA_TOKEN = 1, CKA_LABEL = 3, CKA_ID = 0x102, CKF_SERIAL_SESSION = 4 };

struct mechanism { // CK_MECHANISM
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

struct short_gcm { // CK_GCM_PARAMS of PKCS#11 2.40's first text: without ulIvBits
	unsigned char *iv;
	word iv_size;
	unsigned char *aad;
	word aad_size, tag_bits;
};

struct attribute { // CK_ATTRIBUTE
	word type;
	unsigned char *value;
	word size;
};

// The actions of a rule, the IV manners: the numbers of rule.go and control.go.
enum { DELAY = 1, RETURN, ERROR_AFTER, HANG, HANG_FOREVER, CRASH, ABORT, EXIT, FLIP_BIT, TRUNCATE, DROP_LOGIN };
enum { IV_FROM_CALLER, IV_WRITTEN_BACK, IV_APPENDED, IV_LESS };

// The manners of other HSMs, and the texts of those that have one: the numbers of manners.go.
enum {
	OWN_LISTS, GCM_PARAMETERS, MAX_SESSIONS, SESSION_CODE, NO_USE_FLAGS, CLEAR_FLAGS, SET_FLAGS,
	NO_LOGIN, USER_TYPE, THROTTLE, THROTTLE_CODE, NUL_LABELS, ENDLESS_FIND, WRONG_TAG, BAD_KEY,
	HELPERS, PRINTS, MOVES, SIGNALS, KEEPS_DELETED, NEW_FINDS, LEAK, LONG_VALUES, MANY_SLOTS,
	MANNERS = 32
};
enum { TOKEN_LABEL, TOKEN_MANUFACTURER, TOKEN_MODEL, TOKEN_SERIAL, TOKEN_PIN, TEXTS = 8 };
enum { GCM_40 = 1, GCM_ZERO_BITS };             // GCM_PARAMETERS
enum { HELPER_IGNORES_TERM = 1, HELPER_SETSID }; // HELPERS

#define MAX_RULES 32
#define MAX_LABEL 64
#define MAX_HELPERS 32

struct text {
	_Atomic uint64_t size; // 0: none
	char bytes[MAX_LABEL];
};

// The control file: types ruleSlot and file of control.go.
struct rule {
	_Atomic uint64_t serial; // another for every rule; 0: none
	_Atomic uint64_t functions[2];
	_Atomic uint64_t delay, jitter; // µs
	_Atomic uint64_t after, times;
	_Atomic uint32_t action, code, per_million, unused;
	_Atomic uint64_t matched, injected;
	_Atomic uint64_t data_over, aad_over, nth; // 0: any call
	struct text label;                         // of the object
	uint64_t spare[9];
};

struct control {
	uint64_t magic;
	_Atomic uint32_t change; // a futex
	_Atomic uint32_t rules_on;
	_Atomic uint32_t iv, reboots, removals, resets, reset_code;
	_Atomic uint32_t helper_count;
	uint32_t spare[6];
	_Atomic uint64_t calls[FUNCTIONS], injected[FUNCTIONS];
	_Atomic uint64_t manner[MANNERS];
	struct text text[TEXTS];
	_Atomic uint64_t throttled_until; // µs of CLOCK_MONOTONIC, the same in all processes
	_Atomic int64_t helpers[MAX_HELPERS]; // process ids, the last MAX_HELPERS
	struct rule rules[MAX_RULES];
};

_Static_assert(sizeof(struct rule) == 256, "ruleSlot of control.go");
_Static_assert(sizeof(struct control) == 64 + 2 * 8 * FUNCTIONS + 8 * MANNERS + 72 * TEXTS + 8 +
	8 * MAX_HELPERS + 256 * MAX_RULES, "file of control.go");

#define MAGIC 0x323059544C554146

extern struct control *control; // never NULL once the function list was handed out

static inline uint64_t manner(int which) { return atomic_load(&control->manner[which]); }

// Which arguments are handles of objects, and which point to where one is answered; 0: none.
struct handles { unsigned char in[2], out[2]; };
extern const struct handles objects[FUNCTIONS];

// forward calls SoftHSM. Arguments are those of the function, in an array of 8.
word forward(int function, const word *arguments);

// with_manners calls SoftHSM with the manners of the HSM that is played: of what happens to
// devices and sessions first, then of tokens (token.c), of objects and of IVs (manners.c).
word with_manners(int function, word *arguments);
word with_token_manners(int function, word *arguments);
word with_object_manners(int function, word *arguments);

// init_with_kept_key is C_EncryptInit or C_DecryptInit that a deleted key does not stop.
word init_with_kept_key(int function, word *arguments);
void forget_kept(void);

// number is an object's handle since the last reboot, and turns it back as well.
word number(word object);

// process_manners does to the process what other modules do in C_Initialize.
void process_manners(void);

// remember notes key and AAD of an operation that begins; saw notes what a search found.
void remember(int function, const word *arguments);
void saw(const word *arguments);

// concerns says whether a call is about the object and the sizes that a rule names.
int concerns(struct rule *rule, int function, const word *arguments);

// before_call applies the rules that act before a call. 1: the call is over, with *rv. If *rv is not
// CKR_OK otherwise, it is to be answered after the call.
int before_call(int function, const word *arguments, word *rv);

// after_call applies the rules that spoil the output of a call that succeeded.
void after_call(int function, const word *arguments);

#endif
