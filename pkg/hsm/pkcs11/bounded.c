// Calls with a bound on what the module answers. See bounded.h.

#include "bounded.h"

#include <stdlib.h>

// Places in CK_FUNCTION_LIST, whose order the standard fixes.
enum { GET_SLOT_LIST = 4, GET_ATTRIBUTE_VALUE = 24, FIND_OBJECTS = 27 };

#define UNTOLD ((ck_ulong)-1)

ck_ulong bounded_slots(const struct ck_functions *functions, ck_ulong *ids, ck_ulong *count)
{
	ck_ulong (*get)(ck_byte, ck_ulong *, ck_ulong *);
	ck_ulong said = 0, rv;

	get = (ck_ulong(*)(ck_byte, ck_ulong *, ck_ulong *))functions->before_encrypt_init[GET_SLOT_LIST];
	rv = get(1, NULL, &said); // some modules look for tokens in this call only
	if (rv != 0)
		return rv;
	if (said > BOUNDED_SLOTS)
		return BOUNDED_TOO_MANY;
	*count = BOUNDED_SLOTS;
	rv = get(1, ids, count);
	if (rv == 0 && *count > BOUNDED_SLOTS)
		return BOUNDED_TOO_MANY;
	return rv;
}

ck_ulong bounded_find(const struct ck_functions *functions, ck_ulong session, ck_ulong *handles,
	ck_ulong max, ck_ulong *count)
{
	ck_ulong (*find)(ck_ulong, ck_ulong *, ck_ulong, ck_ulong *);
	ck_ulong rv;

	find = (ck_ulong(*)(ck_ulong, ck_ulong *, ck_ulong, ck_ulong *))
		functions->before_encrypt_init[FIND_OBJECTS];
	rv = find(session, handles, max, count);
	if (rv == 0 && *count > max)
		*count = max;
	return rv;
}

static void free_values(struct ck_attribute *attributes, ck_ulong count)
{
	for (ck_ulong i = 0; i < count; i++) {
		free(attributes[i].value);
		attributes[i].value = NULL;
	}
}

ck_ulong bounded_attributes(const struct ck_functions *functions, ck_ulong session, ck_ulong object,
	struct ck_attribute *attributes, ck_ulong count)
{
	ck_ulong (*get)(ck_ulong, ck_ulong, struct ck_attribute *, ck_ulong);
	ck_ulong rv;

	get = (ck_ulong(*)(ck_ulong, ck_ulong, struct ck_attribute *, ck_ulong))
		functions->before_encrypt_init[GET_ATTRIBUTE_VALUE];
	rv = get(session, object, attributes, count);
	if (rv != 0)
		return rv;
	for (ck_ulong i = 0; i < count && rv == 0; i++) {
		if (attributes[i].length == UNTOLD)
			continue;
		if (attributes[i].length > BOUNDED_ATTRIBUTE)
			rv = BOUNDED_TOO_LONG;
		else
			attributes[i].value = calloc(attributes[i].length + 1, 1); // never of 0 bytes
		if (rv == 0 && attributes[i].value == NULL)
			rv = 0x2; // CKR_HOST_MEMORY
	}
	if (rv == 0)
		rv = get(session, object, attributes, count);
	for (ck_ulong i = 0; i < count && rv == 0; i++)
		if (attributes[i].length != UNTOLD && attributes[i].length > BOUNDED_ATTRIBUTE)
			rv = BOUNDED_TOO_LONG;
	if (rv != 0)
		free_values(attributes, count);
	return rv;
}
