package xks

// Secondary authorization (requirements Z1 to Z3): the policies of a key store say whether this
// caller may use the key that was found. A denial says nothing of them on the wire (X6) and all of
// them in the log.

import (
	"errors"

	"go.uber.org/zap"

	"xks-proxy/pkg/authz"
)

// authorize asks the policies of the key store. findKey calls it, for a key store that has some.
func (x *exchange) authorize() error {
	store, m := x.store, x.fields.Metadata
	decision := store.policies.Decide(store.mode, authz.Request{
		Action: authz.Action(
			x.op.name,
		), KeyStore: store.name, KeyID: x.keyID, KeyLabel: x.key.Label, Owner: store.owner,
		PrincipalARN: orEmpty(m.AWSPrincipalARN), KMSOperation: orEmpty(m.KMSOperation),
		KMSKeyARN: m.KMSKeyARN, KMSViaService: m.KMSViaService, SourceVPC: m.AWSSourceVPC, SourceVPCE: m.AWSSourceVPCE,
		AccessKeyID: x.identity.AccessKeyID, Region: x.identity.Region, Time: x.clock.start,
	})
	x.decision = &decision
	if !decision.Allowed {
		return failure(
			accessDenied, errDenied.message,
			errors.New(shorten(decision.Explain(), maxLoggedOther)),
		)
	}
	return nil
}

// orEmpty is for the fields that are required (metadata.go), and are never absent here.
func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// denied says that the policies did not permit the request, whether or not it went on.
func (x *exchange) denied() bool {
	return x.decision != nil && (!x.decision.Allowed || x.decision.Shadow)
}

// appendDecision names the policies that decided, where a denial can be fixed (Z2), and what the
// log lacks otherwise for asking again.
func (x *exchange) appendDecision(fields []zap.Field) []zap.Field {
	d := x.decision
	if d == nil {
		return fields
	}
	fields = append(
		fields, zap.Strings("policy_ids", bounded(d.Policies)),
		zap.String("key_label", x.key.Label),
	)
	if x.store.owner != "" {
		fields = append(fields, zap.String("owner", x.store.owner))
	}
	if len(d.Errors) > 0 {
		fields = append(fields, zap.Strings("policy_errors", bounded(d.Errors)))
	}
	if x.denied() && len(d.Policies) > 0 {
		fields = append(fields, zap.Strings("policy_places", bounded(x.places(d.Policies))))
	}
	if d.Shadow {
		fields = append(
			fields, zap.Bool("policy_shadow_denied", true),
			zap.String("policy_reason", shorten(d.Explain(), maxLoggedOther)),
		)
	}
	return fields
}

// places are the files and lines of policies.
func (x *exchange) places(ids []string) []string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, x.store.policies.Place(id))
	}
	return list
}

const maxLoggedPolicies = 16 // of one decision: ten thousand may match

// bounded is as much of a list of texts as a log line bears.
func bounded(list []string) []string {
	n := min(len(list), maxLoggedPolicies)
	short := make([]string, 0, n+1)
	for _, text := range list[:n] {
		short = append(short, shorten(text, maxLoggedText))
	}
	if more := len(list) - n; more > 0 {
		short = append(short, "and "+itoa(more)+" more")
	}
	return short
}
