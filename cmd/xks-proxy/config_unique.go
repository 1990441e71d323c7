package main

// What no two key stores may have in common: name, path prefix, access key id. Both places are told, because a
// file that was copied for the next tenant is the usual cause.

import (
	"fmt"
	"strings"

	"xks-proxy/pkg/xks"
)

// uniqueness remembers which key store had something first.
type uniqueness struct {
	r          *report
	c          *config
	names      map[string]int
	prefixes   map[string]int
	accessKeys map[string]credentialPlace
}

type credentialPlace struct{ store, credential int }

func newUniqueness(r *report, c *config) *uniqueness {
	return &uniqueness{r: r, c: c, names: map[string]int{}, prefixes: map[string]int{}, accessKeys: map[string]credentialPlace{}}
}

func (u *uniqueness) name(i int) {
	at, name := storeKey(i, "name"), u.c.KeyStores[i].Name
	if !namePattern.MatchString(name) {
		u.r.errorf(at, "%s", nameRule)
		return
	}
	first, repeated := u.names[name]
	if repeated {
		u.r.errorf(at, "is the name of %s, too; names are unique", u.c.other(i, first, "name"))
		return
	}
	u.names[name] = i
}

// prefix is requirement U1.
func (u *uniqueness) prefix(i int) {
	at, prefix := storeKey(i, "path_prefix"), u.c.KeyStores[i].PathPrefix
	uri := xks.URIPath(prefix)
	emptySegment := strings.Contains(uri, "//")
	if err := xks.CheckPathPrefix(prefix); err != nil && !emptySegment {
		u.r.errorf(at, "must be empty or begin with / and hold letters, digits, /, _ and - only, %d characters at most; AWS KMS accepts no other", xks.MaxPathPrefix)
		return
	}
	if u.r.isBroken(at) {
		return
	}
	first, repeated := u.prefixes[prefix]
	if repeated {
		u.r.errorf(at, "is the path prefix of %s, too; each key store has its own", u.c.other(i, first, "path_prefix"))
		return
	}
	u.prefixes[prefix] = i
	if emptySegment {
		u.r.errorf(at, "makes the XksProxyUriPath %s; the proxy takes no path with an empty segment: end the prefix without /", uri)
	}
}

// credentials is requirements A5 and A6. It quotes no access key id that is
// none: somebody may have swapped it with the secret.
func (u *uniqueness) credentials(i int) {
	for j, credential := range u.c.KeyStores[i].Credentials {
		key := storeKey(i, fmt.Sprintf("credentials[%d].access_key_id", j))
		if !accessKeyIDPattern.MatchString(credential.AccessKeyID) {
			u.r.errorf(key, "must be 20 to 30 characters of A-Z and 2-7 (not shown: it could be the secret)")
			continue
		}
		first, repeated := u.accessKeys[credential.AccessKeyID]
		switch {
		case repeated && first.store == i:
			u.r.errorf(key, "is the access key id of credentials[%d], too; each has its own", first.credential)
		case repeated:
			other := u.c.other(i, first.store, fmt.Sprintf("credentials[%d].access_key_id", first.credential))
			u.r.errorf(key, "is an access key id of %s, too; each key store has its own: xks-proxy credentials new makes one", other)
		default:
			u.accessKeys[credential.AccessKeyID] = credentialPlace{i, j}
		}
	}
}

// other names a key of key store j for a message about key store i.
func (c *config) other(i, j int, key string) string {
	s := c.source
	if i < s.ownStores && j < s.ownStores {
		return storeKey(j, "")
	}
	path := storeKey(j, key)
	file, _ := s.locate(path)
	return fmt.Sprintf("key store %s (%s)", c.KeyStores[j].Name, placeIn(file, s.origin(path)))
}
