package main

// The process of one HSM: `xks-proxy hsm-worker NAME`, started by serve. The
// PKCS#11 module runs here and nowhere else.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/worker"
)

func newHSMWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hsm-worker NAME",
		Short: "Serve one HSM to the proxy that started this process",
		Long:  "hsm-worker is started by serve, one for each HSM, and cannot be started by hand:\nits configuration and PIN come over a socket. NAME is for the list of processes.",
		Args:  cobra.ExactArgs(1),
		RunE: func(*cobra.Command, []string) error {
			conn, err := worker.Conn()
			if err != nil {
				return err
			}
			err = worker.Serve(context.Background(), conn, openHSM)
			if err != nil {
				return exitError{code: exitFailed} // the proxy has been told, and logs it
			}
			return nil
		},
	}
}

// openHSM opens the token that serve described.
func openHSM(ctx context.Context, settings json.RawMessage) (hsm.Token, int, error) {
	var c pkcs11.Config
	if err := json.Unmarshal(settings, &c); err != nil {
		return nil, 0, &hsm.Error{Op: "open", Kind: hsm.ErrModule, Detail: fmt.Sprintf("the settings cannot be read: %v", err)}
	}
	token, err := pkcs11.Open(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	go watchToken(token.Alive)
	return token, token.Info().Sessions, nil
}

const (
	watchInterval = 2 * time.Second
	watchTimeout  = 1500 * time.Millisecond // for one answer
	watchPatience = 3                       // failures in a row
)

// watchToken ends the process when the token stays away. Many modules never find
// back to a token that was gone until they are loaded anew; the proxy starts a new
// process, which looks for the token until it is there.
func watchToken(alive func(context.Context) error) {
	waitUntilAway(alive, func(err error) { fmt.Fprintf(os.Stderr, "the token does not answer: %v\n", err) })
	fmt.Fprintln(os.Stderr, "the token stays away; this process ends so that a new one can look for it")
	os.Exit(exitFailed)
}

// waitUntilAway asks the token how it is and returns after watchPatience failures in a row. A call
// into the module can hang for ever: that is a failure for every interval that it lasts. A refused
// PIN is none, for a new process would try the same one.
func waitUntilAway(alive func(context.Context) error, report func(error)) {
	ticks := time.NewTicker(watchInterval)
	defer ticks.Stop()
	answers := make(chan error, 1)
	asking := false
	for failures := 0; failures < watchPatience; {
		var err error
		select {
		case <-ticks.C:
			if !asking {
				asking = true
				go func() { answers <- ask(alive) }()
				continue
			}
			err = errors.New("a call into the PKCS#11 module does not return")
		case err = <-answers:
			asking = false
		}
		if err == nil || errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked) {
			failures = 0
			continue
		}
		failures++
		report(err)
	}
}

func ask(alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	return alive(ctx)
}
