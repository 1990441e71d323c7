package test

// What goes wrong with one key, and what comes of a flood of bad ciphertexts, takes no HSM out of
// service (R7).

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/test/faulty"
)

// blamesAnHSM finds a line of the log that holds something against an HSM.
func blamesAnHSM(line string) bool {
	return containsAny(line, "HSM suspected", "taken out of service", `"to":"DEGRADED"`,
		`"to":"UNAVAILABLE"`, "will be started again")
}

// TestKeyThatBothHSMsRefuse: before, 30 such requests a second took both HSMs out, and each of them
// was InternalException after 10 attempts.
func TestKeyThatBothHSMsRefuse(t *testing.T) {
	t.Parallel()
	var controls []*faulty.Control
	var keys []pkcs11.NewKey // another for each code: a group remembers what it refused
	for i := range 5 {
		keys = append(keys, newKey(fmt.Sprint("odd-", i), 1))
	}
	p := newProxy(t, func(s *settings) { controls = s.misbehave(t) }, keys...)
	c := p.client(t, http1)
	for i, test := range []struct {
		code   hsm.CKR
		status int
		error  string
	}{
		{0x70, http.StatusBadRequest, "InvalidKeyUsageException"},
		{0x1B, http.StatusBadRequest, "InvalidKeyUsageException"},
		{0x80000115, http.StatusBadRequest, "InvalidKeyUsageException"},
		{0x30, http.StatusInternalServerError, "InternalException"},
		{0x6, http.StatusInternalServerError, "InternalException"},
	} {
		label := fmt.Sprint("odd-", i)
		var before uint64
		for _, control := range controls {
			err := control.Set(faulty.Rule{Function: "C_EncryptInit", Action: faulty.Return,
				Code: test.code, Label: label})
			if err != nil {
				t.Fatal(err)
			}
			before += control.Injected()
		}
		l := p.startLoad(t, http1, 100, 4)
		start := time.Now()
		for time.Since(start) < 2*time.Second {
			r := c.post(t, encryptURI(label), encryptBody([]byte("x"), nil))
			r.wantError(t, test.status, test.error)
			time.Sleep(time.Second / 60)
		}
		l.wantNoFailure(t, 50)
		l.end()
		after := -before
		for _, control := range controls {
			after += control.Injected()
		}
		t.Logf("%s: the HSMs refused %d calls in 2 s", test.code, after)
		if after == 0 || after > 200 {
			t.Errorf("%s: the HSMs refused %d calls", test.code, after)
		}
	}
	if line := p.log.find(blamesAnHSM); line != "" {
		t.Errorf("an HSM is blamed: %s", line)
	}
	for _, control := range controls {
		control.Clear()
	}
	p.wantHealthy(t)
}

// TestTamperedBehindP11Kit: 32 tampered ciphertexts of 4 KiB at a time. Before, such a flood took a
// member behind p11-kit out of service three times, because each of them cost a new session.
func TestTamperedBehindP11Kit(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.behindP11Kit(t, "hsm-a")
	})
	p.waitActive(t, "hsm-a", "hsm-b")
	c := p.client(t, http1)
	made := c.encrypt(t, "key-1", encryptBody(randomBytes(4096), []byte("aad")))
	l := p.startLoad(t, http1, 50, 4)
	start := time.Now()
	var found, others sync.Map
	var clients sync.WaitGroup
	for n := range 32 {
		clients.Go(func() {
			for i := 0; time.Since(start) < 4*time.Second; i++ {
				bad := *made
				bad.AuthenticationTag = flipped(made.AuthenticationTag, (n+i)%128)
				body := encode(decryptBody(&bad, []byte("aad")))
				r, err := c.do(t.Context(), c.call(decryptURI("key-1"), body))
				switch {
				case err != nil:
					t.Error(err)
				case strings.Contains(string(r.body), "InvalidCiphertextException"):
					found.Store([2]int{n, i}, true)
				default:
					others.Store([2]int{n, i}, string(r.body))
				}
			}
		})
	}
	clients.Wait()
	l.wantNoFailure(t, 50)
	l.end()
	count := func(m *sync.Map) int {
		n := 0
		m.Range(func(any, any) bool { n++; return true })
		return n
	}
	t.Logf("%d tampered ciphertexts were found, %d were not", count(&found), count(&others))
	// On a busy machine some proofs have no time.
	if count(&found) < 100 || count(&others) > count(&found)/20 {
		t.Errorf("of %d tampered ciphertexts %d were not found", count(&found)+count(&others), count(&others))
	}
	if line := p.log.find(blamesAnHSM); line != "" {
		t.Errorf("an HSM is blamed: %s", line)
	}
	p.wantHealthy(t)
}
