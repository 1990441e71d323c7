// The calls whose answers say how much memory to take for them, with a bound on what a module may
// say. miekg/pkcs11 believes every length.
#ifndef XKS_PROXY_BOUNDED_H
#define XKS_PROXY_BOUNDED_H

#include "gcm.h"

struct ck_attribute { // CK_ATTRIBUTE
	ck_ulong type;
	ck_byte *value;
	ck_ulong length;
};

#define BOUNDED_SLOTS 4096
#define BOUNDED_ATTRIBUTE 65536 // bytes

// The module said more than the bound: CKR_ATTRIBUTE_VALUE_INVALID and CKR_GENERAL_ERROR.
#define BOUNDED_TOO_LONG 0x13
#define BOUNDED_TOO_MANY 0x5

// bounded_slots is C_GetSlotList for slots with a token. It fills at most BOUNDED_SLOTS ids.
ck_ulong bounded_slots(const struct ck_functions *functions, ck_ulong *ids, ck_ulong *count);

// bounded_find is C_FindObjects. It gives at most max handles, whatever the module says.
ck_ulong bounded_find(const struct ck_functions *functions, ck_ulong session, ck_ulong *handles,
	ck_ulong max, ck_ulong *count);

// bounded_attributes is C_GetAttributeValue, twice: for the lengths and for the values, which the
// caller frees if the result is CKR_OK. A value that the module does not tell has the length -1.
ck_ulong bounded_attributes(const struct ck_functions *functions, ck_ulong session, ck_ulong object,
	struct ck_attribute *attributes, ck_ulong count);

#endif
