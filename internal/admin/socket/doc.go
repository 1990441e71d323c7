// Package socket serves internal/admin on a Unix domain socket: who may connect, which process
// asks, and the routes.
package socket
