// Package logging writes the log: structured lines, a queue for which no request waits, and a limit
// on the lines that unauthenticated requests cause.
package logging
