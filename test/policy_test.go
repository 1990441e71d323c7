package test

// Policies in the real program (requirements Z1 to Z4, A8, H3): who is let in, who is not, what the log says, and that what it says
// can be asked again.

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const (
	alice   = "arn:aws:iam::123456789012:user/Alice" // of requestMetadata
	mallory = "arn:aws:iam::123456789012:user/Mallory"

	testPolicy = `// Requests of one account, from one VPC endpoint; not from Mallory.
@id("account-from-endpoint")
permit (principal in Account::"123456789012", action in [Action::"Encrypt", Action::"Decrypt"], resource)
when { resource has owner && resource.owner == "agency-payroll" && context has vpce && context.vpce == "vpce-12345678" };

@id("account-metadata")
permit (principal in Account::"123456789012", action == Action::"GetKeyMetadata", resource);

@id("not-mallory")
forbid (principal == User::"` + mallory + `", action, resource);

@id("not-from-that-network")
forbid (principal, action, resource)
when { context has vpc && context.vpc == "vpc-666" };
`
)

// policyProxy enforces the policy in one key store, shadows it in another, and has none in the third.
func policyProxy(t *testing.T) *proxy {
	t.Helper()
	w := newTestWorld(t, newKey("disabled-key", 1), newKey("impotent", 1), newKey("other-1", 1))
	file := filepath.Join(w.Dir, "test.cedar")
	writeFile(t, file, testPolicy)
	return w.start(t, func(s *settings) {
		for _, k := range s.KeyStores {
			k["owner"] = "agency-payroll" // they share keys, which other owners could not
		}
		for i, mode := range []string{"enforce", "shadow"} {
			s.KeyStores[i]["policy"] = object{"files": []string{file}, "mode": mode}
		}
	})
}

func as(principal string, body object) object {
	return withMetadata(body, "awsPrincipalArn", principal)
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	p := policyProxy(t)
	for _, w := range ways {
		c := p.client(t, w)
		plaintext := []byte("wages")
		s := c.encrypt(t, "key-1", encryptBody(plaintext, nil))
		if got := c.decrypt(t, "key-1", s, nil); string(got) != string(plaintext) {
			t.Fatalf("decrypted to %q", got)
		}
		c.post(t, metadataURI("key-1"), keyMetadataBody()).wantOK(t, new(object))
		for _, one := range []struct {
			name, uri string
			body      object
			status    int
			error     string
		}{
			{"encrypt", encryptURI("key-1"), as(mallory, encryptBody(plaintext, nil)), 403, "AccessDeniedException"},
			{"decrypt", decryptURI("key-1"), as(mallory, decryptBody(s, nil)), 403, "AccessDeniedException"},
			{"metadata", metadataURI("key-1"), as(mallory, keyMetadataBody()), 403, "AccessDeniedException"},
			{"another account", encryptURI("key-1"), as("arn:aws:iam::999999999999:user/Alice", encryptBody(nil, nil)), 403, "AccessDeniedException"},
			{"another endpoint", encryptURI("key-1"), withMetadata(encryptBody(nil, nil), "awsSourceVpce", "vpce-2"), 403, "AccessDeniedException"},
			{"no endpoint", encryptURI("key-1"), withMetadata(encryptBody(nil, nil), "awsSourceVpce", removed{}), 403, "AccessDeniedException"},
			{"the network", encryptURI("key-1"), withMetadata(encryptBody(nil, nil), "awsSourceVpc", "vpc-666"), 403, "AccessDeniedException"},
			// A8: what is checked first is answered.
			{"fields before policy", encryptURI("key-1"), as(mallory, object{"requestMetadata": requestMetadata("Encrypt")}), 400, "ValidationException"},
			{"key before policy", encryptURI("no-such-key"), as(mallory, encryptBody(nil, nil)), 404, "KeyNotFoundException"},
			{"policy before key state", encryptURI("disabled-key"), as(mallory, encryptBody(nil, nil)), 403, "AccessDeniedException"},
			{"policy before cryptography", decryptURI("key-1"), as(mallory, with(decryptBody(s, nil), "authenticationTag", []byte("short"))), 403, "AccessDeniedException"},
			{"key state, permitted", encryptURI("disabled-key"), encryptBody(nil, nil), 400, "InvalidStateException"},
			{"cryptography, permitted", decryptURI("key-1"), with(decryptBody(s, nil), "authenticationTag", []byte("short")), 400, "InvalidCiphertextException"},
		} {
			r := c.post(t, one.uri, one.body)
			err := r.checkError(one.status, one.error)
			if err != nil {
				t.Errorf("%s: %v; log line:\n%s", one.name, err, r.line())
			}
			if text := string(r.body); strings.Contains(text, "mallory") || strings.Contains(text, "policy") || strings.Contains(text, "endpoint") {
				t.Errorf("%s: tells of the policies (X6): %s", one.name, text)
			}
		}
		c.fleet(t) // H3
	}
}

// Z2: the log names the policy, its place, and what it could not read.
func TestPolicyLog(t *testing.T) {
	t.Parallel()
	p := policyProxy(t)
	c := p.client(t, http1)
	for _, one := range []struct {
		name   string
		body   object
		level  string
		ids    string
		places any
		reason string
	}{
		{"allowed", encryptBody(nil, nil), "info", "[account-from-endpoint]", nil, ""},
		{"forbidden", as(mallory, encryptBody(nil, nil)), "warn", "[not-mallory]", []any{"test.cedar:9"}, "forbidden by not-mallory"},
		{"not permitted", as("arn:aws:iam::999999999999:user/Alice", encryptBody(nil, nil)), "warn", "[]", nil, "no policy permits it"},
		{"unreadable", as("nobody", encryptBody(nil, nil)), "warn", "[not-mallory]", []any{"test.cedar:9"}, "no readable principal in this request"},
	} {
		r := c.post(t, encryptURI("key-1"), one.body)
		line := parseLine(t, r.line())
		reason, _ := line["reason"].(string)
		if line["level"] != one.level || fmt.Sprint(line["policy_ids"]) != one.ids || fmt.Sprint(line["policy_places"]) != fmt.Sprint(one.places) || !strings.Contains(reason, one.reason) ||
			line["key_label"] != "key-1" || line["owner"] != "agency-payroll" || line["policy_shadow_denied"] != nil {
			t.Errorf("%s: %v", one.name, line)
		}
	}
}

// A denial in shadow mode changes nothing but the log; and a key store without a policy has nothing of it.
func TestPolicyShadow(t *testing.T) {
	t.Parallel()
	p := policyProxy(t)
	c := p.client(t, http1)
	c.prefix, c.credential = otherPrefix, p.world.Other
	for principal, denied := range map[string]any{alice: nil, mallory: true} {
		r := c.post(t, encryptURI("other-1"), as(principal, encryptBody([]byte("x"), nil)))
		r.wantOK(t, new(sealed))
		line := parseLine(t, r.line())
		if line["policy_shadow_denied"] != denied || line["outcome"] != "ok" || (denied == true) != (line["level"] == "warn") {
			t.Errorf("%s: %v", principal, line)
		}
	}
	c.prefix, c.credential = regionalPrefix, p.world.Regional
	k := c.signedBy(c.call(encryptURI("key"), encode(as(mallory, encryptBody(nil, nil)))), func(s *signature) { s.region = "eu-central-1" })
	r := c.mustDo(t, k)
	r.wantOK(t, new(sealed))
	if line := parseLine(t, r.line()); line["policy_ids"] != nil || line["key_label"] != nil {
		t.Errorf("a key store without policy: %v", line)
	}
}

// Z3: principals and fields that are odd, long or missing are denied or are no request; never a fault of ours, and nobody gets in.
func TestPolicyOddCallers(t *testing.T) {
	t.Parallel()
	p := policyProxy(t)
	c := p.client(t, http2)
	for _, principal := range []any{
		"", " ", "*", "AWS Internal", "ec2.amazonaws.com", "arn:aws:iam::123456789012", "arn:aws:iam::123456789012:", "arn:aws:iam::123456789012:user/",
		"arn:aws:iam::1234567890123:user/x", "ARN:AWS:IAM::123456789012:user/x", "arn:aws:iam::123456789012:user/\x00", "\u202earn:aws:iam::123456789012:user/x",
		strings.Repeat("a", 2049), strings.Repeat("arn:aws:iam::123456789012:user/", 1000), `Account::"123456789012"`, removed{}, nil, 7, []string{alice},
	} {
		r := c.post(t, encryptURI("key-1"), withMetadata(encryptBody(nil, nil), "awsPrincipalArn", principal))
		if r.status != 403 && r.status != 400 {
			t.Errorf("%.60q: %d %s; log line:\n%s", fmt.Sprint(principal), r.status, r.body, r.line())
		}
	}
	for _, field := range []string{"kmsKeyArn", "kmsViaService", "awsSourceVpc", "awsSourceVpce", "kmsOperation"} {
		for _, value := range []any{removed{}, nil, "", "\x01", strings.Repeat("v", 60_000)} {
			r := c.post(t, encryptURI("key-1"), withMetadata(encryptBody(nil, nil), field, value))
			if r.status != 200 && r.status != 403 && r.status != 400 || field == "awsSourceVpce" && r.status == 200 {
				t.Errorf("%s %.20q: %d %s", field, fmt.Sprint(value), r.status, r.body)
			}
		}
	}
	p.wantHealthy(t)
}

// A line of the log is a case: yesterday's denial can be asked of today's policy.
func TestPolicyReplay(t *testing.T) {
	t.Parallel()
	p := policyProxy(t)
	c := p.client(t, http1)
	denied := c.post(t, encryptURI("key-1"), as(mallory, encryptBody(nil, nil))).line()
	allowed := c.post(t, encryptURI("key-1"), encryptBody(nil, nil)).line()
	cases := filepath.Join(p.world.Dir, "replay.jsonl")
	writeFile(t, cases, denied+"\n"+allowed+"\n")
	stdout, stderr, code := command(t, "policy", "test", cases, "--config", p.file, "--key-store", "main")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "deny      forbidden by not-mallory") || !strings.Contains(stdout, "allow     permitted by account-from-endpoint") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	milder := filepath.Join(p.world.Dir, "milder.cedar")
	writeFile(t, milder, strings.Replace(testPolicy, mallory, "arn:aws:iam::123456789012:user/Eve", 1))
	stdout, _, code = command(t, "policy", "test", cases, "--policies", milder)
	if code != 0 || strings.Count(stdout, "allow     permitted by account-from-endpoint") != 2 {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}
