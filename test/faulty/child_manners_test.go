package faulty_test

// What the process with the module does to see the manners of an HSM.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

// unquote lets a word stand for a label with a NUL.
func unquote(s string) string { return strings.ReplaceAll(s, "<NUL>", "\x00") }

// login takes a user type and a PIN, by default those that SoftHSM wants.
func (u *user) login(args []string) (string, error) {
	kind, with := uint64(p11.CKU_USER), pin
	if len(args) == 2 {
		n, err := strconv.ParseUint(args[0], 0, 32)
		if err != nil {
			return "", err
		}
		kind, with = n, strings.Trim(args[1], `"`)
	}
	return "", called("C_Login", u.p.Login(u.session, uint(kind), with))
}

// limit opens sessions until one is refused, or so many; the detail is how many, and the answer.
func (u *user) limit(most string) (string, error) {
	n, err := strconv.Atoi(most)
	if err != nil {
		return "", err
	}
	for i := range n {
		_, err := u.p.OpenSession(u.slot, p11.CKF_SERIAL_SESSION)
		if err != nil {
			return fmt.Sprint(i, " ", called("C_OpenSession", err)), nil
		}
	}
	return most, nil
}

// info is what the token says of itself, each text in quotes.
func (u *user) info() (string, error) {
	info, err := u.p.GetTokenInfo(u.slot)
	said := fmt.Sprintf("%q %q %q %q initialized=%t login=%t", info.Label, info.ManufacturerID,
		info.Model, info.SerialNumber, info.Flags&p11.CKF_TOKEN_INITIALIZED != 0,
		info.Flags&p11.CKF_LOGIN_REQUIRED != 0)
	return said, called("C_GetTokenInfo", err)
}

// search asks a hundred times for one more object of a label; the detail is how many came.
func (u *user) search(label string) (string, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, label)}
	err := u.p.FindObjectsInit(u.session, template)
	if err != nil {
		return "", called("C_FindObjectsInit", err)
	}
	found := 0
	for range 100 {
		objects, _, err := u.p.FindObjects(u.session, 1)
		if err != nil {
			return "", called("C_FindObjects", err)
		}
		found += len(objects)
	}
	return strconv.Itoa(found), called("C_FindObjectsFinal", u.p.FindObjectsFinal(u.session))
}

// raw decrypts with CK_GCM_PARAMS written by hand. It takes their form ("40", "48", "zero"), IV and
// ciphertext.
func (u *user) raw(args []string) (string, error) {
	iv := unhex(args[1])
	const access, private = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_ANON | unix.MAP_PRIVATE
	memory, err := unix.Mmap(-1, 0, 4096, access, private)
	if err != nil {
		return "", err
	}
	copy(memory, iv) // C memory, because it holds what a parameter points to
	words := []uint64{uint64(uintptr(unsafe.Pointer(&memory[0]))), uint64(len(iv))}
	switch args[0] {
	case "48":
		words = append(words, uint64(8*len(iv)))
	case "zero":
		words = append(words, 0)
	}
	var params []byte
	for _, word := range append(words, 0, 0, 8*hsm.TagSize) {
		params = binary.LittleEndian.AppendUint64(params, word)
	}
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}
	err = u.p.DecryptInit(u.session, mechanism, u.key)
	if err != nil {
		return "", called("C_DecryptInit", err)
	}
	out, err := u.p.Decrypt(u.session, unhex(args[2]))
	return hex.EncodeToString(out), called("C_Decrypt", err)
}

// process tells its working directory and umask.
func process() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	return fmt.Sprintf("%s %03o", dir, mask), nil
}
