// This file finds secrets that look guessable, for a warning (A6).

package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Secrets that AWS has published, by their SHA-256, so that no scanner reports this file as a leak.
var publishedSecrets = []string{
	// XKS specification, "XKS proxy configuration in AWS KMS console"
	"c24a5b92186779bfedd245e6fcced1667c0144807594aec6fba13a1387df0780",
	// XKS specification, Appendix D
	"b43087ec67de0c6750a7f6bf188bbc2212704544555121344b13b10a5a54b7a2",
	// the public test client's placeholder
	"1446c69d231bb8bfd2a72443c9a31334d11916df4fd03eaacc33185e21eb0f4b",
}

// Guessable returns in a few words why the secret looks easy to guess, or "" if it does not. It is
// a hint only: a random secret of A6's form is practically never reported, and a bad one may pass.
func (c Credential) Guessable() string {
	secret := c.SecretAccessKey
	digest := sha256.Sum256([]byte(secret))
	if slices.Contains(publishedSecrets, hex.EncodeToString(digest[:])) {
		return "is published in AWS's documentation or samples"
	}
	if c.AccessKeyID != "" && strings.Contains(secret, c.AccessKeyID) {
		return "contains the access key id"
	}
	lower := strings.ToLower(secret)
	for _, word := range []string{
		"example", "replacethis", "changeme", "password", "accesskey", "mysecret",
	} {
		if strings.Contains(lower, word) {
			return "contains the word \"" + word + "\""
		}
	}
	if repeats(secret) {
		return "repeats a pattern"
	}
	if steps(secret)*2 > len(secret) {
		return "is mostly a sequence such as 1234 or aaaa"
	}
	if distinct(secret) < 12 {
		return "has too few different characters"
	}
	if classes(secret) == 1 {
		return "has only one kind of characters"
	}
	return ""
}

// repeats reports whether a first part, at most half of s, is repeated to its end.
func repeats(s string) bool {
	for period := 1; period <= len(s)/2; period++ {
		if s[period:] == s[:len(s)-period] {
			return true
		}
	}
	return false
}

// steps returns the number of characters that equal the one before, or are next to it in ASCII.
func steps(s string) int {
	count := 0
	for i := 1; i < len(s); i++ {
		step := int(s[i]) - int(s[i-1])
		if step >= -1 && step <= 1 {
			count++
		}
	}
	return count
}

func distinct(s string) int {
	var seen [256]bool
	count := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			count++
		}
	}
	return count
}

// classes returns the number of kinds of characters in s: upper case, lower case, digits.
func classes(s string) int {
	count := 0
	for _, class := range []string{
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789",
	} {
		if strings.ContainsAny(s, class) {
			count++
		}
	}
	return count
}
