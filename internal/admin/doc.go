// Package admin carries out the orders of the operator and answers what the operator asks: status,
// drain, resume, restart, block, unblock, reload, keys and credentials. It knows neither HTTP nor
// the terminal; the admin socket and the command line stand on it.
package admin
