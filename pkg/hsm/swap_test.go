package hsm_test

// A token that is replaced while calls are under way (requirements D2 and R6).

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
)

// TestReplacedDuringDecrypt: the new token refuses a good ciphertext in the call during which it
// came. What was known of the old token's keys is no proof.
func TestReplacedDuringDecrypt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w, labels, sealed := replaced(t, 1, priorities(0, 1))
		key := hsm.KeyRef{Label: labels[0], Version: 1}
		other := newToken("a")
		otherMaterial(other, labels[0], 1)
		old := w.Token.(*hsmtest.Token)
		old.SetHook(on(hsmtest.OpDecrypt, func(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
			old.SetHook(nil)
			w.swap(other, "another")
			_, err := other.Decrypt(ctx, key, aad, sealed[labels[0]])
			return err
		}))
		plaintext, trace, err := g.Decrypt(inBudget(t), key, aad, sealed[labels[0]])
		if err != nil || !bytes.Equal(plaintext, text) || trace.HSM != "b" {
			t.Errorf("%q by %q, %v", plaintext, trace.HSM, err)
		}
	})
}
