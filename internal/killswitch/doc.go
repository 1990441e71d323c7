// Package killswitch blocks keys and key stores: at once, across restarts, and across a renamed
// configuration.
package killswitch
