// What modules do to the process that loads them: helpers, prints, changes of its state.

#define _GNU_SOURCE

#include "faulty.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// start_helper starts a process that only SIGKILL ends. Between fork and exec only what POSIX calls
// async-signal-safe is done, because other threads of this process may hold locks.
static void start_helper(uint64_t how)
{
	uint32_t place;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGTERM, SIG_IGN); // lasts through exec
		signal(SIGHUP, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		if (how == HELPER_SETSID)
			setsid();
		execl("/bin/sleep", "sleep", "86400", (char *)NULL);
		_exit(127);
	}
	if (pid > 0) {
		place = atomic_fetch_add(&control->helper_count, 1) % MAX_HELPERS;
		atomic_store(&control->helpers[place], pid);
	}
}

static void on_signal(int number) { (void)number; }

// take_signals takes those that a Go program does not need for its scheduler.
static void take_signals(void)
{
	static const int taken[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE, SIGALRM};
	struct sigaction action = {.sa_handler = on_signal}; // no SA_ONSTACK, no SA_RESTART

	for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
		sigaction(taken[i], &action, NULL);
}

void process_manners(void)
{
	if (manner(PRINTS)) {
		printf("faulty module: this is standard output\n");
		fflush(stdout);
		fprintf(stderr, "faulty module: this is standard error\n");
	}
	if (manner(MOVES)) {
		setlocale(LC_ALL, "C.UTF-8");
		umask(0);
		if (chdir("/") != 0)
			perror("faulty module: chdir");
	}
	if (manner(SIGNALS))
		take_signals();
	if (manner(HELPERS))
		start_helper(manner(HELPERS));
}
