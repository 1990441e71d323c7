package pkcs11

// Making tokens and keys: for the demo, for tests, and for operators' commands.

import (
	"context"
	"fmt"
	"time"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// NewKey is an AES key to be made on a token: a private, sensitive, non-extractable
// token object (PKCS#11 2.40 section 4.4 and following).
type NewKey struct {
	Label      string
	Version    uint32    // written as CKA_ID if HasVersion; otherwise there is no CKA_ID, which means version 0
	HasVersion bool      //
	ID         []byte    // CKA_ID as given, instead of Version; nil: see Version
	Value      []byte    // 16, 24 or 32 bytes to import; nil: the token generates the key
	Usage      hsm.Usage // 0: encrypt and decrypt
	Bits       int       // of a generated key: 128, 192 or 256; 0: 256
}

// InitToken initialises a free slot of the module: C_InitToken with the label and the
// security officer's PIN, then C_InitPIN with the user's. A label that the module
// already shows is refused, since tokens are found by label. It is not for a module
// that the same process serves from: the login as security officer is the process's.
func InitToken(modulePath, label, soPIN, pin string) error {
	m, err := acquireModule(modulePath)
	if err != nil {
		return err
	}
	defer m.release(true)
	if label == "" || len(label) > MaxLabel {
		return &hsm.Error{Op: "make token", Kind: hsm.ErrTokenNotFound, Detail: fmt.Sprintf("label %q: a token label has 1 to %d bytes", label, MaxLabel)}
	}
	slot, err := freeSlot(m, label)
	if err != nil {
		return err
	}
	err = m.ctx.InitToken(slot, soPIN, label)
	if err != nil {
		return unavailable("make token", "C_InitToken", err)
	}
	session, err := m.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return unavailable("make token", "C_OpenSession", err)
	}
	defer func() { _ = m.ctx.CloseSession(session) }()
	err = m.ctx.Login(session, p11.CKU_SO, soPIN)
	if err != nil {
		return unavailable("make token", "C_Login", err)
	}
	defer func() { _ = m.ctx.Logout(session) }()
	err = m.ctx.InitPIN(session, pin)
	if err != nil {
		return unavailable("make token", "C_InitPIN", err)
	}
	return nil
}

// freeSlot gives a slot whose token is not initialised.
func freeSlot(m *module, label string) (uint, error) {
	ids, err := m.slots()
	if err != nil {
		return 0, unavailable("make token", "C_GetSlotList", err)
	}
	free, found := uint(0), false
	for _, id := range ids {
		info, err := m.ctx.GetTokenInfo(id)
		switch {
		case err != nil:
		case info.Flags&p11.CKF_TOKEN_INITIALIZED == 0:
			free, found = id, true
		case trim(info.Label) == label:
			return 0, &hsm.Error{Op: "make token", Kind: hsm.ErrTokenNotFound,
				Detail: fmt.Sprintf("a token with label %q (serial %s) is already there", label, trim(info.SerialNumber))}
		}
	}
	if !found {
		return 0, &hsm.Error{Op: "make token", Kind: hsm.ErrTokenNotFound, Detail: "no slot holds a token that is not initialised yet"}
	}
	return free, nil
}

// CreateKeys makes the keys, in order. A label and version that is already on the
// token, or twice in keys, is refused with ErrDuplicateKey before any key is made. After
// another error the keys before the failed one exist.
func (t *Token) CreateKeys(ctx context.Context, keys []NewKey) error {
	const op = "create keys"
	for _, key := range keys {
		err := key.validate()
		if err != nil {
			return &hsm.Error{Op: op, Kind: hsm.ErrKeyUsage, Detail: err.Error()}
		}
	}
	err := t.refuseTaken(ctx, keys)
	if err != nil {
		return named(op, err)
	}
	err = t.withReadWrite(ctx, func(session p11.SessionHandle) error {
		for _, key := range keys {
			if ctx.Err() != nil {
				return timeout(op, ctx)
			}
			_, err := t.createKey(session, key)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return named(op, err)
	}
	_, err = t.listAll(ctx)
	if err != nil {
		return named(op, err)
	}
	return nil
}

// loneKeyPause is between making a key and looking whether it is alone: a token does not show every
// program at once what another has made.
const loneKeyPause = 300 * time.Millisecond

// CreateLoneKey makes a key that has to be the only one of its label, where several programs may do
// so at the same moment. If the label has another key afterwards, the one that was made is destroyed
// again. Then, or if the version is there already, the error is ErrDuplicateKey: look again after a
// random time, because every one of these programs may have done the same.
func (t *Token) CreateLoneKey(ctx context.Context, key NewKey) error {
	const op = "create key"
	err := key.validate()
	if err != nil {
		return &hsm.Error{Op: op, Kind: hsm.ErrKeyUsage, Detail: err.Error()}
	}
	err = t.refuseTaken(ctx, []NewKey{key})
	if err != nil {
		return named(op, err)
	}
	var made p11.ObjectHandle
	err = t.withReadWrite(ctx, func(session p11.SessionHandle) error {
		made, err = t.createKey(session, key)
		return err
	})
	if err != nil {
		return named(op, err)
	}
	select {
	case <-time.After(loneKeyPause):
	case <-ctx.Done():
		return named(op, ctx.Err())
	}
	found, err := t.Find(ctx, key.Label)
	if err != nil || len(found) <= 1 {
		return err
	}
	err = t.withReadWrite(ctx, func(session p11.SessionHandle) error {
		err := t.module.ctx.DestroyObject(session, made)
		if err != nil {
			e := unavailable(op, "C_DestroyObject", err)
			e.Detail = fmt.Sprintf("there are %d keys %q: delete all but one", len(found), key.Label)
			return e
		}
		return nil
	})
	if err != nil {
		return named(op, err)
	}
	return &hsm.Error{Op: op, Kind: hsm.ErrDuplicateKey, Detail: fmt.Sprintf(
		"another program made a key %q at the same moment; this one was destroyed again", key.Label)}
}

func (k NewKey) validate() error {
	if k.Label == "" {
		return fmt.Errorf("a key without a label cannot be found")
	}
	switch bits := k.bits(); bits {
	case 128, 192, 256:
		return nil
	default:
		return fmt.Errorf("key %q: AES has no keys of %d bits", k.Label, bits)
	}
}

func (k NewKey) bits() int {
	switch {
	case k.Value != nil:
		return len(k.Value) * 8
	case k.Bits == 0:
		return hsm.KeySize * 8
	default:
		return k.Bits
	}
}

// id is the CKA_ID; nil: none.
func (k NewKey) id() []byte {
	if k.ID == nil && k.HasVersion {
		return hsm.VersionID(k.Version)
	}
	return k.ID
}

func (k NewKey) ref(rule hsm.VersionRule) hsm.KeyRef {
	return hsm.KeyRef{Label: k.Label, Version: hsm.Object{ID: k.id()}.ReadBy(rule).Version()}
}

// refuseTaken looks at the token now, not at the table.
func (t *Token) refuseTaken(ctx context.Context, keys []NewKey) error {
	found, err := t.listAll(ctx)
	if err != nil {
		return err
	}
	taken := make(map[hsm.KeyRef]bool, len(found)+len(keys))
	for _, one := range found {
		taken[hsm.KeyRef{Label: one.object.Label, Version: one.object.ReadBy(t.keys.rule).Version()}] = true
	}
	for _, key := range keys {
		ref := key.ref(t.keys.rule)
		if taken[ref] {
			return &hsm.Error{Kind: hsm.ErrDuplicateKey, Detail: fmt.Sprintf("label %q, version %d is already there or asked for twice; no key was made", ref.Label, ref.Version)}
		}
		taken[ref] = true
	}
	return nil
}

func (t *Token) createKey(session p11.SessionHandle, key NewKey) (p11.ObjectHandle, error) {
	template := key.template(t.config.UserType.logsIn())
	if key.Value != nil {
		template = append(template, p11.NewAttribute(p11.CKA_VALUE, key.Value))
		handle, err := t.module.ctx.CreateObject(session, template)
		if err != nil {
			return 0, keyFailure(key, "C_CreateObject", err)
		}
		return handle, nil
	}
	template = append(template, p11.NewAttribute(p11.CKA_VALUE_LEN, key.bits()/8))
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}
	handle, err := t.module.ctx.GenerateKey(session, mechanism, template)
	if err != nil {
		return 0, keyFailure(key, "C_GenerateKey", err)
	}
	return handle, nil
}

func keyFailure(key NewKey, function string, err error) error {
	e := unavailable("create keys", function, err)
	e.Detail = fmt.Sprintf("key %q", key.Label)
	return e
}

// template is for C_GenerateKey. A key is private, so that nobody uses it without a login, where
// there is a login.
func (k NewKey) template(private bool) []*p11.Attribute {
	usage := k.Usage
	if usage == 0 {
		usage = hsm.CanEncrypt | hsm.CanDecrypt
	}
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_LABEL, k.Label),
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_PRIVATE, private),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
	}
	if id := k.id(); id != nil {
		template = append(template, p11.NewAttribute(p11.CKA_ID, id))
	}
	// Said both ways: what a token takes for granted about usage is its own.
	for _, attribute := range described[hsm.SecretKey] {
		bit, ok := usages[attribute]
		if ok && attribute != p11.CKA_DERIVE {
			template = append(template, p11.NewAttribute(attribute, usage&bit != 0))
		}
	}
	return template
}

// DestroyKey deletes the secret key with that label and version from the token. It
// is final. Errors: ErrKeyNotFound; ErrDuplicateKey if there are two, and none is deleted.
func (t *Token) DestroyKey(ctx context.Context, label string, version uint32) error {
	const op = "destroy key"
	found, err := t.find(ctx, label)
	if err != nil {
		return named(op, err)
	}
	e, ok := found.versions[version]
	switch {
	case !ok || e.object.Class != hsm.SecretKey:
		return &hsm.Error{Op: op, Kind: hsm.ErrKeyNotFound, Detail: fmt.Sprintf("label %q, version %d", label, version)}
	case len(e.twins) > 0:
		return &hsm.Error{Op: op, Kind: hsm.ErrDuplicateKey, Detail: describeTwins(e.twins)}
	}
	err = t.withReadWrite(ctx, func(session p11.SessionHandle) error {
		err := t.module.ctx.DestroyObject(session, p11.ObjectHandle(e.handle))
		if err != nil {
			return unavailable(op, "C_DestroyObject", err)
		}
		return nil
	})
	if err != nil {
		return named(op, err)
	}
	t.keys.forget(hsm.KeyRef{Label: label, Version: version}, e.handle)
	return nil
}

// withReadWrite runs do on a read-write session. It borrows a place among the
// sessions that list, so that Close waits for it. A token that has no more sessions gives one that is
// read-only back for it.
func (t *Token) withReadWrite(ctx context.Context, do func(p11.SessionHandle) error) error {
	select {
	case <-t.prepared: // SoftHSM was seen to refuse a new key while another session searches
	case <-ctx.Done():
		return timeout("open session", ctx)
	}
	s, err := t.admin.get(ctx)
	if err != nil {
		return err
	}
	const flags = p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION
	session, err := t.module.ctx.OpenSession(t.slot, flags)
	if err == nil {
		defer t.admin.put(s)
	} else {
		t.admin.drop(s)
		session, err = t.module.ctx.OpenSession(t.slot, flags)
	}
	if err != nil {
		return unavailable("open session", "C_OpenSession", err)
	}
	defer func() { _ = t.module.ctx.CloseSession(session) }()
	return do(session)
}
