// Package worker is an hsm.Token whose PKCS#11 module lives in a process of its
// own. A vendor's library that crashes, hangs or corrupts memory then takes down neither the
// proxy nor the other HSM, and two HSMs of one vendor do not share one library.
//
// The parent's side: Start gives a *Worker, which starts the process, watches it,
// kills it when it hangs, and starts it again. The process's side: Conn and Serve,
// which open a token and work for the parent until it says goodbye or is gone.
//
// Between them is a Unix stream socket pair. Both sides send frames:
//
//	length  4 bytes, big-endian: of all that follows
//	kind    1 byte
//	id      8 bytes, big-endian: pairs a reply with its request
//	body
//
// Requests are pipelined and answered in any order, all on one socket: under load one
// system call and one wake-up serve several of them. (A socket for each session, on which callers
// and sessions themselves write and read, cost 30 to 45 % more CPU an operation with 16 connections.)
// The first frame of each side (hello, then ready or failed) carries the version of the
// protocol. Operations have binary bodies (see request and sealed), everything else JSON.
package worker
