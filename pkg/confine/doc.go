// Package confine keeps a child process away from files, processes and sockets, with Linux's
// Landlock (https://docs.kernel.org/userspace-api/landlock.html), before it loads foreign code.
//
// The parent makes a Spec, which says what the child may not reach, and starts its own program
// with Arguments and the order's file. The child calls Enter, which confines the process and then
// becomes the program again with the other arguments. That second start is the point: Landlock
// confines one thread and what comes from it. A process that begins confined has one domain for all
// of its threads and for all programs that it starts, which can therefore signal each other.
package confine
