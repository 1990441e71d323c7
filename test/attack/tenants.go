package main

// Crossing from one tenant to another: by the spelling of paths, by key ids, by ciphertexts.

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// pathTricks are spellings that some server, proxy or router takes for prefix + below, or for a
// path beside it. None of them is a path of the API, which is matched byte by byte (requirement
// U5).
func pathTricks(mine, theirs, below string) []string {
	base := theirs + apiPath
	api := apiPath[1:]
	up := strings.Repeat("/..", strings.Count(mine+apiPath, "/"))
	key, operation := below, ""
	if at := strings.LastIndex(below, "/"); at > 0 {
		key, operation = below[:at], below[at:]
	}
	list := []string{
		mine + apiPath + up + base + below,
		mine + apiPath + strings.ReplaceAll(up, "..", "%2e%2e") + base + below,
		mine + apiPath + strings.ReplaceAll(
			up, "..", "%2E.",
		) + base + below, mine + apiPath + strings.ReplaceAll(up, "/", "%2f") + base + below,
		mine + apiPath + strings.ReplaceAll(
			up, "/", `\`,
		) + base + below, mine + apiPath + strings.ReplaceAll(up, "/", "%5c") + base + below,
		mine + apiPath + strings.ReplaceAll(
			up, "..", "%c0%ae%c0%ae",
		) + base + below, mine + apiPath + strings.ReplaceAll(up, "..", "%252e%252e") + base + below,
		mine + apiPath + strings.ReplaceAll(
			up, "..", "..;",
		) + base + below, mine + apiPath + strings.ReplaceAll(up, "..", "\xc0\xae\xc0\xae") + base + below,
		mine + apiPath + strings.ReplaceAll(
			up, "..", "\uff0e\uff0e",
		) + base + below, mine + apiPath + strings.ReplaceAll(up, "..", "...") + base + below,
		mine + apiPath + "/keys" + up + "/.." + base + below,
		mine + apiPath + "/keys/1" + up + "/../.." + base + below,
		"/." + base + below, "/" + base + below, "//" + base + below, "/.." + base + below,
		"/%2e" + base + below, "/%2f" + base[1:] + below,
		theirs + "/" + apiPath + below, theirs + "/." + apiPath + below,
		theirs + apiPath + "/" + below, theirs + apiPath + "/." + below,
		base + below + "/", base + below + "/.", base + below + "//", base + below + "%00",
		base + below + "%20", base + below + "%0a", base + below + "%0d%0a",
		base + below + ";a=b", base + below + "#x", base + below + "?", base + below + "?x",
		base + below + "%3f", base + below + "%23", base + below + "\xff",
		theirs + ";a=b" + apiPath + below, theirs + "%2f" + api + below,
		theirs + "/kms%2fxks%2fv1" + below, theirs + "/kms/xks/v1%2f" + below[1:],
		theirs + "/KMS/xks/v1" + below, theirs + "/kms/xks/V1" + below,
		strings.ToUpper(base) + below, base + strings.ToUpper(below),
		theirs + "x" + apiPath + below, theirs + "/x" + apiPath + below,
		theirs + "/*" + apiPath + below, "/*" + apiPath + below, "/{prefix}" + apiPath + below,
		theirs + "/kms/xks/v1.0" + below, theirs + "/kms/xks/v2" + below,
		theirs + "/kms/xks" + below, theirs + "/kms/xks/v1x" + below,
		theirs + "/%6bms/xks/v1" + below,
		theirs + "/ｋms/xks/v1" + below, theirs + "/\u212ams/xks/v1" + below,
		theirs + "/kms/x\u212as/v1" + below,
		base + key + "%2f" + strings.TrimPrefix(
			operation, "/",
		), base + key + "//" + strings.TrimPrefix(operation, "/"), base + key + "/." + operation, base + key + "/x/.." + operation,
		base + strings.Replace(
			below, "/keys/", "/keys/%", 1,
		), base + strings.Replace(below, "/keys/", "/keys//", 1), base + strings.Replace(below, "/keys/", "/keys/./", 1),
		base + strings.Replace(
			below, "/keys/", "/keys/x/../", 1,
		), base + strings.Replace(below, "/keys/", "/Keys/", 1),
		"http://localhost" + base + below, "https://localhost" + base + below,
		"http://archive" + base + below, "//localhost" + base + below, "https:" + base + below,
		"*", "", base[1:] + below, "\\" + base[1:] + below, "/agenc" + apiPath + below,
		"/agency/arch" + apiPath + below, "/agency/archive/agency" + apiPath + below,
	}
	if len(theirs) > 1 {
		first := fmt.Sprintf("/%%%02x", theirs[1]) + theirs[2:]
		list = append(
			list, first+apiPath+below, "/"+strings.ToUpper(theirs[1:2])+theirs[2:]+apiPath+below,
			strings.ToUpper(theirs)+apiPath+below, theirs[:len(theirs)-1]+apiPath+below,
			theirs+"%20"+apiPath+below, theirs+"."+apiPath+below,
			strings.ReplaceAll(theirs, "/", "%2f")+apiPath+below,
			"/"+strings.ReplaceAll(theirs[1:], "/", "%2F")+apiPath+below,
			"/"+strings.ReplaceAll(theirs[1:], "/", `\`)+apiPath+below,
			"/"+strings.ReplaceAll(theirs[1:], "/", "//")+apiPath+below,
		)
	}
	return list
}

// crossPaths signs with one tenant's credential and spells another's paths, or its own in a way
// that is not the API's.
func crossPaths(ctx context.Context, t *target, n *tally) error {
	for i := range t.Tenants {
		for j := range t.Tenants {
			mine, theirs := &t.Tenants[i], &t.Tenants[j]
			if t.Short && (i == j || mine.Patterns != nil) {
				continue
			}
			bodies := map[string][]byte{
				"/keys/" + theirs.Keys[0] + "/encrypt":  encryptBody("crossing"),
				"/keys/" + theirs.Keys[0] + "/decrypt":  decryptBody(t.Sealed[j]),
				"/keys/" + theirs.Keys[0] + "/metadata": metadataBody(),
				"/health":                               healthBody(),
			}
			for below, body := range bodies {
				tricks := pathTricks(mine.Prefix, theirs.Prefix, below)
				if i != j {
					tricks = append(
						tricks, theirs.path(below),
					) // with nothing but the wrong credential
				}
				inParallel(
					ctx, len(tricks), 4,
					func(k int) { crossPath(t, n, mine, theirs, tricks[k], below, body) },
				)
			}
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("not all paths were tried: %w", ctx.Err())
	}
	return nil
}

// crossPath sends one spelling, signed in each way in which a lenient verifier might read it.
func crossPath(t *target, n *tally, mine, theirs *tenant, trick, below string, body []byte) {
	if mine == theirs && trick == theirs.path(below) {
		return
	}
	c := &wire{target: t}
	defer c.close()
	for _, signed := range []string{trick, encoded(trick), theirs.path(below), mine.path(below)} {
		s := newSketch(t, mine, "", body)
		s.target, s.signedTarget = trick, signed
		r, err := c.ask(s.bytes())
		n.noteReply(r, err)
		switch {
		case r == nil || r.status != 200:
		case mine == theirs && trick == theirs.path(below)+"?":
			n.legal() // an empty query is none (requirement U5)
		default:
			n.accept("%s reaches %s by %q, signed as %q", mine.Name, theirs.Name, trick, signed)
		}
	}
}

// encoded is AWS's way: every byte that is not unreserved, a percent sign too.
func encoded(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// foreignKeys are external key ids that do not belong to the tenant, with characters that patterns,
// templates, paths and files give a meaning to.
func foreignKeys(t *target, mine *tenant) []string {
	list := []string{
		testKey, "demo-key-*", "*", "?", "[12]", "{key_id}", "demo-key-{key_id}", "../demo-key-3",
		"1%2f..%2f3", "%2a", "1%00", "1.", ".1", "1 ", "%31", "+1", "01", "1\x00", "impotent_key",
		"encrypt_only_key", "decrypt_only_key", "..", ".", "-", "_", "$3", "1,3", "1;3", "1|3",
		strings.Repeat("1", 128), strings.Repeat("1", 129), strings.Repeat("a", 4000), "\u0661",
		"\uff11", "xks-proxy-test%20", "XKS-PROXY-TEST", "xks-proxy-tes?", "xks-proxy-tes*", "0x1",
		"1.0", "-key-3", "key-3",
	}
	for i := range t.Tenants {
		other := &t.Tenants[i]
		if other != mine {
			list = append(list, other.Labels...)
			list = append(list, other.Keys...)
		}
	}
	for n := range 10 {
		list = append(list, fmt.Sprint(n), fmt.Sprintf("demo-key-%d", n))
	}
	return list
}

// crossKeys asks for others' keys on one's own path, and gives others' ciphertexts to one's own
// keys.
func crossKeys(ctx context.Context, t *target, n *tally) error {
	c := &wire{target: t}
	defer c.close()
	for i := range t.Tenants {
		mine := &t.Tenants[i]
		own := map[string]bool{}
		for _, key := range mine.Keys {
			own[key] = true
		}
		for _, key := range foreignKeys(t, mine) {
			if own[key] ||
				mine.Patterns != nil && key != testKey && !strings.ContainsAny(key, "*?") {
				continue
			}
			for operation, body := range map[string][]byte{"encrypt": encryptBody("crossing"), "decrypt": decryptBody(t.Sealed[(i+1)%len(t.Sealed)]), "metadata": metadataBody()} {
				if ctx.Err() != nil {
					return fmt.Errorf("not all keys were tried: %w", ctx.Err())
				}
				r, err := askPatiently(
					c,
					func() []byte { return newSketch(t, mine, "/keys/"+key+"/"+operation, body).bytes() },
				)
				n.noteReply(r, err)
				if r != nil && r.status == 200 {
					n.accept("%s reaches key %q by %s: %s", mine.Name, key, operation, r.body)
				}
			}
		}
		err := crossData(t, n, c, i)
		if err != nil {
			return err
		}
	}
	return nil
}

// askPatiently asks again where unknown keys are shed: the look that tells that there is no such
// key.
func askPatiently(c *wire, request func() []byte) (*reply, error) {
	for try := 1; ; try++ {
		r, err := c.ask(request())
		if err != nil || r.status != 429 || try == 5 {
			return r, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// crossData decrypts what other keys encrypted, and one's own with every field changed.
func crossData(t *target, n *tally, c *wire, i int) error {
	mine := &t.Tenants[i]
	try := func(what, key string, sealed []byte) {
		r, err := c.ask(newSketch(t, mine, "/keys/"+key+"/decrypt", decryptBody(sealed)).bytes())
		n.noteReply(r, err)
		if r != nil && r.status == 200 {
			n.accept("%s decrypts %s with key %q", mine.Name, what, key)
		}
	}
	for j, sealed := range t.Sealed {
		for k, key := range mine.Keys {
			if t.Tenants[j].Labels[0] == mine.Labels[k] || mine.Patterns != nil {
				continue // it is the same key, or he may reach it
			}
			try("a ciphertext of "+t.Tenants[j].Name, key, sealed)
		}
	}
	var fields map[string][]byte
	err := json.Unmarshal([]byte("{"+strings.TrimPrefix(string(t.Sealed[i]), ",")+"}"), &fields)
	if err != nil {
		return fmt.Errorf("the fields of a ciphertext: %w", err)
	}
	for name, value := range fields {
		for bit := range 8 * len(value) {
			changed := map[string][]byte{}
			for other, v := range fields {
				changed[other] = append([]byte(nil), v...)
			}
			changed[name][bit/8] ^= 1 << (bit % 8)
			text, err := json.Marshal(changed)
			if err != nil {
				return err
			}
			sealed, err := sealedFields(text)
			if err != nil {
				return err
			}
			try(fmt.Sprintf("its own with bit %d of %s changed", bit, name), mine.Keys[0], sealed)
		}
	}
	return nil
}
