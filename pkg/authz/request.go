package authz

// One request as policies see it, and which parts of it are unreadable.

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/cedar-policy/cedar-go/types"
)

// Action is the operation of the XKS Proxy API that a request asks for.
type Action string

// The actions that are subject to policies. GetHealthStatus is not (H3).
const (
	Encrypt        Action = "Encrypt"
	Decrypt        Action = "Decrypt"
	GetKeyMetadata Action = "GetKeyMetadata"
)

// actionGroup contains every action.
const actionGroup = "Use"

var actions = [...]Action{Encrypt, Decrypt, GetKeyMetadata}

// Request is one authenticated request for a key. A nil pointer is a field that the request does
// not carry. A field that it carries is given as it came, however odd.
type Request struct {
	Action   Action
	KeyStore string
	KeyID    string // external key id (U3)
	KeyLabel string // CKA_LABEL of the key; "" where it is not known
	Owner    string // of the key store; "" where it has none

	// awsPrincipalArn: an ARN, a service principal, AWS Internal, or anything (U11)
	PrincipalARN  string
	KMSOperation  string
	KMSKeyARN     *string // required on Encrypt and Decrypt, never carried by GetKeyMetadata
	KMSViaService *string
	SourceVPC     *string
	SourceVPCE    *string

	AccessKeyID string // that signed
	Region      string // of its credential scope
	Time        time.Time
}

// errRequest is the reason why Decide denies a request that its caller should have refused.
var errRequest = errors.New("not a request that policies can decide")

// check refuses what the checks before it (A8) should have refused: an unknown action, a key
// without a key store, a malformed key id.
func (r *Request) check() error {
	switch {
	case actionIndex(r.Action) < 0:
		return fmt.Errorf(
			"%w: unknown action %q", errRequest, boundedText(string(r.Action), maxName),
		)
	case !isReadable(r.KeyStore):
		return fmt.Errorf("%w: no key store", errRequest)
	case !isKeyID(r.KeyID):
		return fmt.Errorf(
			"%w: %q is not an external key id (1 to 128 of A-Z a-z 0-9 - . _)", errRequest,
			boundedText(r.KeyID, maxName),
		)
	}
	return nil
}

func isKeyID(text string) bool {
	return text != "" && len(text) <= 128 &&
		all(
			text,
			func(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' },
		)
}

func actionIndex(a Action) int {
	for i := range actions {
		if actions[i] == a {
			return i
		}
	}
	return -1
}

// reads is a set of what a policy reads, or of what is unreadable in a request.
type reads uint16

const (
	readsPrincipal reads = 1 << iota
	readsKMSKeyARN
	readsKMSKeyAccount
	readsKMSKeyRegion
	readsViaService
	readsViaServiceName
	readsVPC
	readsVPCE
	readsOperation
	readsRegion
	readsAccessKeyID
	readsHour
	readsWeekday
	readsTime

	readsAttributes // in its conditions, of the principal
	readsKey        // in its conditions

	readsContext = readsAttributes - 1 - readsPrincipal // all of it

	// neverInMetadata is what GetKeyMetadata never carries (Z4, XKS Proxy API Specification,
	// GetKeyMetadata).
	neverInMetadata = readsKMSKeyARN | readsKMSKeyAccount | readsKMSKeyRegion |
		readsViaService | readsViaServiceName
)

// contextFields are the fields of the context, as the schema names them, and their sources.
var contextFields = [...]struct {
	name   types.String
	bit    reads
	source string
}{
	{"kmsKeyArn", readsKMSKeyARN, "kmsKeyArn"},
	{"kmsKeyAccount", readsKMSKeyAccount, "kmsKeyArn"},
	{"kmsKeyRegion", readsKMSKeyRegion, "kmsKeyArn"},
	{"viaService", readsViaService, "kmsViaService"},
	{"viaServiceName", readsViaServiceName, "kmsViaService"},
	{"vpc", readsVPC, "awsSourceVpc"},
	{"vpce", readsVPCE, "awsSourceVpce"},
	{"operation", readsOperation, "kmsOperation"},
	{"region", readsRegion, "the region of the credential scope"},
	{"accessKeyId", readsAccessKeyID, "the access key id"},
	{"hour", readsHour, "the time"},
	{"weekday", readsWeekday, "the time"},
	{"time", readsTime, "the time"},
}

// names returns what is in the set, for people.
func (r reads) names() []string {
	var names []string
	if r&readsPrincipal != 0 {
		names = append(names, "principal")
	}
	for _, f := range contextFields {
		if r&f.bit != 0 {
			names = append(names, "context."+string(f.name))
		}
	}
	return names
}

// unreadable returns what of the context is unreadable: malformed, or required and absent.
func (r *Request) unreadable() reads {
	c := contextBuilder{}
	c.build(r)
	return c.unreadable
}

// context returns the wanted part of the context.
func (r *Request) context(wanted reads) types.Record {
	if wanted&readsContext == 0 {
		return types.Record{}
	}
	c := contextBuilder{
		wanted: wanted, fields: make(types.RecordMap, bits.OnesCount16(uint16(wanted))),
	}
	c.build(r)
	return types.NewRecord(c.fields)
}

type contextBuilder struct {
	wanted     reads
	fields     types.RecordMap
	unreadable reads
}

func (c *contextBuilder) build(r *Request) {
	c.text("operation", readsOperation, &r.KMSOperation)
	c.text("region", readsRegion, &r.Region)
	c.text("accessKeyId", readsAccessKeyID, &r.AccessKeyID)
	c.text("vpc", readsVPC, r.SourceVPC)
	c.text("vpce", readsVPCE, r.SourceVPCE)
	c.text("viaService", readsViaService, r.KMSViaService)
	if r.KMSViaService != nil {
		name, ok := serviceName(*r.KMSViaService)
		c.parsed("viaServiceName", readsViaServiceName, name, ok)
	}
	c.text("kmsKeyArn", readsKMSKeyARN, r.KMSKeyARN)
	switch {
	case r.KMSKeyARN != nil:
		account, region, ok := parseKMSKey(*r.KMSKeyARN)
		c.parsed("kmsKeyAccount", readsKMSKeyAccount, account, ok)
		c.parsed("kmsKeyRegion", readsKMSKeyRegion, region, ok)
	case r.Action != GetKeyMetadata:
		c.unreadable |= readsKMSKeyARN | readsKMSKeyAccount | readsKMSKeyRegion
	}
	c.clock(r.Time)
}

func (c *contextBuilder) text(name types.String, bit reads, value *string) {
	if value != nil {
		c.parsed(name, bit, *value, isReadable(*value))
	}
}

func (c *contextBuilder) parsed(name types.String, bit reads, value string, ok bool) {
	switch {
	case !ok:
		c.unreadable |= bit
	case c.wanted&bit != 0:
		c.fields[name] = types.String(value)
	}
}

func (c *contextBuilder) clock(now time.Time) {
	if now.IsZero() {
		c.unreadable |= readsHour | readsWeekday | readsTime
		return
	}
	if c.wanted&(readsHour|readsWeekday|readsTime) == 0 {
		return
	}
	now = now.UTC()
	c.fields["hour"] = types.Long(now.Hour())
	c.fields["weekday"] = types.Long((now.Weekday()+6)%7 + 1) // Monday is 1 (ISO 8601)
	c.fields["time"] = types.NewDatetime(now)
}
