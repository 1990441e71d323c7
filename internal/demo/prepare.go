package demo

// Filling the demo's directory: two tokens with the same keys, certificate,
// credential, configuration. A second run keeps what is there.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"xks-proxy/internal/secret"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

const (
	demoPathPrefix = "/demo"
	demoTestKey    = "xks-proxy-test"
)

// demoSpecialKeys are what conformance tests need beside keys that can do
// everything, named as AWS's public test client expects. A key that can only wrap can
// neither encrypt nor decrypt.
var demoSpecialKeys = []struct {
	name, label string
	usage       hsm.Usage
}{
	{"encryptOnly", "encrypt_only_key", hsm.CanEncrypt},
	{"decryptOnly", "decrypt_only_key", hsm.CanDecrypt},
	{"impotent", "impotent_key", hsm.CanWrap},
}

// plan is what a run of the demo is to find in its directory.
type plan struct {
	dir    *Directory
	before *xksclient.ConnectionFile // of the run before; nil: the directory is new
	module string
	at     demoAddresses
	keys   int
}

// prepare makes what is missing, and returns how to reach it.
func (p plan) prepare(ctx context.Context, out io.Writer) (*xksclient.ConnectionFile, error) {
	text.PrintRows(out, []text.Row{{"SoftHSM", p.module}})
	err := p.makeTokens(ctx, out)
	if err != nil {
		return nil, err
	}
	credential, err := p.credential()
	if err != nil {
		return nil, err
	}
	certificate, err := p.dir.EnsureCertificate(hostOf(p.at.listen), time.Now())
	if err != nil {
		return nil, err
	}
	to := p.connection(credential)
	kept, err := p.writeFiles(to)
	if err != nil {
		return nil, err
	}
	text.PrintRows(out, []text.Row{
		{"certificate", certificate},
		{"credential", "access key id " + credential.AccessKeyID},
		{"files", "xks-proxy.yaml, connection.json" + kept},
	})
	return to, p.dir.mark(demoFinished)
}

// makeTokens makes both tokens, or adds keys to them, at the same time.
func (p plan) makeTokens(ctx context.Context, out io.Writer) error {
	keys, err := p.missingKeys()
	if err != nil {
		return err
	}
	if len(keys) >= demoStageKeys {
		text.PrintRows(
			out,
			[]text.Row{
				{"keys", fmt.Sprintf("making %d on each token, which takes a while …", len(keys))},
			},
		)
	}
	start := time.Now()
	results := make(chan error)
	for _, h := range p.dir.hsms() {
		go func() { results <- p.makeToken(ctx, h, keys) }()
	}
	err = errors.Join(<-results, <-results)
	for _, k := range keys {
		clear(k.Value)
	}
	if err != nil {
		return firstJoined(err)
	}
	took := seconds(time.Since(start))
	switch {
	case p.before == nil:
		text.PrintRows(out, []text.Row{
			{"hsm-a", fmt.Sprintf("new token with %d keys", len(keys))},
			{"hsm-b", "new token with the same keys, " + took},
		})
	case len(keys) > 0:
		text.PrintRows(
			out,
			[]text.Row{
				{
					"tokens",
					fmt.Sprintf(
						"hsm-a and hsm-b from the last run, with %d more keys on both, %s",
						len(keys),
						took,
					),
				},
			},
		)
	default:
		text.PrintRows(
			out,
			[]text.Row{{"tokens", "hsm-a and hsm-b from the last run, with the same keys"}},
		)
	}
	return nil
}

// firstJoined is one sentence where both tokens failed for one reason, as they mostly do.
func firstJoined(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	return firstJoined(joined.Unwrap()[0])
}

// missingKeys are the keys to make, each with a value that exists in the memory of
// this process only until both tokens have it.
func (p plan) missingKeys() ([]tokenKey, error) {
	const both = hsm.CanEncrypt | hsm.CanDecrypt
	var keys []tokenKey
	add := func(label string, version uint32, usage hsm.Usage) {
		keys = append(
			keys,
			tokenKey{
				Label:   label,
				Version: version,
				Usage:   usage,
				Value:   make([]byte, hsm.KeySize),
			},
		)
	}
	first := 1
	if p.before != nil {
		first = len(p.before.Keys) + 1
	} else {
		add(demoTestKey, 1, both)
		for _, special := range demoSpecialKeys {
			add(special.label, 1, special.usage)
		}
		add(demoKey(1), 2, both) // a key that was rotated once
	}
	for n := first; n <= p.keys; n++ {
		add(demoKey(n), 1, both)
	}
	for _, k := range keys {
		_, err := rand.Read(k.Value)
		if err != nil {
			return nil, fmt.Errorf("no random bytes for keys: %w", err)
		}
	}
	return keys, nil
}

func demoKey(n int) string { return fmt.Sprintf("demo-key-%d", n) }

// makeToken makes the token of h if the directory is new, and puts keys on it.
func (p plan) makeToken(ctx context.Context, h demoHSM, keys []tokenKey) error {
	err := h.makeDirectory() // also for an old token: the paths change when the demo is moved
	if err != nil {
		return err
	}
	order := tokenOrder{Module: p.module, Label: h.name, Keys: keys}
	if p.before == nil {
		order.PIN, order.SOPIN = pkcs11.Secret(rand.Text()), pkcs11.Secret(rand.Text())
		err := errors.Join(
			writePrivate(h.pin(), []byte(order.PIN+"\n")),
			writePrivate(h.soPIN(), []byte(order.SOPIN+"\n")),
		)
		if err != nil {
			return err
		}
		return makeStagedToken(ctx, h, order)
	}
	if len(keys) == 0 {
		return nil
	}
	pin, err := secret.Ref{File: h.pin()}.Read(ctx, "")
	if err != nil {
		return fmt.Errorf("the PIN of %s: %w", h.name, err)
	}
	order.PIN = pkcs11.Secret(pin.Reveal())
	return makeToken(ctx, h, order)
}

// credential is the earlier one, or a fresh one.
func (p plan) credential() (sigv4.Credential, error) {
	if p.before != nil {
		return sigv4.Credential{
			AccessKeyID:     p.before.Credential.AccessKeyID,
			SecretAccessKey: p.before.Credential.SecretAccessKey,
		}, nil
	}
	credential, err := sigv4.GenerateCredential()
	if err != nil {
		return sigv4.Credential{}, err
	}
	return credential, writePrivate(p.dir.secret(), []byte(credential.SecretAccessKey+"\n"))
}

// connection describes what will be served.
func (p plan) connection(credential sigv4.Credential) *xksclient.ConnectionFile {
	c := &xksclient.ConnectionFile{
		Endpoint: endpointOf(p.at.listen), URIPath: xks.URIPath(demoPathPrefix),
		Credential: xksclient.ConnectionSecret{
			AccessKeyID:     credential.AccessKeyID,
			SecretAccessKey: credential.SecretAccessKey,
		},
		Region: xksclient.DefaultRegion, CACertificate: p.dir.ca(), SpecialKeys: map[string]string{},
		Listen: p.at.listen, Health: p.at.health,
	}
	for n := range p.keys {
		c.Keys = append(c.Keys, demoKey(n+1))
	}
	for _, special := range demoSpecialKeys {
		c.SpecialKeys[special.name] = special.label
	}
	for _, h := range p.dir.hsms() {
		c.HSMs = append(
			c.HSMs,
			xksclient.ConnectionHSM{
				Name:         h.name,
				Module:       p.module,
				Token:        h.name,
				SoftHSM2Conf: h.conf(),
				PINFile:      h.pin(),
			},
		)
	}
	return c
}

// writeFiles writes connection.json and xks-proxy.yaml. If nothing about the demo
// has changed they stay as they are, with what the user has edited in them.
func (p plan) writeFiles(to *xksclient.ConnectionFile) (string, error) {
	_, statErr := os.Stat(p.dir.config())
	if statErr == nil && p.before != nil && reflect.DeepEqual(p.before, to) {
		return " (unchanged)", nil
	}
	text, err := demoConfig(p, to)
	if err != nil {
		return "", err
	}
	err = writePrivate(p.dir.config(), text)
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(to, "", "  ")
	if err != nil {
		return "", fmt.Errorf("connection.json cannot be written: %w", err)
	}
	defer clear(data)
	return "", writePrivate(p.dir.connection(), append(data, '\n'))
}

func seconds(d time.Duration) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
}
