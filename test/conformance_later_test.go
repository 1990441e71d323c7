package test

// The rows about time and connections (U13 to U15), and those that other tests answer
// for: Z and R.

import (
	"crypto/tls"
	"fmt"
	"net/http/httptrace"
	"testing"
)

func timeRequirements() []requirement {
	return []requirement{
		{number: "U13", status: met,
			says: "An answer within the budget: 200 ms after the first byte of a request, for the first request of a connection 180 ms after accept; DependencyTimeoutException before it is spent; the log says whether the connection was new",
			also: []string{"TestBudget", "TestDribblingBody", "pkg/xks: TestFirstRequestBudget", "pkg/xks: TestTimeStartsWithTheFirstByte"}},
		{number: "U14", status: partly, but: "asserted by `make faults`, in no shorter test",
			says: "1800 cryptographic requests a second for one key store", also: []string{"TestWorkerKilledUnderLoad"}},
		{number: "U15", status: met, but: "the default idle timeout of 400 s is not waited for, a shorter one is",
			says: "Keep-alive on HTTP/1.1 and 2, an idle timeout above a load balancer's, TCP keep-alive below it, no `Connection: close` but while draining, TLS resumption, connections bounded and counted",
			checks: []check{
				{"100 requests on one connection, no `Connection` header", overEveryWay(checkKeepAlive)},
				{"a second connection resumes the TLS session of the first", checkResumption},
			},
			also: []string{"TestIdleTimeout", "TestIdleConnectionIsProbed", "TestConnectionLimit", "TestIdleConnections", "TestIdleConnectionsBesideUseUpNoFiles", "TestDrain", "internal/server: TestSessionsSurviveAReload", "internal/server: TestPortsShareTheLimit"}},
	}
}

func checkKeepAlive(t *testing.T, c *client) {
	for i := range 100 {
		k := c.call(healthURI, encode(healthBody()))
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
		r, err := c.do(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		r.wantOK(t, new(object))
		if i > 0 && !reused || r.header.Get("Connection") != "" {
			t.Fatalf("request %d: connection kept: %t, header Connection %q", i, reused, r.header.Get("Connection"))
		}
	}
}

func checkResumption(t *testing.T) {
	p := sharedProxy(t)
	for _, w := range ways {
		c := p.client(t, w)
		config := w.tlsConfig(p)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		text := c.bytes(t, c.call(healthURI, encode(healthBody())))
		for i := range 2 {
			conn, err := tls.Dial("tcp", p.Listen, config)
			if err != nil {
				t.Fatal(err)
			}
			_, err = fmt.Fprint(conn, text)
			if err != nil {
				t.Fatal(err)
			}
			readRaw(t, conn) // the ticket of TLS 1.3 comes along with the first data
			if resumed := conn.ConnectionState().DidResume; resumed != (i == 1) {
				t.Errorf("%v, connection %d: resumed %t", w, i+1, resumed)
			}
			conn.Close()
		}
	}
}

func laterRequirements() []requirement {
	return []requirement{
		{number: "Z1", status: met, says: "A policy may decide who uses which key: by principal, operation, key, key store, access key id, region and request metadata; denied is AccessDeniedException",
			also: []string{"TestPolicies", "TestPolicyShadow", "TestPolicyIsReloaded", "pkg/xks: TestPolicyIsTold", "pkg/xks: TestPolicyHealth", "pkg/authz: TestExamples"}},
		{number: "Z2", status: met, says: "A denial is logged with the statement that caused it, in enough detail to fix the policy",
			also: []string{"TestPolicyLog", "TestPolicyReplay"}},
		{number: "Z3", status: met, says: "A missing field never crashes a policy nor turns a deny into an allow",
			also: []string{"TestPolicies", "TestPolicyOddCallers", "pkg/xks: TestPolicyOddRequests", "pkg/authz: TestFailsClosed"}},
		{number: "Z4", status: met, says: "A policy that asks for what an API never carries draws a warning",
			also: []string{"internal/config: TestPolicyWarnings", "pkg/authz: TestWarnings"}},
		{number: "R1", status: met, says: "Two or more HSMs hold the same keys; while one can serve, requests succeed",
			also: []string{"TestWorkerKilledUnderLoad", "TestTokenDirectoryGone", "TestOneHSMAbsentAtStart", "TestEachHSMDecryptsTheOther",
				"pkg/hsm/group: TestSmallHSM", "pkg/hsm/group: TestSmallHSMAlone"}},
		{number: "R2", status: met,
			says: "An HSM that is killed, unplugged, restarted, slow or hung fails no request that the other could have served in time, and comes back by itself",
			also: []string{"TestFaults", "TestMaintenanceUnderLoad", "TestWorkerKilledUnderLoad", "TestTokenDirectoryGone", "TestHealthOfAHungHSM", "TestDetection", "TestOneHSMAbsentAtStart"}},
		{number: "R3", status: met,
			says: "Overload is shed with ThrottlingException before the budget is spent; memory and goroutines stay bounded",
			also: []string{"TestOverloadIsShed", "TestQuota", "TestKeyQuota", "TestUnknownKeyFlood", "TestHugeBodies", "TestIdleConnections", "TestAttack", "pkg/xks: TestOverload", "pkg/xks: TestFairness", "pkg/xks: TestLate", "pkg/xks: TestMaxInFlight", "pkg/xks: TestMaxBodies"}},
		{number: "R4", status: met,
			says: "A key present on one HSM and absent from the other is found before a failover finds it", also: []string{"TestMissingKeyIsReported", "TestDuplicate", "TestKeyOnOneHSMOnly", "TestKeyGoneFromOneHSM", "TestNewVersion"}},
		{number: "R5", status: met, says: "On SIGTERM readiness goes false, requests in flight are answered, sessions closed, the log flushed", also: []string{"TestDrain", "TestDrainDelay", "TestNothingLeftAfterKill"}},
		{number: "R6", status: met,
			says: "An HSM whose token or keys changed while it was away serves no key before that key was compared with the other HSMs",
			also: []string{"TestTokenReplaced", "pkg/hsm/group: TestTokenReplaced", "pkg/hsm/group: TestTokenRestored",
				"pkg/hsm/group: TestReplacedAlone", "pkg/hsm/group: TestKeysChangedWhileAway", "pkg/hsm/group: TestRestartWhileUnverified"}},
		{number: "R7", status: met,
			says: "A key that fails alone is taken out alone; no caller, key or ciphertext can take an HSM out of service",
			also: []string{"pkg/hsm/group: TestKeyFailsOnOne", "pkg/hsm/group: TestKeyFailsOnAll", "pkg/hsm/group: TestRefusedUsage", "pkg/hsm/group: TestBusyPair", "pkg/hsm/group: TestTamperedWithBoth"}},
	}
}
