package test

// HSMs that answer CKR_FUNCTION_FAILED to a share of all calls, as CloudHSM does when it is
// throttled. SoftHSM's own word for a bad ciphertext, CKR_GENERAL_ERROR, is no clearer. No good
// ciphertext may be called invalid, because AWS KMS believes that forever (requirement D2).

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"xks-proxy/test/faulty"
)

var busyDecrypts = flag.Int("busy-decrypts", 2000, "decrypts of good ciphertexts for each row of TestBusyHSMs")

// busyClients is how many connections ask at once.
const busyClients = 16

// TestBusyHSMs: `make busy` asks for 100,000 decrypts in each row.
func TestBusyHSMs(t *testing.T) {
	for _, hsms := range []int{2, 1} {
		for _, percent := range []int{10, 30, 50} {
			t.Run(fmt.Sprintf("%d HSMs, %d %% busy", hsms, percent), func(t *testing.T) {
				var controls []*faulty.Control
				p := newProxy(t, func(s *settings) {
					s.withoutLeisure()
					if hsms == 1 {
						s.HSMs = s.HSMs[:1]
						s.Group["hsms"] = []object{{"hsm": s.HSMs[0]["name"]}}
					}
					controls = s.misbehave(t)
				})
				c := p.client(t, http1)
				good := c.encrypt(t, "key-1", encryptBody([]byte("good"), nil))
				for _, control := range controls {
					err := control.Set(faulty.Rule{
						Function: faulty.Crypto, Action: faulty.Return, Code: 0x6, PerMillion: uint32(percent) * 10_000,
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				invalid, failed := p.decryptMany(t, c, good, *busyDecrypts)
				t.Logf("%d decrypts: %d called invalid, %d failed", *busyDecrypts, invalid, failed)
				if invalid > 0 {
					t.Errorf("%d of %d good ciphertexts were called invalid", invalid, *busyDecrypts)
				}
				// Where half of all calls are refused, three of four operations fail, the probes
				// too: in the long run both HSMs go out, and the answer is one that KMS retries.
				if percent <= 30 && failed*1000 > *busyDecrypts*percent {
					t.Errorf("%d of %d requests failed", failed, *busyDecrypts)
				}
			})
		}
	}
}

// decryptMany decrypts one good ciphertext again and again. It gives how many answers called it
// invalid, and how many were other errors.
func (p *proxy) decryptMany(t *testing.T, c *client, good *sealed, count int) (int, int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var left, invalid, failed atomic.Int64
	left.Store(int64(count))
	body := encode(decryptBody(good, nil))
	var clients sync.WaitGroup
	for range busyClients {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				r, err := c.do(ctx, c.call(decryptURI("key-1"), body))
				switch {
				case err != nil:
					failed.Add(1)
				case strings.Contains(string(r.body), "InvalidCiphertextException"):
					invalid.Add(1)
				case r.status != http.StatusOK:
					failed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	return int(invalid.Load()), int(failed.Load())
}
