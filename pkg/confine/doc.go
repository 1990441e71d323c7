// Package confine keeps a child process away from files, processes and sockets, with Linux's
// Landlock (https://docs.kernel.org/userspace-api/landlock.html), before it loads foreign code.
//
// The parent makes a Spec, which says what the child may not reach, and starts its own program with
// Arguments and the file of the Spec. The child calls Enter, which confines the process and then
// runs the program again with the other arguments. The second start is necessary: Landlock confines
// one thread and its descendants. A process that begins confined has one domain for all its threads
// and for all programs that it starts, so they can signal each other.
package confine
