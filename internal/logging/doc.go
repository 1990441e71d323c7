// Package logging is the log: structured lines, a queue that no request waits for, and a limit on
// what strangers can write to it.
package logging
