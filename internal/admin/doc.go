// Package admin carries out the orders of the operator and answers what the operator asks: status,
// drain, resume, restart, block, unblock, reload, keys and credentials. It does not know HTTP or
// the terminal. The admin socket and the command line use it.
package admin
