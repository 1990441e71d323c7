package authz

// Our decisions beside cedar-go's own, and the fuzz targets.

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// allAttributes makes entities and context whole.
const allAttributes = reads(1<<16 - 1)

// twins are the same policies for us and for cedar-go.
type twins struct {
	ours   *Policies
	theirs *cedar.PolicySet
}

func newTwins(t testing.TB, document string) twins {
	t.Helper()
	list, err := cedar.NewPolicyListFromBytes("test.cedar", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	both := twins{ours: mustParse(t, document), theirs: cedar.NewPolicySet()}
	for i, id := range both.ours.IDs() {
		both.theirs.Add(cedar.PolicyID(id), list[i])
	}
	return both
}

// compare decides by cedar-go on the whole policies, heads included, with everything made that the
// schema knows, and by us. Where something failed or could not be read we may be stricter, which
// other tests are about.
func (both twins) compare(t testing.TB, r Request) {
	t.Helper()
	world := newEntities(&r)
	world.wanted = allAttributes
	verdict, details := cedar.Authorize(both.theirs, world, cedar.Request{
		Principal: world.principal.uid, Action: actionUID(r.Action), Resource: world.key, Context: r.context(allAttributes),
	})
	d := both.ours.Decide(ModeEnforce, r)
	if d.Allowed && verdict == cedar.Deny {
		t.Fatalf("%+v: Cedar denies, we allow: %s", r, d.Explain())
	}
	if len(d.Errors) > 0 || len(details.Errors) > 0 {
		return
	}
	var theirs []string
	for _, reason := range details.Reasons {
		theirs = append(theirs, string(reason.PolicyID))
	}
	slices.Sort(theirs)
	ours := slices.Sorted(slices.Values(d.Policies))
	if d.Allowed != bool(verdict) || !slices.Equal(ours, theirs) {
		t.Fatalf("%+v: Cedar says %v by %v, we %v by %v", r, verdict, theirs, d.Allowed, ours)
	}
}

// everyHead has each form of a head at least once.
const everyHead = `
permit(principal == User::"arn:aws:iam::111122223333:user/team/Alice", action == Action::"Encrypt", resource == Key::"agency/payroll-1");
permit(principal in Role::"arn:aws:iam::111122223333:role/app", action in Action::"Use", resource in KeyStore::"agency");
permit(principal in Account::"444455556666", action in [Action::"Decrypt", Action::"GetKeyMetadata"], resource is Key);
permit(principal is AssumedRoleSession in Account::"111122223333", action, resource is Key in KeyStore::"other");
permit(principal is Service, action in Action::"Encrypt", resource);
permit(principal is RootUser, action in [Action::"Use"], resource) unless { context.region == "us-east-1" };
permit(principal is Unknown, action == Action::"GetKeyMetadata", resource);
permit(principal == Unknown::"nobody", action, resource) when { principal.arn == "nobody" };
permit(principal, action, resource) when { (principal in [Account::"777788889999", Account::"777788880000"] || principal in Role::"arn:aws:iam::111122223333:role/app") && context.hour < 14 };
permit(principal == Role::"arn:aws:iam::111122223333:role/app", action == Action::"Decrypt", resource == Key::"other/payroll-1");
forbid(principal is User in Account::"444455556666", action == Action::"Decrypt", resource) when { context has vpce && context.vpce == "vpce-1" };
forbid(principal, action in Action::"Use", resource in KeyStore::"other") unless { resource has owner && resource.owner like "agency*" };
forbid(principal == AssumedRoleSession::"arn:aws:sts::111122223333:assumed-role/app/evil", action, resource);
forbid(principal, action in [Action::"Encrypt", Action::"Decrypt"], resource) when { context has viaServiceName && context.viaServiceName == "ebs" };
`

// We take heads apart and make only what is read; that must change no decision of Cedar's.
func TestDecisionsAreCedars(t *testing.T) {
	principals := []string{
		"arn:aws:iam::111122223333:user/team/Alice", "arn:aws:iam::444455556666:user/Bob", "arn:aws:iam::111122223333:role/app", "arn:aws:iam::444455556666:role/app",
		"arn:aws:sts::111122223333:assumed-role/app/x", "arn:aws:sts::111122223333:assumed-role/app/evil", "arn:aws:sts::444455556666:assumed-role/app/x", "arn:aws:iam::999988887777:root",
		"arn:aws:sts::777788889999:federated-user/f", "s3.amazonaws.com", "AWS Internal", "nobody", "",
	}
	compared := 0
	for _, document := range []string{everyHead, hundredPolicies()} {
		both := newTwins(t, document)
		for _, action := range actions {
			for _, principal := range principals {
				for _, store := range []string{"agency", "other", "store-3"} {
					for _, via := range []*string{nil, new("ebs"), new("s3.eu-west-1.amazonaws.com")} {
						r := testRequest()
						r.Action, r.PrincipalARN, r.KeyStore, r.KMSViaService = action, principal, store, via
						both.compare(t, r)
						compared++
					}
				}
			}
		}
	}
	if compared < 500 {
		t.Errorf("%d comparisons", compared)
	}
}

// What we make conforms to the schema: so the type checker's promises hold.
func TestRequestsConformToTheSchema(t *testing.T) {
	for _, text := range []string{
		"arn:aws:iam::111122223333:user/team/Alice", "arn:aws:iam::111122223333:role/app", "arn:aws:sts::111122223333:assumed-role/app/x", "arn:aws:iam::111122223333:root",
		"arn:aws:sts::111122223333:federated-user/f", "s3.amazonaws.com", "nobody", "arn:aws:iam::111122223333:role/aws-service-role/rds.amazonaws.com/R",
	} {
		for _, action := range actions {
			r := testRequest()
			r.PrincipalARN, r.Action = text, action
			if action == GetKeyMetadata {
				r.KMSKeyARN, r.KMSViaService = nil, nil
			}
			world := newEntities(&r)
			world.wanted = allAttributes
			made := types.EntityMap{}
			for _, uid := range []types.EntityUID{world.principal.uid, world.key, actionUID(action)} {
				made[uid], _ = world.Get(uid)
			}
			err := validator().Entities(made)
			if err != nil {
				t.Errorf("%s %s: %v", action, text, err)
			}
			err = validator().Request(types.Request{Principal: world.principal.uid, Action: actionUID(action), Resource: world.key, Context: r.context(allAttributes)})
			if err != nil {
				t.Errorf("%s %s: %v", action, text, err)
			}
		}
	}
	for _, f := range contextFields {
		if !slices.Contains(attributesOf("context"), string(f.name)) {
			t.Errorf("the schema lacks context.%s", f.name)
		}
	}
	if len(attributesOf("context")) != len(contextFields) {
		t.Errorf("the schema has more in the context than we make: %v", attributesOf("context"))
	}
	if got := slices.Sorted(maps.Keys(resolvedSchema().Entities)); len(got) != 10 {
		t.Errorf("entity types %v", got)
	}
}

// FuzzDecide: no request makes a decision panic, differ from Cedar's to the wrong side, or go
// beyond its bounds; and a principal that belongs to no account is let in by no policy that names
// accounts or roles.
func FuzzDecide(f *testing.F) {
	both := newTwins(f, everyHead)
	named := mustParse(f, `permit(principal in Account::"111122223333", action, resource);
permit(principal in Role::"arn:aws:iam::111122223333:role/app", action, resource);
permit(principal, action, resource) when { principal has account && principal.account == "111122223333" };
permit(principal, action, resource) unless { principal in Account::"444455556666" || principal is Service };
permit(principal, action, resource) when { principal.arn like "arn:aws:iam::111122223333:*" && !(principal is Service) };`)
	seed := testRequest()
	f.Add(
		uint8(0), seed.PrincipalARN, "GenerateDataKey", *seed.KMSKeyARN, "ebs", "vpce-1",
		"eu-west-1", "payroll-1", int64(1_700_000_000), uint8(0),
	)
	for _, text := range oddPrincipals {
		if len(text) < 4096 {
			f.Add(uint8(1), text, text, text, text, text, text, "payroll-1", int64(0), uint8(7))
		}
	}
	f.Fuzz(
		func(t *testing.T, action uint8, principal, operation, kmsKey, via, vpce, region, key string, at int64, absent uint8) {
			r := testRequest()
			r.Action = actions[int(action)%len(actions)]
			r.PrincipalARN, r.KMSOperation, r.KMSKeyARN, r.KMSViaService, r.SourceVPCE, r.Region, r.KeyID = principal, operation, &kmsKey, &via, &vpce, region, key
			r.Time = time.Unix(at, 0)
			for i, field := range []**string{&r.KMSKeyARN, &r.KMSViaService, &r.SourceVPCE} {
				if absent&(1<<i) != 0 {
					*field = nil
				}
			}
			if isKeyID(key) {
				both.compare(t, r)
			}
			d := named.Decide(ModeEnforce, r)
			p := parsePrincipal(principal)
			if d.Allowed && p.account != "111122223333" &&
				(p.account == "" || p.account == "444455556666") {
				t.Fatalf("%q (%v) is let in: %s", principal, p.uid.Type, d.Explain())
			}
			for _, e := range d.Errors {
				if len(e) > maxErrorText || !isReadable(e) {
					t.Fatalf("error %q", e)
				}
			}
		},
	)
}

// FuzzLoad: no document makes loading panic; what loads decides.
func FuzzLoad(f *testing.F) {
	f.Add(everyHead)
	f.Add(hundredPolicies())
	f.Add(
		`@id("a") permit(principal, action, resource) when { context has vpce && context.vpce == "x" && if true then [1, 2].contains(context.hour) else !false };`,
	)
	f.Add(
		`forbid(principal, action, resource) when { {a: 1, "b": [principal]}.a == context["hour"] && ip("10.0.0.1").isLoopback() };`,
	)
	for _, test := range badDocuments {
		f.Add(test.document)
	}
	f.Fuzz(func(t *testing.T, document string) {
		if len(document) > 4096 {
			return // the type checker's time grows with the size; operators write these files
		}
		p, _, err := Parse("fuzz.cedar", []byte(document))
		if err != nil {
			if p != nil || strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("%v with policies %v", err, p)
			}
			if strings.Contains(err.Error(), "cannot be written down") {
				t.Fatal(err) // what can be parsed has a meaning
			}
			return
		}
		if says := p.Loosens(mustParse(t, document+"\n// again")); len(says) > 0 {
			t.Fatalf("the same statements: %q", says)
		}
		both, r := newTwins(t, document), testRequest()
		for _, r.Action = range actions {
			both.compare(t, r)
			checkDecision(t, p, r)
		}
		r.PrincipalARN = "nobody"
		both.compare(t, r)
		checkDecision(t, p, r)
	})
}

// checkDecision: permits allow, forbids deny, and nothing is allowed by nothing.
func checkDecision(t testing.TB, p *Policies, r Request) {
	t.Helper()
	d := p.Decide(ModeEnforce, r)
	if d.Allowed && len(d.Policies) == 0 {
		t.Fatal("allowed by nothing")
	}
	for _, id := range d.Policies {
		if d.Allowed == p.forbids[id] {
			t.Fatalf("allowed %v by %s", d.Allowed, id)
		}
	}
}
