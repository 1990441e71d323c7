// Loading a module's function list, and the hot pair of calls. See gcm.h.

#include "gcm.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void keep_problem(struct gcm_module *module)
{
	const char *problem = dlerror();

	snprintf(module->problem, sizeof module->problem, "%s", problem ? problem : "");
}

void gcm_load(const char *path, struct gcm_module *module)
{
	void *handle;

	memset(module, 0, sizeof *module);
	// RTLD_NOW: a missing symbol shows here and not in the middle of a request.
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		keep_problem(module);
		return;
	}
	module->loaded = 1;
	module->get_list = dlsym(handle, "C_GetFunctionList");
	if (module->get_list == NULL) {
		keep_problem(module);
		dlclose(handle);
	}
}

ck_ulong gcm_list_error(const struct gcm_module *module)
{
	ck_ulong (*get)(const struct ck_functions **);
	const struct ck_functions *functions = NULL;

	*(void **)&get = module->get_list;
	return get(&functions);
}

static void set_parameters(struct gcm_call *call)
{
	ck_byte *iv = call->iv_len ? call->iv : NULL;
	ck_byte *aad = call->aad_len ? call->aad : NULL;

	call->mechanism.mechanism = call->mechanism_type;
	if (call->short_params) {
		call->params_short = (struct ck_gcm_params_short){
			.iv = iv, .iv_len = call->iv_len,
			.aad = aad, .aad_len = call->aad_len, .tag_bits = call->tag_bits,
		};
		call->mechanism.parameter = &call->params_short;
		call->mechanism.parameter_len = sizeof call->params_short;
		return;
	}
	call->params = (struct ck_gcm_params){
		.iv = iv, .iv_len = call->iv_len, .iv_bits = call->iv_bits,
		.aad = aad, .aad_len = call->aad_len, .tag_bits = call->tag_bits,
	};
	call->mechanism.parameter = &call->params;
	call->mechanism.parameter_len = sizeof call->params;
}

ck_ulong gcm_run(const struct ck_functions *functions, struct gcm_call *call, int decrypt)
{
	ck_init init = decrypt ? functions->decrypt_init : functions->encrypt_init;
	ck_data data = decrypt ? functions->decrypt : functions->encrypt;
	ck_ulong rv;

	set_parameters(call);
	call->init_succeeded = 0;
	rv = init(call->session, &call->mechanism, call->key);
	if (rv != 0)
		return rv;
	call->init_succeeded = 1;
	return data(call->session, call->in, call->in_len, call->out, &call->out_len);
}
