// Package demo makes two SoftHSM tokens with the same keys, and a configuration for them; serves
// it; and shows the proxy at work.
package demo
