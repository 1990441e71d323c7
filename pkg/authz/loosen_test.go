package authz

// What one set of policies lets through that another denied: named, and nothing missed.

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	permitAll    = `@id("all") permit (principal, action, resource);`
	permitAlice  = `@id("alice") permit (principal == User::"arn:aws:iam::111122223333:user/Alice", action, resource);`
	forbidBob    = `@id("bob") forbid (principal == User::"arn:aws:iam::111122223333:user/Bob", action, resource);`
	forbidRemote = `@id("remote") forbid (principal, action, resource) when { context has vpce && context.vpce != "vpce-1" };`
)

// setOf is nil for no statements, as for a key store without policies.
func setOf(t *testing.T, statements ...string) *Policies {
	t.Helper()
	if len(statements) == 0 {
		return nil
	}
	return mustParse(t, strings.Join(statements, "\n"))
}

func TestLoosens(t *testing.T) {
	for _, test := range []struct {
		name     string
		old, new []string
		want     []string
	}{
		{"nothing", []string{permitAll, forbidBob}, []string{permitAll, forbidBob}, nil},
		{"another order", []string{permitAll, forbidBob}, []string{forbidBob, permitAll}, nil},
		{
			"other spelling, another id, a comment", []string{permitAll, forbidBob},
			[]string{
				"// all\n@id(\"every\")\npermit(\n  principal,\n action, resource\n);",
				strings.Replace(forbidBob, `"bob"`, `"robert"`, 1),
			},
			nil,
		},
		{"a permit is gone", []string{permitAll, permitAlice}, []string{permitAlice}, nil},
		{"a forbid is new", []string{permitAll}, []string{permitAll, forbidBob}, nil},
		{"the first policy", nil, []string{permitAll}, nil},
		{
			"the last policy", []string{permitAll}, nil,
			[]string{"there is no policy any more: every request that AWS KMS signs is permitted"},
		},
		{
			"a forbid is gone", []string{permitAll, forbidBob, forbidRemote}, []string{permitAll, forbidRemote},
			[]string{`the forbid "bob" (test.cedar:2) is gone`},
		},
		{
			"a forbid has changed", []string{permitAll, forbidBob},
			[]string{permitAll, strings.Replace(forbidBob, "/Bob", "/Rob", 1)},
			[]string{`the forbid "bob" (test.cedar:2) has changed: it may forbid less`},
		},
		{
			"a permit is new", []string{permitAlice}, []string{permitAlice, permitAll},
			[]string{`the permit "all" (test.cedar:2) is new`},
		},
		{
			"a permit has changed", []string{permitAlice},
			[]string{strings.Replace(permitAlice, "action,", `action == Action::"Encrypt",`, 1)},
			[]string{`the permit "alice" (test.cedar:1) has changed: it may permit more`},
		},
		{
			"without an id", []string{permitAll, `forbid (principal, action, resource) when { context has vpc };`},
			[]string{permitAll},
			[]string{"the forbid at test.cedar:2 is gone"},
		},
		{
			"a forbid became a permit", []string{permitAlice, forbidBob},
			[]string{permitAlice, strings.Replace(forbidBob, "forbid", "permit", 1)},
			[]string{`the forbid "bob" (test.cedar:2) is gone`, `the permit "bob" (test.cedar:2) is new`},
		},
	} {
		got := setOf(t, test.new...).Loosens(setOf(t, test.old...))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Of all pairs of sets of five statements: where nothing is said, all that was denied is denied.
func TestLoosensMissesNothing(t *testing.T) {
	pieces := []string{
		permitAll, permitAlice, forbidBob, forbidRemote,
		`@id("encrypt") permit (principal, action == Action::"Encrypt", resource in KeyStore::"payroll");`,
	}
	var sets []*Policies
	for mask := range 1 << len(pieces) {
		var chosen []string
		for i, piece := range pieces {
			if mask&(1<<i) != 0 {
				chosen = append(chosen, piece)
			}
		}
		permits := slices.ContainsFunc(
			chosen, func(text string) bool { return strings.Contains(text, "permit (") },
		)
		if permits || len(chosen) == 0 { // a set that permits nothing is refused when it is loaded
			sets = append(sets, setOf(t, chosen...))
		}
	}
	requests := someRequests()
	silent, told := 0, 0
	for _, old := range sets {
		for _, replacement := range sets {
			if len(replacement.Loosens(old)) > 0 {
				told++
				continue
			}
			silent++
			for _, r := range requests {
				if !permits(old, r) && permits(replacement, r) {
					t.Fatalf(
						"%v -> %v permits %+v, and nothing is said", idsOf(old), idsOf(replacement),
						r,
					)
				}
			}
		}
	}
	if silent < 100 || told < 100 {
		t.Errorf("%d pairs were silent and %d not", silent, told)
	}
}

func someRequests() []Request {
	endpoint, arn := "vpce-2", "arn:aws:kms:eu-central-1:111122223333:key/1"
	var all []Request
	for _, name := range []string{"Alice", "Bob", "Carol"} {
		for _, action := range []Action{Encrypt, Decrypt, GetKeyMetadata} {
			for _, store := range []string{"payroll", "tax"} {
				r := Request{
					Action: action, KeyStore: store, KeyID: "k", KeyLabel: "k", Owner: "o",
					PrincipalARN: "arn:aws:iam::111122223333:user/" + name, KMSOperation: "Encrypt",
					AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", Region: "eu-central-1", Time: time.Unix(1_700_000_000, 0),
				}
				if action != GetKeyMetadata {
					r.KMSKeyARN = &arn
				}
				all = append(all, r)
				r.SourceVPCE = &endpoint
				all = append(all, r)
			}
		}
	}
	return all
}

// permits is what a key store does: without policies it does not ask.
func permits(p *Policies, r Request) bool {
	return p == nil || p.Decide(ModeEnforce, r).Allowed
}

func idsOf(p *Policies) []string {
	if p == nil {
		return nil
	}
	return p.IDs()
}
