// Package command is what the commands share: exit codes, flags that find the configuration and the
// running proxy, shell completion, and the choice of an access key.
package command
