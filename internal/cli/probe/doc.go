// Package probe is "xks-proxy hsm probe": it tries a PKCS#11 module in a process of its own and
// prints the configuration that fits it.
package probe
