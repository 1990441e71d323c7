// Command xks-proxy is an AWS KMS external key store proxy in front of PKCS#11 HSMs.
package main

// The process: signals, the exit code, the last error.

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"xks-proxy/internal/cli"
)

func main() {
	time.Local = time.UTC // on screens, in JSON and in the log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
