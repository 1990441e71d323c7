package authz

// The bound on what a decision takes.

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
	"golang.org/x/sys/unix"
)

// wildcards is a set of policies of 2 KB patterns, and dearText what makes each of them slow: a
// text in which every place nearly matches.
func wildcards(policies, length int) string {
	var b strings.Builder
	for i := range policies {
		fmt.Fprintf(
			&b,
			"@id(\"p%d\") permit (principal, action in [Action::\"Encrypt\", Action::\"Decrypt\"], resource) when { context.kmsKeyArn like \"*%sb*\" };\n",
			i, strings.Repeat("a", length),
		)
	}
	return b.String()
}

func dearRequest() Request {
	r := benchmarkRequest()
	arn := strings.Repeat("a", maxText)
	r.KMSKeyARN, r.KMSViaService, r.SourceVPC, r.SourceVPCE = &arn, &arn, &arn, &arn
	r.KMSOperation = arn
	return r
}

// 226 KB of wildcards took 308 ms to evaluate.
func TestTooDear(t *testing.T) {
	_, _, err := Parse("wild.cedar", []byte(wildcards(100, 2000)))
	if err == nil {
		t.Fatal("it is loaded")
	}
	for _, want := range []string{"wild.cedar:1:1: policy \"p0\": a decision about Encrypt could take ", " steps, and 5,000,000 are allowed",
		"shorten what stands behind a * in `like`"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

// Policies for different accounts and key stores do not add up: no request meets all of them.
func TestCostOfManyTenants(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(
			&b,
			"permit (principal in Account::\"%012d\", action, resource in KeyStore::\"store-%d\") when { principal.arn like \"*:role/team-*\" };\n",
			i+1, i,
		)
	}
	p := mustParse(t, b.String())
	for i := range actions {
		if cost := p.cost(i); cost > 100_000 {
			t.Errorf("%s: %d", actions[i], cost)
		}
	}
}

// The bound holds: the costliest sets that are accepted take no longer than it says, whatever the
// request.
func TestCostBounds(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, condition := range costlyConditions() {
		document := costliest(t, condition)
		p := mustParse(t, document)
		r := dearRequest()
		p.Decide(ModeEnforce, r)
		best := time.Hour // of several: a garbage collection may fall into one
		for range 10 {
			begin := threadTime(t)
			p.Decide(ModeEnforce, r)
			best = min(best, threadTime(t)-begin)
		}
		t.Logf("%s: %d policies, %s steps, %v", name, p.Len(), thousands(p.cost(0)), best)
		if best > 8*time.Duration(maxCost)*time.Nanosecond { // with the race detector
			t.Errorf("%s took %v", name, best)
		}
	}
}

// threadTime is the processor time of this thread: what else the machine does is not in it.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &usage)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// costlyConditions are conditions whose evaluation takes long for their length.
func costlyConditions() map[string]string {
	hundred := func(form string) string {
		var parts []string
		for i := range 100 {
			parts = append(parts, fmt.Sprintf(form, i))
		}
		return strings.Join(parts, ", ")
	}
	return map[string]string{
		"like, one long piece": `context.viaService like "*` + strings.Repeat("a", 200) + `b*"`,
		"like, many pieces":    `context.viaService like "` + strings.Repeat("*aaaab", 40) + `"`,
		"like, only stars":     `context.viaService like "*a*a*a*a*a*a*a*a*b"`,
		"contains":             `[` + hundred(`"%d"`) + `].contains(context.viaService)`,
		"contains, not constant": `[context.viaService, ` + hundred(
			`"%d"`,
		) + `].contains(context.viaService)`,
		"containsAny": `[context.viaService, ` + hundred(`"x%d"`) + `].containsAny([` + hundred(
			`"%d"`,
		) + `])`,
		"in a set": `principal in [` + hundred(`Account::"%012d"`) + `]`,
		"comparisons": strings.TrimSuffix(
			strings.Repeat(`context.viaService == "x" || `, 100), " || ",
		),
		"numbers": strings.TrimSuffix(strings.Repeat(`context.hour + 1 == 100 || `, 100), " || "),
		"records": `{a: context.viaService, b: context.hour} == {a: "x", b: 3}`,
		"dates":   `context.time > datetime("2024-10-15T11:35:00Z").offset(duration("1d"))`,
		"attribute of a record": `{account: context.viaService}.account like "*` + strings.Repeat(
			"a", 200,
		) + `b*"`,
		"set of sets": `[[context.viaService], [context.region]].contains([context.operation])`,
		"if":          `if context.viaService like "*aab" then context.viaService like "*aac" else context.viaService like "*aad"`,
	}
}

// costliest is as many policies with a condition as are accepted.
func costliest(t testing.TB, condition string) string {
	t.Helper()
	one := func(i int) string {
		return fmt.Sprintf(
			"@id(\"p%d\") permit (principal, action in [Action::\"Encrypt\", Action::\"Decrypt\"], resource) when { context has viaService && (%s) };\n",
			i, condition,
		)
	}
	cost := mustParse(t, one(0)).cost(0)
	var b strings.Builder
	for i := range min(maxCost/cost, maxFile/len(one(9999))) {
		b.WriteString(one(i))
	}
	return b.String()
}

func BenchmarkCostliest(b *testing.B) {
	for name, condition := range costlyConditions() {
		p := mustParse(b, costliest(b, condition))
		r := dearRequest()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p.Decide(ModeEnforce, r)
			}
			b.ReportMetric(
				float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(p.cost(1)), "ns/step",
			)
		})
	}
}

// A pattern costs what its longest piece behind a star costs at every place of the text.
func TestLikeCost(t *testing.T) {
	for _, test := range []struct {
		pattern []any
		want    int
	}{
		{[]any{"abc"}, 3},
		{[]any{"abc", types.Wildcard{}}, 3},
		{[]any{types.Wildcard{}}, 0},
		{[]any{types.Wildcard{}, "abc"}, 3 + 100*4},
		{[]any{"ab", types.Wildcard{}, "c", types.Wildcard{}, "defg", types.Wildcard{}}, 7 + 100*5},
	} {
		if got := likeCost(types.NewPattern(test.pattern...), 100); got != test.want {
			t.Errorf("%v: %d, want %d", test.pattern, got, test.want)
		}
	}
	principal := xast.NodeTypeVariable{Name: "principal"}
	account := xast.NodeTypeAccess{StrOpNode: xast.StrOpNode{Arg: principal, Value: "account"}}
	if got := textLength(account); got != 12 {
		t.Errorf("an account has %d bytes", got)
	}
}

// The name of a principal is never longer than its cost says.
func TestLongestNames(t *testing.T) {
	for _, arn := range []string{
		strings.Repeat("a.", 120) + "amazonaws.com", strings.Repeat("a.", 1000) + "amazonaws.com",
		"arn:aws:iam::111122223333:role/aws:" + strings.Repeat("r", 64),
		"arn:aws:iam::111122223333:user/" + strings.Repeat("/p", 200) + "/" + strings.Repeat("u", 64),
	} {
		p := parsePrincipal(arn)
		for name, value := range p.attributes().All() {
			length, bounded := textLengths[name]
			text, _ := value.(types.String)
			if bounded && len(text) > length {
				t.Errorf("%.60s…: %s has %d bytes, more than %d", arn, name, len(text), length)
			}
		}
	}
}
