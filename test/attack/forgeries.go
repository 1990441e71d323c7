package main

// Forgeries: requests put together so that a lenient verifier would take them. Each is made for
// every operation, and the signer is who he says he is only where "legal" is said.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// forgery changes a good request.
type forgery struct {
	name  string
	legal bool // it is served: nothing of what was signed is changed
	edit  func(t *target, s *sketch)
}

// after changes what is sent once it was signed.
func after(name string, edit func(all []header) []header) forgery {
	return forgery{name: name, edit: func(_ *target, s *sketch) { s.afterSigning = edit }}
}

// changed gives a header another value after the signing.
func changed(name string, to func(string) string) forgery {
	return after(name+" changed", func(all []header) []header {
		for i := range all {
			if all[i].name == name {
				all[i].value = to(all[i].value)
			}
		}
		return all
	})
}

func signedWith(name string, edit func(t *target, s *sketch)) forgery {
	return forgery{name: name, edit: edit}
}

func (f forgery) served() forgery { f.legal = true; return f }

func value(all []header, name string) string {
	for _, h := range all {
		if h.name == name {
			return h.value
		}
	}
	return ""
}

func without(all []header, name string) []header {
	return slices.DeleteFunc(all, func(h header) bool { return h.name == name })
}

func replaced(old, with string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, with, 1) }
}

// moved signs at another time.
func moved(by time.Duration) forgery {
	return signedWith("signed at "+by.String(), func(_ *target, s *sketch) {
		s.at = s.at.Add(by)
		s.day = s.at.Format("20060102")
	})
}

func forgeryTable() []forgery {
	list := slices.Concat(
		forgedSecrets(), forgedScopes(), forgedTimes(), forgedHeaders(), forgedShapes(),
	)
	return list
}

func forgedSecrets() []forgery {
	return []forgery{
		signedWith("another tenant's credential", func(t *target, s *sketch) {
			s.id, s.secret = t.Tenants[1].Credential.ID, t.Tenants[1].Credential.Secret
		}),
		signedWith(
			"another tenant's secret",
			func(t *target, s *sketch) { s.secret = t.Tenants[1].Credential.Secret },
		),
		signedWith(
			"another tenant's access key id",
			func(t *target, s *sketch) { s.id = t.Tenants[1].Credential.ID },
		),
		signedWith("the empty secret", func(_ *target, s *sketch) { s.secret = "" }),
		signedWith(
			"the access key id for a secret", func(_ *target, s *sketch) { s.secret = s.id },
		),
		signedWith(
			"an unknown access key id",
			func(_ *target, s *sketch) { s.id = "AAAAAAAAAAAAAAAAAAAAAAAAAA" },
		),
		signedWith("an empty access key id", func(_ *target, s *sketch) { s.id = "" }),
		signedWith(
			"an access key id in lower case",
			func(_ *target, s *sketch) { s.id = strings.ToLower(s.id) },
		),
		signedWith(
			"a part of the access key id", func(_ *target, s *sketch) { s.id = s.id[:len(s.id)-1] },
		),
		signedWith(
			"a signature of zeros",
			func(_ *target, s *sketch) { s.signature = strings.Repeat("0", 64) },
		),
		signedWith(
			"half a signature",
			func(_ *target, s *sketch) { s.signature = strings.Repeat("0", 32) },
		),
		signedWith("not signed", func(_ *target, s *sketch) {
			s.afterSigning = func(all []header) []header { return without(all, "Authorization") }
		}),
		signedWith(
			"basic authentication",
			func(_ *target, s *sketch) { s.authorization = "Basic " + base64Of([]byte(s.id+":"+s.secret)) },
		),
		signedWith(
			"a bearer token", func(_ *target, s *sketch) { s.authorization = "Bearer " + s.secret },
		),
		signedWith("AWS4-HMAC-SHA1", func(_ *target, s *sketch) { s.algorithm = "AWS4-HMAC-SHA1" }),
		signedWith(
			"AWS4-ECDSA-P256-SHA256",
			func(_ *target, s *sketch) { s.algorithm = "AWS4-ECDSA-P256-SHA256" },
		),
		signedWith(
			"AWS4-HMAC-SHA256-PAYLOAD",
			func(_ *target, s *sketch) { s.algorithm = "AWS4-HMAC-SHA256-PAYLOAD" },
		),
		signedWith(
			"the algorithm in lower case",
			func(_ *target, s *sketch) { s.algorithm = "aws4-hmac-sha256" },
		),
		signedWith(
			"version 2",
			func(_ *target, s *sketch) { s.authorization = "AWS " + s.id + ":" + base64Of(make([]byte, 20)) },
		),
	}
}

func forgedScopes() []forgery {
	list := []forgery{
		signedWith("service kms", func(_ *target, s *sketch) { s.service = "kms" }),
		signedWith(
			"the service in upper case",
			func(_ *target, s *sketch) { s.service = strings.ToUpper(s.service) },
		),
		signedWith("no service", func(_ *target, s *sketch) { s.service = "" }),
		signedWith(
			"terminator aws5_request", func(_ *target, s *sketch) { s.end = "aws5_request" },
		),
		signedWith("no terminator", func(_ *target, s *sketch) { s.end = "" }),
		signedWith("no region", func(_ *target, s *sketch) { s.region = "" }),
		signedWith(
			"a region with a slash",
			func(_ *target, s *sketch) { s.region = "us-east-1/eu-west-1" },
		),
		signedWith(
			"a key for another region", func(_ *target, s *sketch) { s.keyRegion = "eu-west-1" },
		),
		signedWith(
			"a key for another service", func(_ *target, s *sketch) { s.keyService = "kms" },
		),
		signedWith("a key for another day", func(_ *target, s *sketch) { s.keyDay = "20200101" }),
		signedWith(
			"a key for another terminator",
			func(_ *target, s *sketch) { s.keyEnd = "aws5_request" },
		),
		signedWith(
			"a scope of tomorrow",
			func(_ *target, s *sketch) { s.day = s.at.Add(24 * time.Hour).Format("20060102") },
		),
		signedWith(
			"a scope of yesterday",
			func(_ *target, s *sketch) { s.day = s.at.Add(-24 * time.Hour).Format("20060102") },
		),
		signedWith(
			"another region, which the key store accepts",
			func(_ *target, s *sketch) { s.region = "eu-west-1" },
		).served(),
	}
	for _, part := range []string{signedRegion, signedService, terminator, "AWS4-HMAC-SHA256", "Credential", "SignedHeaders", "Signature"} {
		list = append(
			list, changed("Authorization", replaced(part, "x"+part[1:])),
			changed("Authorization", replaced(part, "")),
		)
	}
	return list
}

func forgedTimes() []forgery {
	list := []forgery{
		moved(-4 * time.Minute).served(), moved(4 * time.Minute).served(),
		signedWith(
			"a date of two digits less",
			func(_ *target, s *sketch) { s.date = s.at.Format("060102T150405Z") },
		),
		signedWith(
			"a date with a zone",
			func(_ *target, s *sketch) { s.date = s.at.Format("20060102T150405+0000") },
		),
		signedWith(
			"a date of RFC 1123", func(_ *target, s *sketch) { s.date = s.at.Format(time.RFC1123) },
		),
		signedWith(
			"second 60",
			func(_ *target, s *sketch) { s.date = s.at.Format("20060102T1504") + "60Z" },
		),
		signedWith(
			"hour 24", func(_ *target, s *sketch) { s.date = s.at.Format("20060102") + "T240000Z" },
		),
		signedWith(
			"a date in lower case",
			func(_ *target, s *sketch) { s.date = strings.ToLower(s.at.Format(timeFormat)) },
		),
		signedWith("an empty date", func(_ *target, s *sketch) { s.date = " " }),
		signedWith(
			"fractions of a second",
			func(_ *target, s *sketch) { s.date = s.at.Format("20060102T150405.000Z") },
		),
		after("Date in the place of x-amz-date", func(all []header) []header {
			return append(
				without(all, "X-Amz-Date"), header{"Date", time.Now().UTC().Format(time.RFC1123)},
			)
		}),
		changed(
			"X-Amz-Date",
			func(string) string { return time.Now().Add(time.Second).UTC().Format(timeFormat) },
		),
	}
	for _, by := range []time.Duration{302 * time.Second, 6 * time.Minute, time.Hour, 24 * time.Hour, 365 * 24 * time.Hour, 70 * 365 * 24 * time.Hour} {
		list = append(list, moved(by), moved(-by))
	}
	return list
}

// forgeries sends them all, and holds the refusals against each other: they must not tell why.
func forgeries(ctx context.Context, t *target, n *tally) error {
	bodies := map[string]int{}
	list := forgeryTable()
	who := &t.Tenants[0]
	for i, below := range []string{"/keys/" + who.Keys[0] + "/encrypt", "/keys/" + who.Keys[0] + "/decrypt", "/keys/" + who.Keys[0] + "/metadata", "/health"} {
		body := [][]byte{encryptBody("forged"), decryptBody(t.Sealed[0]), metadataBody(), healthBody()}[i]
		for _, f := range list {
			if ctx.Err() != nil {
				return fmt.Errorf("forgeries: %w", ctx.Err())
			}
			for _, all := range []bool{false, true} {
				if t.Short && all != (i%2 == 1) {
					continue
				}
				s := newSketch(t, who, below, body)
				if all {
					s.all()
				}
				f.edit(t, s)
				replies, err := t.askAlone(s.bytes(), time.Millisecond)
				if len(replies) == 0 {
					n.noteReply(nil, err)
					if f.legal {
						n.remark("legal, but not served: %s, %s: %v", f.name, below, err)
					}
					continue
				}
				r := replies[0]
				n.noteReply(r, nil)
				switch {
				case r.status == 200 && f.legal:
					n.legal()
				case r.status == 200:
					n.accept("%s, %s", f.name, below)
				case f.legal:
					n.remark(
						"legal, but not served: %s, %s: %d %s", f.name, below, r.status, r.body,
					)
				case r.status == 401:
					bodies[string(r.body)]++
				}
			}
		}
	}
	if len(bodies) > 1 {
		n.accept("refusals differ by their cause (requirement A4): %v", bodies)
	}
	return nil
}
