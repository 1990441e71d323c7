package xks

// Secondary authorization (requirements Z1 to Z3): the policies of a key store decide whether this
// caller may use the key that was found. The reply to a denied request reveals nothing of the
// policies (X6); the log line has all of it.

import (
	"errors"

	"go.uber.org/zap"

	"xks-proxy/pkg/authz"
)

// authorize evaluates the policies of the key store. findKey calls it if the key store has
// policies.
func (x *exchange) authorize() error {
	store, m := x.store, x.fields.Metadata
	decision := store.policies.Decide(store.mode, authz.Request{
		Action: authz.Action(x.op.name), KeyStore: store.name, KeyID: x.keyID,
		KeyLabel: x.key.Label, Owner: store.owner, PrincipalARN: orEmpty(m.AWSPrincipalARN),
		KMSOperation: orEmpty(m.KMSOperation), KMSKeyARN: m.KMSKeyARN,
		KMSViaService: m.KMSViaService, SourceVPC: m.AWSSourceVPC, SourceVPCE: m.AWSSourceVPCE,
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

// orEmpty returns the text of a field that is required (metadata.go) and so never nil here.
func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// denied reports whether the policies denied the request, in shadow mode too.
func (x *exchange) denied() bool {
	return x.decision != nil && (!x.decision.Allowed || x.decision.Shadow)
}

// appendDecision appends the policies that decided, so that an operator can correct a denial (Z2),
// and what else is needed to evaluate the request again.
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

// places returns the files and lines of policies.
func (x *exchange) places(ids []string) []string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, x.store.policies.Place(id))
	}
	return list
}

const maxLoggedPolicies = 16 // of one decision: ten thousand may match

// bounded returns the first texts of a list, shortened for a log line.
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
