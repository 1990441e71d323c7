package xks

// The kill switch (requirement X5): in effect for the next request, and for answers that have not
// left.

import (
	"context"
	"strings"
	"sync"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// onEncrypts runs before the HSMs' Encrypts with the good key.
func onEncrypts(f func()) hsmtest.Hook { return onRequests(hsmtest.OpEncrypt, f) }

func onRequests(op hsmtest.Op, f func()) hsmtest.Hook {
	return func(_ context.Context, o hsmtest.Op, ref hsm.KeyRef) error {
		if o == op && ref.Label == goodKey {
			f()
		}
		return nil
	}
}

func TestKillSwitchForAKeyStore(t *testing.T) {
	r := newRig(t, withOther)
	sealed := encryptGood(r).decryptFields()
	all := map[string]func() reply{
		"health": r.health, "metadata": func() reply { return r.metadata(goodKey) }, "metadata of no key": func() reply { return r.metadata("no-such-key") },
		"encrypt": func() reply { return encryptGood(r) }, "decrypt": func() reply { return r.decrypt(goodKey, sealed) },
	}
	r.handler.SetBlocks(Blocks{KeyStores: map[string]bool{"store-one": true}})
	for name, ask := range all {
		ask().want(t, invalidState)
		if reason, _ := r.lastLine()["reason"].(string); !strings.Contains(reason, "kill switch") {
			t.Errorf("%s: the reason is %q", name, reason)
		}
	}
	r.otherEncrypt().wantOK(t)
	if !r.status("store-one").Blocked || r.status("store-two").Blocked {
		t.Error("the status does not say which key store is blocked")
	}
	if err := r.handler.Replace(r.config); err != nil {
		t.Fatal(err)
	}
	encryptGood(r).want(t, invalidState) // a reload unblocks nothing
	r.handler.SetBlocks(Blocks{})
	for _, ask := range all {
		if name := ask().errorName(t); name == invalidState {
			t.Error("it is still blocked")
		}
	}
}

func TestKillSwitchForAKey(t *testing.T) {
	for name, key := range map[string]BlockedKey{"of a key store": {"store-one", goodKey}, "everywhere": {"", goodKey}} {
		r := newRig(t, withOther)
		sealed := encryptGood(r).decryptFields()
		r.handler.SetBlocks(Blocks{Keys: map[BlockedKey]bool{key: true}})
		encryptGood(r).want(t, invalidState)
		r.decrypt(goodKey, sealed).want(t, invalidState)
		if reason, _ := r.lastLine()["reason"].(string); !strings.Contains(reason, "kill switch") {
			t.Errorf("%s: the reason is %q", name, reason)
		}
		p := r.metadata(goodKey)
		p.wantOK(t)
		if status := p.fields(t)["keyStatus"]; status != statusDisabled {
			t.Errorf("%s: keyStatus %v", name, status)
		}
		r.encrypt("wraps-too", encryptFields(nil)).wantOK(t)
		if p := r.otherEncrypt(); (p.errorName(t) == invalidState) != (key.KeyStore == "") {
			t.Errorf("%s: in the other key store %s", name, p.body)
		}
	}
}

// A key that is blocked by its label is blocked under every external key id that leads to it.
func TestKillSwitchByLabel(t *testing.T) {
	r := newRig(t, func(c *Config, _ *group.Config) { c.KeyStores[0].Label = "key-{key_id}" })
	r.handler.SetBlocks(Blocks{Keys: map[BlockedKey]bool{{"", goodKey}: true}})
	r.encrypt("1", encryptFields(nil)).want(t, invalidState)
	r.handler.SetBlocks(Blocks{Keys: map[BlockedKey]bool{{"store-one", "1"}: true}})
	r.encrypt("1", encryptFields(nil)).want(t, invalidState)
	r.handler.SetBlocks(Blocks{Keys: map[BlockedKey]bool{{"store-one", goodKey}: true}})
	r.encrypt("1", encryptFields(nil)).wantOK(t) // goodKey is not a key id of this key store
}

// A key store is blocked by its path, too, whatever its name is: a reload may be changing it.
func TestKillSwitchByPath(t *testing.T) {
	r := newRig(t)
	path := r.handler.KeyStores()[0].URIPath
	for _, b := range []Blocks{
		{KeyStores: map[string]bool{path: true}},
		{Keys: map[BlockedKey]bool{{path, goodKey}: true}},
	} {
		r.handler.SetBlocks(b)
		r.encrypt(goodKey, encryptFields(nil)).want(t, invalidState)
		if p := r.otherEncrypt(); p.errorName(t) == invalidState {
			t.Errorf("in the other key store %s", p.body)
		}
	}
	r.handler.SetBlocks(Blocks{KeyStores: map[string]bool{path + "/more": true}})
	r.encrypt(goodKey, encryptFields(nil)).wantOK(t)
}

// A block that comes while an HSM is at work: the answer does not leave.
func TestKillSwitchWhileAnHSMWorks(t *testing.T) {
	for name, b := range map[string]Blocks{
		"key store": {KeyStores: map[string]bool{"store-one": true}}, "key": {Keys: map[BlockedKey]bool{{"store-one", goodKey}: true}},
	} {
		r := newRig(t)
		plaintext := "to be kept"
		sealed := r.encrypt(goodKey, encryptFields([]byte(plaintext))).decryptFields()
		for op, ask := range map[hsmtest.Op]func() reply{
			hsmtest.OpEncrypt: func() reply { return encryptGood(r) }, hsmtest.OpDecrypt: func() reply { return r.decrypt(goodKey, sealed) },
		} {
			r.handler.SetBlocks(Blocks{})
			entered, release := make(chan struct{}, 10), make(chan struct{})
			r.setHooks(onRequests(op, func() { entered <- struct{}{}; <-release }))
			var asking sync.WaitGroup
			asking.Go(func() {
				p := ask()
				p.want(t, invalidState)
				if strings.Contains(string(p.body), b64([]byte(plaintext))) {
					t.Errorf("%s, %s: the plaintext left", name, op)
				}
			})
			<-entered
			r.handler.SetBlocks(b)
			close(release)
			asking.Wait()
			if calls := r.lastLine()["attempts"]; calls == nil {
				t.Errorf("%s, %s: no HSM was asked: %v", name, op, r.lastLine())
			}
			r.setHooks(nil)
		}
	}
}
