// The rules of the control file, applied to a call.

#define _GNU_SOURCE

#include "faulty.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// random_below gives a number from 0 to n-1 (xorshift; good enough to break things).
static uint64_t random_below(uint64_t n)
{
	static __thread uint64_t state;
	struct timespec now;

	if (state == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		state = ((uint64_t)now.tv_nsec << 32 | (uint64_t)syscall(SYS_gettid)) | 1;
	}
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % n;
}

static void wait_us(uint64_t us)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += us / 1000000;
	until.tv_nsec += us % 1000000 * 1000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

// hang sleeps until the rule is gone. Whoever changes the rules wakes it; the second is for a Control
// that died in between.
static void hang(struct rule *rule, uint64_t serial)
{
	const struct timespec second = {1, 0};

	for (;;) {
		uint32_t change = atomic_load(&control->change);

		if (atomic_load(&rule->serial) != serial)
			return;
		syscall(SYS_futex, &control->change, FUTEX_WAIT, change, &second, NULL, 0);
	}
}

static void crash(void)
{
	volatile int *volatile nowhere = NULL; // twice: neither the address nor the store is to be optimised away

	*nowhere = 1;
}

// claim counts a call that a rule fits, and says whether it is hit.
static int claim(struct rule *rule, int f)
{
	uint64_t times = atomic_load(&rule->times), so_far;
	uint32_t per_million = atomic_load(&rule->per_million);

	if (atomic_fetch_add(&rule->matched, 1) < atomic_load(&rule->after))
		return 0;
	if (per_million < 1000000 && random_below(1000000) >= per_million)
		return 0;
	so_far = atomic_load(&rule->injected);
	do {
		if (times != 0 && so_far >= times)
			return 0;
	} while (!atomic_compare_exchange_weak(&rule->injected, &so_far, so_far + 1));
	atomic_fetch_add(&control->injected[f], 1);
	return 1;
}

struct hit {
	struct rule *rule;
	uint64_t serial;
	uint32_t action, code;
};

static int spoils(uint32_t action) { return action == FLIP_BIT || action == TRUNCATE; }

// next_hit gives the first rule from *i on that hits the call, of those that spoil its output or of
// those that do not, after the wait that belongs to it.
static int next_hit(uint32_t *i, int f, const word *a, int spoiling, struct hit *hit)
{
	for (; *i < atomic_load(&control->rules_on) && *i < MAX_RULES; ++*i) {
		struct rule *rule = &control->rules[*i];
		uint64_t delay, jitter;

		hit->rule = rule;
		hit->serial = atomic_load(&rule->serial);
		if (hit->serial == 0 || (atomic_load(&rule->functions[f / 64]) >> f % 64 & 1) == 0)
			continue;
		hit->action = atomic_load(&rule->action);
		hit->code = atomic_load(&rule->code);
		delay = atomic_load(&rule->delay);
		jitter = atomic_load(&rule->jitter);
		if (spoils(hit->action) != spoiling || !concerns(rule, f, a))
			continue;
		if (atomic_load(&rule->serial) != hit->serial || !claim(rule, f))
			continue;
		if (jitter != 0)
			delay += random_below(jitter + 1);
		if (delay != 0)
			wait_us(delay);
		++*i;
		return 1;
	}
	return 0;
}

int before_call(int f, const word *a, word *rv)
{
	struct hit hit;

	for (uint32_t i = 0; next_hit(&i, f, a, 0, &hit);) {
		switch (hit.action) {
		case RETURN:
			*rv = hit.code;
			return 1;
		case ERROR_AFTER:
			*rv = hit.code;
			return 0;
		case HANG:
			hang(hit.rule, hit.serial);
			break;
		case HANG_FOREVER:
			for (;;)
				pause();
		case CRASH:
			crash();
			break;
		case ABORT:
			abort();
		case EXIT:
			_exit((int)hit.code);
		case DROP_LOGIN:
			forward(C_LOGOUT, (word[8]){a[0]});
			break;
		}
	}
	return 0;
}

void after_call(int f, const word *a)
{
	unsigned char *out = (unsigned char *)a[3];
	word *length = (word *)a[4];
	struct hit hit;

	if (out == NULL || *length == 0) // the query for the size, or an empty plaintext
		return;
	for (uint32_t i = 0; *length != 0 && next_hit(&i, f, a, 1, &hit);) {
		if (hit.action == FLIP_BIT)
			out[random_below(*length)] ^= (unsigned char)(1 << random_below(8));
		else
			--*length;
	}
}
