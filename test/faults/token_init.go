package main

// Making a token with a vendor's module, by OpenSC's pkcs11-tool: pkcs11.InitToken wants a slot with a
// token that is not initialised, and some modules show a slot without a token instead.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// initToken makes the token of a vendor's module in this slot. The PINs are visible to other
// processes meanwhile: they protect keys of this test.
func (d *device) initToken(ctx context.Context, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	soPIN := "so-" + d.PIN
	for _, job := range [][]string{
		{"--init-token", "--label", d.Name, "--so-pin", soPIN},
		{"--init-pin", "--pin", d.PIN, "--login", "--login-type", "so", "--so-pin", soPIN},
	} {
		arguments := append([]string{"--module", d.Module, "--slot", slot}, job...)
		tool := exec.CommandContext(ctx, "pkcs11-tool", arguments...)
		tool.Env = append(os.Environ(), d.environment()...)
		said, err := tool.CombinedOutput()
		if err != nil {
			return fmt.Errorf("pkcs11-tool %s: %w\n%s", job[0], err, said)
		}
	}
	return nil
}
