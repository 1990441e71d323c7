package test

// A token that was replaced under the same label: another serial number, the same key labels, other
// key values, as after a wrong restore or with swapped partitions (requirements D2, R6).

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/pkcs11"
)

const replacedKeys = 100

// replace destroys a token and makes another of the same label and PIN with these keys.
func (k *token) replace(t testing.TB, keys ...pkcs11.NewKey) {
	t.Helper()
	entries, err := os.ReadDir(k.Tokens)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		err := os.RemoveAll(k.Tokens + "/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
	}
	k.Fresh = true
	k.create(t, keys...)
	k.Fresh = false
}

func manyKeys() []pkcs11.NewKey {
	var keys []pkcs11.NewKey
	for i := range replacedKeys {
		keys = append(keys, newKey(fmt.Sprintf("many-%03d", i), 1))
	}
	return keys
}

// kill ends the process of an HSM and waits for the next one.
func (p *proxy) killWorker(t testing.TB, hsm string) {
	t.Helper()
	pid := p.worker(t, hsm)
	err := syscall.Kill(pid, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
}

// TestTokenReplaced: before, 1,391 of 9,000 decrypts of good ciphertexts were called invalid.
func TestTokenReplaced(t *testing.T) {
	t.Parallel()
	keys := manyKeys()
	p := newProxy(t, (*settings).withSomeLeisure, keys...)
	c := p.client(t, http1)
	plaintext := []byte("made before the token was replaced")
	made := make([]*sealed, len(keys))
	for i, key := range keys {
		made[i] = c.encrypt(t, key.Label, encryptBody(plaintext, nil))
	}
	wrong := []pkcs11.NewKey{newKey(testKey, 1)}
	for _, key := range keys {
		wrong = append(wrong, newKey(key.Label, 1))
	}
	p.world.B.replace(t, wrong...)
	p.killWorker(t, "hsm-b")

	var failures atomic.Pointer[string]
	var sent, failed atomic.Int32
	var clients sync.WaitGroup
	for worker := range 4 {
		clients.Go(func() {
			for i := range 9000 / 4 {
				n := (i*4 + worker) % len(keys)
				r, err := c.do(t.Context(), c.call(decryptURI(keys[n].Label), encode(decryptBody(made[n], nil))))
				sent.Add(1)
				var answer struct{ Plaintext []byte }
				if err == nil && r.status == http.StatusOK && decodeInto(r.body, &answer) == nil && bytes.Equal(answer.Plaintext, plaintext) {
					continue
				}
				failed.Add(1)
				text := fmt.Sprint(err)
				if err == nil {
					text = fmt.Sprintf("%d %s", r.status, r.body)
				}
				failures.Store(&text)
			}
		})
	}
	clients.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d decrypts of good ciphertexts failed, such as: %s", n, sent.Load(), *failures.Load())
	}
	p.log.wait(t, catalogueLimit, p.Exited(), func(line string) bool {
		return strings.Contains(line, "its token was replaced") && strings.Contains(line, `"hsm":"hsm-b"`)
	})
	// The right keys come back: it serves them all again.
	p.world.B.replace(t, append([]pkcs11.NewKey{newKey(testKey, 1)}, keys...)...)
	p.killWorker(t, "hsm-b")
	p.log.wait(t, time.Minute, p.Exited(), func(line string) bool {
		return strings.Contains(line, "serves all of them again")
	})
	for i, key := range keys {
		got := c.decrypt(t, key.Label, made[i], nil)
		if !bytes.Equal(got, plaintext) {
			t.Fatalf("%s: %q", key.Label, got)
		}
	}
}
