package demo

// Making one token of the demo, in a process of its own: SoftHSM reads SOFTHSM2_CONF once, so that
// one process can only ever know one HSM. What it is to make, PINs and key values included, comes
// over standard input and is not in the arguments or the environment.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/subprocess"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

// tokenOrder is what one token is to become. The secrets in it print as redacted.
type tokenOrder struct {
	Module string        `json:"module"`
	Label  string        `json:"label"`
	PIN    pkcs11.Secret `json:"pin"`
	SOPIN  pkcs11.Secret `json:"soPin,omitempty"` // "": the token is there already
	Keys   []tokenKey    `json:"keys"`
}

// tokenKey is an AES-256 key to import.
type tokenKey struct {
	Label   string    `json:"label"`
	Version uint32    `json:"version"`
	Usage   hsm.Usage `json:"usage"`
	Value   []byte    `json:"value"`
}

// makeToken has a child process carry out the order, on the token of h.
func makeToken(ctx context.Context, h demoHSM, order tokenOrder) error {
	input, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("%s: the order cannot be written as JSON: %w", h.name, err)
	}
	defer clear(input)
	_, said, err := subprocess.Child{
		Arguments: []string{
			"demo",
			"make-token",
		}, Environment: schema.ChildEnvironment("SOFTHSM2_CONF=" + h.conf()), Input: input,
	}.Run(ctx)
	switch {
	case ctx.Err() != nil:
		return subprocess.ErrInterrupted
	case err != nil:
		return fmt.Errorf("the token %s cannot be made: %s (%w)", h.name, said, err)
	}
	return nil
}

// CarryOutOrder makes a token of the demo, as an order in JSON says: what the hidden command does
// in a process of its own.
func CarryOutOrder(ctx context.Context, input []byte) error {
	var order tokenOrder
	err := json.Unmarshal(input, &order)
	if err != nil {
		return errors.New("this command is for the demo itself: standard input holds no order")
	}
	return order.carryOut(ctx)
}

func (o tokenOrder) carryOut(ctx context.Context) error {
	if o.SOPIN != "" {
		err := pkcs11.InitToken(o.Module, o.Label, string(o.SOPIN), string(o.PIN))
		if err != nil {
			return err
		}
	}
	token, err := pkcs11.Open(
		ctx,
		pkcs11.Config{
			Module:   o.Module,
			Token:    o.Label,
			PIN:      o.PIN,
			Sessions: 1,
			Profile:  "softhsm",
		},
	)
	if err != nil {
		return err
	}
	keys := make([]pkcs11.NewKey, 0, len(o.Keys))
	for _, k := range o.Keys {
		keys = append(
			keys,
			pkcs11.NewKey{
				Label:      k.Label,
				Version:    k.Version,
				HasVersion: true,
				Value:      k.Value,
				Usage:      k.Usage,
			},
		)
	}
	err = token.CreateKeys(ctx, keys)
	return errors.Join(err, token.Close(ctx))
}
