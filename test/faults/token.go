package main

// Work on a token that goes around the proxy: keys made and deleted, ciphertexts decrypted. A module
// keeps one configuration for each process, so that each job is done by a child: this program again.

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const tokenJobCommand = "token-job"

// device is one HSM: a token behind a faulty module.
type device struct {
	Name   string
	Module string // the plain module, SoftHSM's or a vendor's
	Direct string // the module for work around the proxy; "": Module
	PIN    string
	Conf   string   // what SOFTHSM2_CONF names
	More   []string // NAME=value, of a vendor's module
}

// tokens is the directory that holds the token.
func (d *device) tokens() string { return filepath.Join(filepath.Dir(d.Conf), "tokens") }

func (d *device) environment() []string {
	return append([]string{"SOFTHSM2_CONF=" + d.Conf}, d.More...)
}

// tokenJob is what a child does, in this order.
type tokenJob struct {
	Device  device
	Create  []pkcs11.NewKey
	Destroy []hsm.KeyRef
	Decrypt []*record // each must decrypt to its plaintext
}

// tokenResult is what became of Decrypt.
type tokenResult struct {
	Wrong int
	First string // what was wrong with the first
}

// do has a child do the job.
func (d *device) do(job tokenJob) (tokenResult, error) {
	job.Device = *d
	input, err := json.Marshal(job)
	if err != nil {
		return tokenResult{}, fmt.Errorf("token %s: %w", d.Name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, "/proc/self/exe", tokenJobCommand)
	child.Env = append(os.Environ(), d.environment()...)
	child.Stdin = bytes.NewReader(input)
	var output, said bytes.Buffer
	child.Stdout, child.Stderr = &output, &said
	err = child.Run()
	if err != nil {
		return tokenResult{}, fmt.Errorf("token %s: %w: %s", d.Name, err, strings.TrimSpace(said.String()))
	}
	var result tokenResult
	err = json.Unmarshal(output.Bytes(), &result)
	if err != nil {
		return tokenResult{}, fmt.Errorf("token %s: the child's answer: %w", d.Name, err)
	}
	return result, nil
}

// tokenJobChild is the child's side.
func tokenJobChild(in io.Reader, out io.Writer) error {
	var job tokenJob
	err := json.NewDecoder(in).Decode(&job)
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d := job.Device
	if d.Direct != "" {
		d.Module = d.Direct
	}
	token, err := pkcs11.Open(ctx, pkcs11.Config{Module: d.Module, Token: d.Name,
		PIN: pkcs11.Secret(d.PIN), Sessions: 1, Profile: "softhsm"})
	if err != nil {
		return err
	}
	defer func() { _ = token.Close(ctx) }() // the process ends anyway
	for _, key := range job.Destroy {
		err := token.DestroyKey(ctx, key.Label, key.Version)
		if err != nil {
			return err
		}
	}
	if len(job.Create) > 0 {
		err := token.CreateKeys(ctx, job.Create)
		if err != nil {
			return err
		}
	}
	var result tokenResult
	for _, r := range job.Decrypt {
		plaintext, err := token.Decrypt(ctx, hsm.KeyRef{Label: keyLabels[r.Key], Version: r.version()}, r.framedAAD(),
			hsm.Sealed{IV: r.IV, Ciphertext: r.Ciphertext, Tag: r.Tag})
		if err == nil && bytes.Equal(plaintext, r.Plaintext) {
			continue
		}
		result.Wrong++
		if result.First == "" {
			result.First = fmt.Sprintf("%s does not decrypt a ciphertext of %s, version %d: %v", d.Name, keyLabels[r.Key], r.version(), err)
		}
	}
	return json.NewEncoder(out).Encode(result)
}

// version is the key version in the metadata: one byte of format, then four, big-endian.
func (r *record) version() uint32 {
	if len(r.Metadata) != 5 {
		return 0
	}
	return binary.BigEndian.Uint32(r.Metadata[1:])
}

// framedAAD is what the HSM authenticates (requirement E3).
func (r *record) framedAAD() []byte {
	aad := aadOf(r.AAD)
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(aad)))
	framed = append(framed, aad...)
	framed = append(framed, byte(len(r.Metadata)))
	return append(framed, r.Metadata...)
}
