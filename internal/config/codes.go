package config

// The return codes that overrides of an HSM's profile name.

import (
	"fmt"
	"strings"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

// CodeList formats return codes as the configuration file has them: [0x30, 0x40].
func CodeList(codes []hsm.CKR) string {
	var parts []string
	for _, code := range codes {
		parts = append(parts, fmt.Sprintf("0x%X", uint32(code)))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// PKCS11 returns the overrides as package pkcs11 takes them.
func (o Overrides) PKCS11() pkcs11.Overrides {
	return pkcs11.Overrides{
		IVSource: pkcs11.IVSource(o.IVSource), IVSize: o.IVSize, IVBits: pkcs11.IVBits(o.IVBits),
		Mechanism: o.Mechanism,
		MaxAAD:    o.MaxAAD, MaxData: o.MaxData, ReadOnlySessions: o.ReadOnlySessions,
		InvalidCiphertext: o.InvalidCiphertext, Ambiguous: o.Ambiguous,
	}
}
