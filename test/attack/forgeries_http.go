package main

// Forgeries in HTTP's own freedom: headers twice, merged, split, renamed; other paths, methods,
// bodies.

import (
	"fmt"
	"strings"
)

func forgedHeaders() []forgery {
	list := []forgery{
		after(
			"an unsigned header more",
			func(all []header) []header { return append(all, header{"X-Extra", "1"}) },
		).served(),
		after("header names in upper case", func(all []header) []header {
			for i := range all {
				all[i].name = strings.ToUpper(all[i].name)
			}
			return all
		}).served(),
		after("blanks around the date", func(all []header) []header {
			for i := range all {
				if all[i].name == "X-Amz-Date" {
					all[i].value = "  " + all[i].value + " \t"
				}
			}
			return all
		}).served(),
		after("headers in another order", func(all []header) []header {
			for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
				all[i], all[j] = all[j], all[i]
			}
			return all
		}).served(),
		after(
			"a session token",
			func(all []header) []header { return append(all, header{"X-Amz-Security-Token", "x"}) },
		).served(),
		after("forwarded for another host and path", func(all []header) []header {
			return append(
				all, header{"X-Forwarded-Host", "other"},
				header{"X-Original-URL", "/agency/archive/kms/xks/v1/health"},
				header{"X-Rewrite-URL", "/kms/xks/v1/health"},
				header{"X-HTTP-Method-Override", "GET"}, header{"Forwarded", "host=other"},
			)
		}).served(),
		changed("Host", func(string) string { return "localhost" }),
		changed("Host", strings.ToUpper),
		changed("Host", func(h string) string { return h + "0" }),
		changed("Host", replaced("localhost", "localhost.")),
		changed("Host", replaced("localhost", "user@localhost")),
		signedWith(
			"host not signed", func(_ *target, s *sketch) { s.signed = []string{"x-amz-date"} },
		),
		signedWith(
			"the date not signed", func(_ *target, s *sketch) { s.signed = []string{"host"} },
		),
		signedWith("nothing signed", func(_ *target, s *sketch) { s.signed = nil }),
		signedWith(
			"signed names in upper case",
			func(_ *target, s *sketch) { s.signed = []string{"Host", "X-Amz-Date"} },
		),
		signedWith(
			"signed names out of order",
			func(_ *target, s *sketch) { s.signed = []string{"x-amz-date", "host"} },
		),
		signedWith(
			"a signed name twice",
			func(_ *target, s *sketch) { s.signed = []string{"host", "host", "x-amz-date"} },
		),
		signedWith(
			"a signed name that is not there",
			func(_ *target, s *sketch) { s.signed = []string{"host", "x-absent", "x-amz-date"} },
		),
		signedWith(
			"a signed name with a line end",
			func(_ *target, s *sketch) { s.signed = []string{"host", "x\ty", "x-amz-date"} },
		),
		after("Authorization split in two", func(all []header) []header {
			first, second, _ := strings.Cut(value(all, "Authorization"), ", ")
			return append(
				without(all, "Authorization"), header{"Authorization", first},
				header{"Authorization", second},
			)
		}),
		after("a second Authorization merged into the first", func(all []header) []header {
			v := value(all, "Authorization")
			return append(without(all, "Authorization"), header{"Authorization", v + ", " + v})
		}),
		after("Authorization under another name", func(all []header) []header {
			v := value(all, "Authorization")
			return append(
				without(all, "Authorization"), header{"Proxy-Authorization", v},
				header{"X-Authorization", v},
			)
		}),
		after("Authorization as a trailer's name", func(all []header) []header {
			return append(without(all, "Authorization"), header{"Trailer", "Authorization"})
		}),
		after("underscores in names", func(all []header) []header {
			v := value(all, "X-Amz-Date")
			return append(without(all, "X-Amz-Date"), header{"X_Amz_Date", v})
		}),
	}
	for _, name := range []string{"Authorization", "X-Amz-Date", "Host"} {
		for _, second := range []string{"", "x", "the same"} {
			for _, first := range []bool{true, false} {
				list = append(
					list,
					after(fmt.Sprintf("%s twice, %q", name, second), func(all []header) []header {
						v := header{name, second}
						if second == "the same" {
							v.value = value(all, name)
						}
						if first {
							return append([]header{v}, all...)
						}
						return append(all, v)
					}),
				)
			}
		}
	}
	return list
}

func forgedShapes() []forgery {
	list := []forgery{
		signedWith(
			"another body",
			func(_ *target, s *sketch) { s.signedBody = append([]byte(" "), s.body...) },
		),
		signedWith(
			"no body, the whole one signed",
			func(_ *target, s *sketch) { s.signedBody, s.body = s.body, nil },
		),
		signedWith(
			"a body of the same JSON",
			func(_ *target, s *sketch) { s.signedBody, s.body = s.body, append(s.body, ' ') },
		),
		signedWith(
			"the hash of the empty body",
			func(_ *target, s *sketch) { s.payloadHash = hexHash(nil) },
		),
		signedWith("UNSIGNED-PAYLOAD", func(_ *target, s *sketch) {
			s.payloadHash = "UNSIGNED-PAYLOAD"
			s.add("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		}),
		signedWith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", func(_ *target, s *sketch) {
			s.payloadHash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
			s.add("X-Amz-Content-Sha256", s.payloadHash)
		}),
		signedWith("a claimed hash of another body", func(_ *target, s *sketch) {
			s.payloadHash = hexHash(nil)
			s.add("X-Amz-Content-Sha256", s.payloadHash)
		}),
		signedWith(
			"a claimed hash that differs, the right one signed",
			func(_ *target, s *sketch) { s.add("X-Amz-Content-Sha256", hexHash(nil)) },
		),
		signedWith("a query, signed", func(_ *target, s *sketch) {
			s.signedTarget, s.signedQuery = s.target, "a=b"
			s.target += "?a=b"
		}),
		signedWith("a query, not signed", func(_ *target, s *sketch) {
			s.signedTarget = s.target
			s.target += "?a=b"
		}),
		signedWith("a presigned URL", func(_ *target, s *sketch) {
			s.signedTarget = s.target
			s.target += "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + s.id + "&X-Amz-Signature=" + strings.Repeat(
				"0", 64,
			)
			s.afterSigning = func(all []header) []header { return without(all, "Authorization") }
		}),
		signedWith(
			"the path of another operation",
			func(_ *target, s *sketch) { s.signedTarget = "/agency" + apiPath + "/keys/2/metadata" },
		),
		signedWith(
			"the same path below another tenant",
			func(_ *target, s *sketch) { s.signedTarget = "/agency/archive" + s.target[len("/agency"):] },
		),
		signedWith("the empty path signed", func(_ *target, s *sketch) { s.signedTarget = "/" }),
	}
	for _, method := range []string{"GET", "PUT", "post", "PATCH", "OPTIONS", "POSTX", "CONNECT", "TRACE"} {
		list = append(
			list,
			signedWith(method+", signed", func(_ *target, s *sketch) { s.method = method }),
			signedWith(
				method+", signed as POST",
				func(_ *target, s *sketch) { s.signedMethod, s.method = s.method, method },
			),
		)
	}
	return list
}
