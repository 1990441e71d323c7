// Package fleet runs the processes of the HSMs and the groups over them. A reload prepares the next
// generation and publishes it in one call; what has not changed is kept.
package fleet
