// What the hot pair of calls needs of PKCS#11 2.40: C_EncryptInit + C_Encrypt,
// or C_DecryptInit + C_Decrypt, in one crossing from Go to C, into a buffer of
// our own and without the query for its size.
//
// Only the few structures used here are declared. Layouts are those of the
// standard's pkcs11t.h on Unix, where structures are not packed.
#ifndef XKS_PROXY_GCM_H
#define XKS_PROXY_GCM_H

typedef unsigned char ck_byte;
typedef unsigned long ck_ulong;

struct ck_mechanism {
	ck_ulong mechanism;
	void *parameter;
	ck_ulong parameter_len;
};

struct ck_gcm_params {
	ck_byte *iv;
	ck_ulong iv_len;
	ck_ulong iv_bits;
	ck_byte *aad;
	ck_ulong aad_len;
	ck_ulong tag_bits;
};

// As version 2.40 of the standard printed it before its errata, without ulIvBits: 40 bytes
// instead of 48. Some modules take this one only.
struct ck_gcm_params_short {
	ck_byte *iv;
	ck_ulong iv_len;
	ck_byte *aad;
	ck_ulong aad_len;
	ck_ulong tag_bits;
};

typedef ck_ulong (*ck_init)(ck_ulong session, struct ck_mechanism *mechanism, ck_ulong key);
typedef ck_ulong (*ck_data)(ck_ulong session, ck_byte *in, ck_ulong in_len, ck_byte *out, ck_ulong *out_len);

// CK_FUNCTION_LIST as far as C_Decrypt: the order is fixed by the standard, and
// C_EncryptInit is the 30th function.
struct ck_functions {
	struct {
		ck_byte major;
		ck_byte minor;
	} version;
	void (*before_encrypt_init[29])(void);
	ck_init encrypt_init;
	ck_data encrypt;
	void (*encrypt_update)(void);
	void (*encrypt_final)(void);
	ck_init decrypt_init;
	ck_data decrypt;
};

// Bytes; module.go checks at compile time that they are those of package hsm.
#define GCM_IV 16
#define GCM_AAD 65558
#define GCM_IN (65536 + 16)
#define GCM_OUT (65536 + 16 + 16)

// One for each session, and as long-lived: a module may keep the pointers it is
// given in C_…Init for as long as the operation is active.
struct gcm_call {
	ck_ulong session;
	ck_ulong key;
	ck_ulong mechanism_type;
	ck_ulong iv_len;
	ck_ulong iv_bits;
	ck_ulong tag_bits;
	ck_ulong aad_len;
	ck_ulong in_len;
	ck_ulong out_len;   // room on the way in, length on the way out
	int init_succeeded; // tells which of the two calls answered
	int short_params;   // ck_gcm_params_short goes to the module
	struct ck_mechanism mechanism;
	union {
		struct ck_gcm_params params;
		struct ck_gcm_params_short params_short;
	};
	ck_byte iv[GCM_IV];
	ck_byte aad[GCM_AAD];
	ck_byte in[GCM_IN];
	ck_byte out[GCM_OUT];
};

// gcm_run does the two calls and gives the CK_RV of the last one it made.
ck_ulong gcm_run(const struct ck_functions *functions, struct gcm_call *call, int decrypt);

struct gcm_module {
	void *get_list;    // C_GetFunctionList; NULL: not usable, see the rest
	int loaded;        // the file is a shared object
	char problem[512]; // the dynamic linker's words, "" if none
};

// gcm_load loads the module for the rest of the process's life. It does not ask for the function
// list: a module may give each caller a list of its own.
void gcm_load(const char *path, struct gcm_module *module);

// gcm_list_error asks for a function list that nobody uses, to learn the code of the failure.
ck_ulong gcm_list_error(const struct gcm_module *module);

#endif
