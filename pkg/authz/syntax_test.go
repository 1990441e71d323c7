package authz

// What is wrong with a file that is not Cedar: where, and what to write instead.

import (
	"bytes"
	"testing"
)

func TestSyntaxHints(t *testing.T) {
	const head = "permit (principal, action, resource)"
	for _, test := range []struct{ document, want string }{
		{head + " when { context.hour = 3 };", "1:58: not Cedar: found = where } is expected: write == to compare"},
		{`permit (principal = User::"x", action, resource);`, "1:19: not Cedar: found = where , is expected: write == to compare"},
		{head + "\n\n" + head + ";", "3:1: not Cedar: found permit where ; is expected: a policy ends with a semicolon; the one before has none"},
		{head, "1:37: not Cedar: the file ends where ; is expected: a policy ends with a semicolon"},
		{`permit (principal, action == Action::Encrypt, resource);`, `1:45: not Cedar: found , where :: is expected: an entity is its type, two colons and its id in double quotes: Action::"Encrypt"`},
		{`permit (principal, action, resource in KeyStore::'payroll');`, `1:50: not Cedar: ' is not expected here: texts and ids stand in double quotes, "…"`},
		{`permit (principal, action, resource in KeyStore::“payroll”);`, `1:50: not Cedar: “ is not expected here: texts and ids stand in double quotes, "…"`},
		{`permit (principal == "arn:x", action, resource);`, `1:22: not Cedar: "arn:x" is not expected here: an entity is its type, two colons and its id in double quotes: User::"arn:…"`},
		{`permit (principal, action in [Action::"Encrypt" Action::"Decrypt"], resource);`, `1:49: not Cedar: found Action where , is expected: a comma is missing before it`},
		{`permit (principal, action);`, "1:26: not Cedar: found ) where , is expected: the head has three parts, (principal, action, resource)"},
		{`permit (action, principal, resource);`, "1:9: not Cedar: found action where principal is expected: the head is (principal, action, resource), in this order"},
		{`allow (principal, action, resource);`, "1:1: not Cedar: allow is not expected here: write permit"},
		{`Permit (principal, action, resource);`, "1:1: not Cedar: Permit is not expected here: a policy begins with permit or forbid (did you mean permit?)"},
		{head + " when { context.hour == 3 and context.hour == 4 };", "1:63: not Cedar: found and where } is expected: write &&"},
		{head + " when ( context.hour == 3 );", "1:43: not Cedar: found ( where { is expected: conditions stand in braces: when { … }"},
		{head + ` when { context.operation in ["Encrypt"] };`, "1:1: policy \"t.cedar:1\": `in` is for entities and sets of them; for texts write `[\"…\", \"…\"].contains(…)`"},
		{`permit (principal in [Role::"x"], action, resource);`, "1:22: not Cedar: [ is not expected here: the head names one entity; for several write `when { principal in [ … ] }`"},
		{head + " if { true };", "1:38: not Cedar: found if where ; is expected: write when or unless"},
		{head + ` when { context.region != "" && context.hour == "3" };`, `1:1: policy "t.cedar:1": a number and a text are never equal: write numbers without quotes`},
		{head + ` when { principal == "arn:x" };`, `1:1: policy "t.cedar:1": a text and an entity are never equal: write the entity, such as Role::"arn:…", or compare one of its attributes, such as principal.arn`},
		{`permit (principal, action, resource in Keystore::"payroll");`, `1:40: policy "t.cedar:1": there is no entity type Keystore (did you mean KeyStore?)`},
	} {
		_, _, err := Parse("t.cedar", []byte(test.document))
		if err == nil || err.Error() != "t.cedar:"+test.want {
			t.Errorf("%s\n got %v\nwant t.cedar:%s", test.document, err, test.want)
		}
	}
}

// A problem stands in its file, whatever is in that.
func FuzzSyntaxProblem(f *testing.F) {
	for _, test := range badDocuments {
		f.Add([]byte(test.document))
	}
	f.Add([]byte("permit (principal, action, resource in KeyStore::“payroll”);"))
	f.Add([]byte("permit \xff'"))
	f.Fuzz(func(t *testing.T, document []byte) {
		_, _, err := Parse("t.cedar", document)
		if err == nil {
			return
		}
		for _, one := range unjoin(err) {
			problem, ok := one.(Problem)
			if ok &&
				(problem.Line < 0 || problem.Line > bytes.Count(document, []byte("\n"))+1 || problem.Text == "") {
				t.Errorf("%+v", problem)
			}
		}
	})
}

func unjoin(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if ok {
		return joined.Unwrap()
	}
	return []error{err}
}
