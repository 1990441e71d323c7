package xks

// GetKeyMetadata (requirements K1–K3).

import (
	"xks-proxy/pkg/hsm"
)

const (
	statusEnabled  = "ENABLED"
	statusDisabled = "DISABLED"
)

// usageNames are in the order of the specification.
var usageNames = []struct {
	usage hsm.Usage
	name  string
}{
	{
		hsm.CanEncrypt, "ENCRYPT",
	}, {hsm.CanDecrypt, "DECRYPT"}, {hsm.CanSign, "SIGN"}, {hsm.CanVerify, "VERIFY"},
	{hsm.CanWrap, "WRAP"}, {hsm.CanUnwrap, "UNWRAP"}, {hsm.CanDerive, "DERIVE"},
}

func (x *exchange) getKeyMetadata() (response, error) {
	if err := x.findKey(); err != nil {
		return nil, err
	}
	answer := &metadataResponse{keySpec: x.key.Spec, keyStatus: statusEnabled}
	for _, u := range usageNames {
		if x.key.Usage&u.usage != 0 {
			answer.keyUsage = append(answer.keyUsage, u.name)
		}
	}
	if x.keyBlocked() != nil || !x.key.Complete() {
		answer.keyStatus = statusDisabled
	}
	return answer, nil
}
