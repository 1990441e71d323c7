package config

// What two key stores must not share: name, path prefix, access key id. Messages name both places,
// because the usual cause is a file that was copied for the next tenant.

import (
	"errors"
	"fmt"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

// uniqueness remembers which key store had something first.
type uniqueness struct {
	r          *schema.Report
	c          *Config
	names      map[string]int
	prefixes   map[string]int
	accessKeys map[string]credentialPlace
}

type credentialPlace struct{ store, credential int }

func newUniqueness(r *schema.Report, c *Config) *uniqueness {
	return &uniqueness{
		r: r, c: c, names: map[string]int{}, prefixes: map[string]int{},
		accessKeys: map[string]credentialPlace{},
	}
}

func (u *uniqueness) name(i int) {
	at, name := schema.StoreKey(i, "name"), u.c.KeyStores[i].Name
	if !text.IsName(name) {
		u.r.Errorf(at, "%s", NameRule)
		return
	}
	first, repeated := u.names[name]
	if repeated {
		u.r.Errorf(at, "is the name of %s, too; names are unique", u.c.other(i, first, "name"))
		return
	}
	u.names[name] = i
}

// prefix checks requirement U1.
func (u *uniqueness) prefix(i int) {
	at, prefix := schema.StoreKey(i, "path_prefix"), u.c.KeyStores[i].PathPrefix
	err := xks.CheckPathPrefix(prefix)
	emptySegment := errors.Is(err, xks.ErrEmptySegment)
	if err != nil && !emptySegment {
		u.r.Errorf(at, "must be empty or begin with / and hold letters, digits, /, _ and - only, "+
			"%d characters at most; AWS KMS accepts no other", xks.MaxPathPrefix)
		return
	}
	if u.r.IsBroken(at) {
		return
	}
	first, repeated := u.prefixes[prefix]
	if repeated {
		u.r.Errorf(
			at, "is the path prefix of %s, too; each key store has its own",
			u.c.other(i, first, "path_prefix"),
		)
		return
	}
	u.prefixes[prefix] = i
	if emptySegment {
		u.r.Errorf(at, "makes the XksProxyUriPath %s; the proxy takes no path with an empty "+
			"segment: end the prefix without /", xks.URIPath(prefix))
	}
}

// credentials checks requirements A5 and A6. It does not quote an invalid access key id, because it
// may have been swapped with the secret.
func (u *uniqueness) credentials(i int) {
	for j, credential := range u.c.KeyStores[i].Credentials {
		key := schema.StoreKey(i, fmt.Sprintf("credentials[%d].access_key_id", j))
		if !sigv4.IsAccessKeyID(credential.AccessKeyID) {
			u.r.Errorf(key, "must be 20 to 30 characters of A-Z and 2-7 (not shown: it could be "+
				"the secret)")
			continue
		}
		first, repeated := u.accessKeys[credential.AccessKeyID]
		switch {
		case repeated && first.store == i:
			u.r.Errorf(
				key, "is the access key id of credentials[%d], too; each has its own",
				first.credential,
			)
		case repeated:
			other := u.c.other(
				i, first.store, fmt.Sprintf("credentials[%d].access_key_id", first.credential),
			)
			u.r.Errorf(key, "is an access key id of %s, too; each key store has its own: "+
				"xks-proxy credentials new makes one", other)
		default:
			u.accessKeys[credential.AccessKeyID] = credentialPlace{i, j}
		}
	}
}

// other names a key of key store j for a message about key store i.
func (c *Config) other(i, j int, key string) string {
	s := c.Source
	if i < s.OwnStores && j < s.OwnStores {
		return schema.StoreKey(j, "")
	}
	path := schema.StoreKey(j, key)
	file, _ := s.Locate(path)
	return fmt.Sprintf(
		"key store %s (%s)", c.KeyStores[j].Name, schema.PlaceIn(file, s.Origin(path)),
	)
}
