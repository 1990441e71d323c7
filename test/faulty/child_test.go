package faulty_test

// The process that has the module: this test binary again, which does what the lines on its standard
// input say. The test steers the module from outside, as it is meant to be.

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const (
	childVariable = "FAULTY_TEST_CHILD" // the module's path
	label         = "faulty-test"
	pin           = "271828"
)

// user is who uses the module: one token, one session, one key.
type user struct {
	module  string
	p       *p11.Ctx
	slot    uint
	session p11.SessionHandle
	key     p11.ObjectHandle
}

// runChild answers every line with "ok", "ok DETAIL", or "FUNCTION 0xCODE".
func runChild(module string) int {
	u := &user{module: module}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		fmt.Println(u.answer(words[0], words[1:]))
	}
	return 0
}

func (u *user) answer(job string, args []string) string {
	detail, err := u.do(job, args)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace("ok " + detail)
}

// called names the function in an error.
func called(function string, err error) error {
	var code p11.Error
	if errors.As(err, &code) {
		return fmt.Errorf("%s 0x%X", function, uint(code))
	}
	return err
}

func (u *user) do(job string, args []string) (string, error) {
	switch job {
	case "provision":
		return "", pkcs11.InitToken(u.module, label, "so-"+pin, pin)
	case "list":
		tokens, err := pkcs11.ListTokens(u.module)
		return strconv.Itoa(len(tokens)), err
	case "load":
		u.p = p11.New(u.module)
		return "", nil
	case "initialize":
		return "", called("C_Initialize", u.p.Initialize())
	case "finalize":
		return "", called("C_Finalize", u.p.Finalize())
	case "slots":
		return u.findSlot()
	case "token":
		_, err := u.p.GetTokenInfo(u.slot)
		return "", called("C_GetTokenInfo", err)
	case "open":
		session, err := u.p.OpenSession(u.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if err == nil {
			u.session = session
		}
		return "", called("C_OpenSession", err)
	case "close":
		return "", called("C_CloseSession", u.p.CloseSession(u.session))
	case "login":
		return u.login(args)
	case "limit":
		return u.limit(args[0])
	case "info":
		return u.info()
	case "mechanism":
		info, err := u.p.GetMechanismInfo(u.slot, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, nil)})
		return fmt.Sprintf("0x%X", info.Flags), called("C_GetMechanismInfo", err)
	case "second": // another caller of C_GetFunctionList in this process
		_, err := p11.New(u.module).GetTokenInfo(u.slot)
		return "", called("C_GetTokenInfo", err)
	case "destroy":
		return "", called("C_DestroyObject", u.p.DestroyObject(u.session, u.key))
	case "search":
		return u.search(args[0])
	case "raw":
		return u.raw(args)
	case "process":
		return process()
	case "state":
		info, err := u.p.GetSessionInfo(u.session)
		return strconv.Itoa(int(info.State)), called("C_GetSessionInfo", err)
	case "random":
		return u.random(args)
	case "generate":
		return u.generate(args[0])
	case "find":
		return u.find(args[0])
	case "label":
		return u.label(args[0])
	case "encrypt":
		return u.encrypt(args)
	case "decrypt":
		return u.decrypt(args)
	case "pair":
		return u.wrapAndUnwrap()
	}
	return "", fmt.Errorf("unknown job %q", job)
}

func (u *user) findSlot() (string, error) {
	slots, err := u.p.GetSlotList(true)
	if err != nil {
		return "", called("C_GetSlotList", err)
	}
	for _, slot := range slots {
		info, err := u.p.GetTokenInfo(slot)
		if err == nil && strings.TrimRight(info.Label, " \x00") == label {
			u.slot = slot
		}
	}
	return strconv.Itoa(len(slots)), nil
}

// random asks for random bytes so often, on so many sessions at once; the detail is how often it failed.
func (u *user) random(args []string) (string, error) {
	if len(args) == 0 {
		_, err := u.p.GenerateRandom(u.session, 8)
		return "", called("C_GenerateRandom", err)
	}
	times, _ := strconv.Atoi(args[0])
	sessions, _ := strconv.Atoi(args[1])
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range sessions {
		session, err := u.p.OpenSession(u.slot, p11.CKF_SERIAL_SESSION)
		if err != nil {
			return "", called("C_OpenSession", err)
		}
		wg.Go(func() {
			for range times {
				_, err := u.p.GenerateRandom(session, 8)
				if err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return strconv.FormatInt(failed.Load(), 10), nil
}

func aesKey(name string) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_LABEL, name),
		p11.NewAttribute(p11.CKA_ENCRYPT, true), p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_VALUE_LEN, hsm.KeySize),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_SENSITIVE, false),
		p11.NewAttribute(p11.CKA_WRAP, true), p11.NewAttribute(p11.CKA_UNWRAP, true),
	}
}

func (u *user) generate(name string) (string, error) {
	key, err := u.p.GenerateKey(u.session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, aesKey(name))
	if err != nil {
		return "", called("C_GenerateKey", err)
	}
	u.key = key
	return "", nil
}

// find counts the keys of that label and remembers the first; the detail is their number and its handle.
func (u *user) find(name string) (string, error) {
	err := u.p.FindObjectsInit(u.session, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, unquote(name))})
	if err != nil {
		return "", called("C_FindObjectsInit", err)
	}
	found, _, err := u.p.FindObjects(u.session, 100)
	if err != nil {
		return "", called("C_FindObjects", err)
	}
	err = u.p.FindObjectsFinal(u.session)
	if len(found) == 0 {
		return "0", called("C_FindObjectsFinal", err)
	}
	u.key = found[0]
	return fmt.Sprint(len(found), " ", found[0]), called("C_FindObjectsFinal", err)
}

// label reads the label of an object by its handle.
func (u *user) label(handle string) (string, error) {
	number, _ := strconv.Atoi(handle)
	values, err := u.p.GetAttributeValue(u.session, p11.ObjectHandle(number), []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, nil)})
	if err != nil {
		return "", called("C_GetAttributeValue", err)
	}
	return strings.ReplaceAll(string(values[0].Value), "\x00", "<NUL>"), nil
}

// encrypt takes IV, plaintext and perhaps AAD in hex ("-": empty); the detail is the IV afterwards and the output.
func (u *user) encrypt(args []string) (string, error) {
	params := p11.NewGCMParams(unhex(args[0]), aad(args), 8*hsm.TagSize)
	defer params.Free()
	err := u.p.EncryptInit(u.session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, u.key)
	if err != nil {
		return "", called("C_EncryptInit", err)
	}
	iv := hex.EncodeToString(params.IV())
	out, err := u.p.Encrypt(u.session, unhex(args[1]))
	return iv + " " + hex.EncodeToString(out), called("C_Encrypt", err)
}

func (u *user) decrypt(args []string) (string, error) {
	params := p11.NewGCMParams(unhex(args[0]), aad(args), 8*hsm.TagSize)
	defer params.Free()
	err := u.p.DecryptInit(u.session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, u.key)
	if err != nil {
		return "", called("C_DecryptInit", err)
	}
	out, err := u.p.Decrypt(u.session, unhex(args[1]))
	return hex.EncodeToString(out), called("C_Decrypt", err)
}

// wrapAndUnwrap uses the functions with the most arguments, eight: C_GenerateKeyPair and C_UnwrapKey.
func (u *user) wrapAndUnwrap() (string, error) {
	wrap, unwrap, err := u.p.GenerateKeyPair(u.session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
		[]*p11.Attribute{p11.NewAttribute(p11.CKA_WRAP, true), p11.NewAttribute(p11.CKA_MODULUS_BITS, 2048)},
		[]*p11.Attribute{p11.NewAttribute(p11.CKA_UNWRAP, true)})
	if err != nil {
		return "", called("C_GenerateKeyPair", err)
	}
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS, nil)}
	wrapped, err := u.p.WrapKey(u.session, mechanism, wrap, u.key)
	if err != nil {
		return "", called("C_WrapKey", err)
	}
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_ENCRYPT, true)}
	key, err := u.p.UnwrapKey(u.session, mechanism, unwrap, wrapped, template)
	if err != nil {
		return "", called("C_UnwrapKey", err)
	}
	u.key = key
	return "", nil
}

// aad is the third argument, if there is one.
func aad(args []string) []byte {
	if len(args) < 3 {
		return nil
	}
	return unhex(args[2])
}

func unhex(s string) []byte {
	if s == "-" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
