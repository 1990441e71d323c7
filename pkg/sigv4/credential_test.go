// This file checks the form of credentials and of the configuration (A5, A6), and that secrets stay
// secret.

package sigv4

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCredentialValidate(t *testing.T) {
	tests := []struct {
		name, id, secret string
		want             error
	}{
		{"shortest", strings.Repeat("A", 20), strings.Repeat("a", 43), nil},
		{"longest", strings.Repeat("7", 30), strings.Repeat("=", 64), nil},
		{
			"every character", "ABCDEFGHIJKLMNOPQRSTUVWXYZ2345"[:30],
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+", nil,
		},
		{"id too short", strings.Repeat("A", 19), newSecret, ErrAccessKeyID},
		{"id too long", strings.Repeat("A", 31), newSecret, ErrAccessKeyID},
		{"id empty", "", newSecret, ErrAccessKeyID},
		{"id with 0", strings.Repeat("A", 19) + "0", newSecret, ErrAccessKeyID},
		{"id with 1", strings.Repeat("A", 19) + "1", newSecret, ErrAccessKeyID},
		{"id with 8", strings.Repeat("A", 19) + "8", newSecret, ErrAccessKeyID},
		{"id in lower case", strings.Repeat("a", 20), newSecret, ErrAccessKeyID},
		{"id outside ASCII", strings.Repeat("Ａ", 7), newSecret, ErrAccessKeyID},
		{"id and secret swapped", newSecret, newID, ErrAccessKeyID},
		{"secret too short", newID, strings.Repeat("a", 42), ErrSecretAccessKey},
		{"secret too long", newID, strings.Repeat("a", 65), ErrSecretAccessKey},
		{"secret empty", newID, "", ErrSecretAccessKey},
		{"secret with a line break", newID, newSecret + "\n", ErrSecretAccessKey},
		{"secret of URL-safe Base64", newID, strings.Repeat("a", 42) + "_", ErrSecretAccessKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := Credential{test.id, test.secret}.Validate()
			if !errors.Is(err, test.want) {
				t.Fatalf("error is %v, not %v", err, test.want)
			}
			if err != nil && test.secret != "" && strings.Contains(err.Error(), test.secret) ||
				err != nil && strings.Contains(err.Error(), newSecret) {
				t.Fatalf("the error quotes the secret: %v", err)
			}
		})
	}
}

func TestGenerateCredential(t *testing.T) {
	seen := map[string]bool{}
	for range 2000 {
		c, err := GenerateCredential()
		if err != nil {
			t.Fatal(err)
		}
		err = c.Validate()
		if err != nil {
			t.Fatal(err)
		}
		if reason := c.Guessable(); reason != "" {
			t.Fatalf("a generated secret %s", reason)
		}
		if seen[c.AccessKeyID] || seen[c.SecretAccessKey] {
			t.Fatal("generated twice")
		}
		seen[c.AccessKeyID], seen[c.SecretAccessKey] = true, true
	}
}

func TestGuessable(t *testing.T) {
	tests := []struct {
		secret, want string
	}{
		{"FYtE5EFA5FT0mCc3DrGUe2sti527BitkQ0Zr9MO9fvE", "published"},
		{"VU6W2byoiBrhDqNGbx703oL0syCAmhlQgwNUT123456", "published"},
		{"PleaseReplaceThisWithSomeSecretOfLength43To64", "published"},
		{"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEYabc", "example"},
		{newID + newSecret[:30], "access key id"},
		{strings.Repeat("a", 43), "repeats"},
		{strings.Repeat("s3cr3t+", 7), "repeats"},
		{newSecret[:22] + newSecret[:22], "repeats"},
		{"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", "sequence"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "sequence"},
		{"qwertyqwertyuqwertyqwertyuiqwertyqwertyuqwert", "few different"},
		{"thequickbrownfoxjumpsoverthelazydogandrunsoff", "one kind"},
		{oldSecret, ""},
		{newSecret, ""},
		{hexSHA256("a hash in hexadecimal is unusual, yet not guessable"), ""},
	}
	for _, test := range tests {
		got := Credential{newID, test.secret}.Guessable()
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, not %q", test.secret, got, test.want)
		}
	}
}

// TestSecretsDoNotPrint: neither package fmt nor an encoder shows the secret of a Credential, a
// Config or a Verifier.
func TestSecretsDoNotPrint(t *testing.T) {
	v := newTestVerifier(t)
	_, err := v.Verify(signedRequest(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	values := []any{
		testConfig, &testConfig, testConfig.Credentials[0], &testConfig.Credentials[0], v,
		*testConfigCopy(),
	}
	var texts []string
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(encoded))
	}
	for _, text := range texts {
		for _, secret := range []string{oldSecret, newSecret, fmt.Sprintf("%x", oldSecret), fmt.Sprintf("%d", []byte(oldSecret))} {
			if strings.Contains(text, secret) {
				t.Fatalf("the secret is in %s", text)
			}
		}
	}
	if !strings.Contains(texts[0], oldID) {
		t.Fatalf("the access key id is not in %s", texts[0])
	}
}

func testConfigCopy() *Config {
	c := testConfig
	return &c
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		edit func(c *Config)
		want error
	}{
		{"as it is", func(*Config) {}, nil},
		{"defaults", func(c *Config) { c.Service, c.MaxSkew = "", 0 }, nil},
		{"narrower skew", func(c *Config) { c.MaxSkew = time.Minute }, nil},
		{"A5 no credential", func(c *Config) { c.Credentials = nil }, ErrNoCredential},
		{
			"A5 duplicate id",
			func(c *Config) { c.Credentials = append(c.Credentials, Credential{oldID, newSecret}) },
			ErrDuplicateAccessKeyID,
		},
		{"A6 bad id", func(c *Config) { c.Credentials[1].AccessKeyID = "short" }, ErrAccessKeyID},
		{
			"A6 bad secret", func(c *Config) { c.Credentials[1].SecretAccessKey = "short" },
			ErrSecretAccessKey,
		},
		{"A3 negative skew", func(c *Config) { c.MaxSkew = -1 }, ErrMaxSkew},
		{"A3 wider skew", func(c *Config) { c.MaxSkew = MaxSkew + 1 }, ErrMaxSkew},
		{
			"region in upper case",
			func(c *Config) { c.Regions = []string{"us-east-1", "US-EAST-1"} }, ErrRegion,
		},
		{"empty region", func(c *Config) { c.Regions = []string{""} }, ErrRegion},
		{"service with a slash", func(c *Config) { c.Service = "kms/xks" }, ErrService},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := testConfig
			c.Credentials = append([]Credential(nil), testConfig.Credentials...)
			test.edit(&c)
			v, err := New(c)
			if !errors.Is(err, test.want) {
				t.Fatalf("error is %v, not %v", err, test.want)
			}
			if (v == nil) != (err != nil) {
				t.Fatalf("%v and %v", v, err)
			}
			if err != nil {
				checkHarmless(t, err)
			}
		})
	}
}
