// Package killswitch blocks keys and key stores. A block takes effect at once, and stays across
// restarts and when a key store is renamed.
package killswitch
