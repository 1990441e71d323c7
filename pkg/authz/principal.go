package authz

// The principal: awsPrincipalArn, parsed. Every text is some principal. One that cannot be parsed
// is Unknown and belongs to no account.

import (
	"strings"

	"github.com/cedar-policy/cedar-go/types"
)

// The entity types of the schema.
const (
	typeAccount   types.EntityType = "Account"
	typeUser      types.EntityType = "User"
	typeRole      types.EntityType = "Role"
	typeSession   types.EntityType = "AssumedRoleSession"
	typeFederated types.EntityType = "FederatedUser"
	typeRoot      types.EntityType = "RootUser"
	typeService   types.EntityType = "Service"
	typeUnknown   types.EntityType = "Unknown"
	typeKeyStore  types.EntityType = "KeyStore"
	typeKey       types.EntityType = "Key"
	typeAction    types.EntityType = "Action"
)

const (
	awsInternal = "AWS Internal" // what KMS sends for some callers inside AWS

	maxText    = 2048 // bytes of a value that a policy sees: the longest ARN (U9)
	maxUnknown = 256  // bytes of the id of an Unknown
	maxPath    = 512  // bytes of an IAM path
	maxName    = 64   // bytes of an IAM name
	maxService = 253  // bytes of a service principal: a host name
)

// principal is a parsed awsPrincipalArn. Fields that its type does not have are empty.
type principal struct {
	uid                types.EntityUID
	arn                string
	partition, account string
	path, name         string
	session            string
	service            string // of a service-linked role
	role               string // of a session: the ARN of the role, without its path
}

// parsePrincipal never fails: a text that it does not understand is Unknown.
func parsePrincipal(text string) principal {
	if isService(text) {
		return principal{
			uid: types.NewEntityUID(typeService, types.String(text)), arn: text, name: text,
		}
	}
	p, ok := parseIdentity(text)
	if !ok {
		id := boundedText(text, maxUnknown)
		return principal{uid: types.NewEntityUID(typeUnknown, types.String(id)), arn: id}
	}
	return p
}

// parseIdentity parses the ARNs of accounts' own identities:
//
//	arn:P:iam::A:root
//	arn:P:iam::A:user/path/name
//	arn:P:iam::A:role/path/name
//	arn:P:sts::A:assumed-role/name/session
//	arn:P:sts::A:federated-user/name
func parseIdentity(text string) (principal, bool) {
	a, ok := parseARN(text)
	if !ok || a.region != "" {
		return principal{}, false
	}
	p := principal{arn: text, partition: a.partition, account: a.account}
	kind, rest, _ := strings.Cut(a.resource, "/")
	var found types.EntityType
	switch {
	case a.service == "iam" && a.resource == "root":
		found = typeRoot
	case a.service == "iam" && kind == "user":
		found = typeUser
		p.path, p.name = splitPath(rest)
		ok = isPath(p.path) && isName(p.name)
	case a.service == "iam" && kind == "role":
		found = typeRole
		p.path, p.name = splitPath(rest)
		p.service = linkedService(p.path)
		ok = isPath(p.path) && isRoleName(p.name)
	case a.service == "sts" && kind == "assumed-role":
		found = typeSession
		p.name, p.session, _ = strings.Cut(rest, "/")
		p.role = "arn:" + a.partition + ":iam::" + a.account + ":role/" + p.name
		ok = isRoleName(p.name) && isName(p.session)
	case a.service == "sts" && kind == "federated-user":
		found = typeFederated
		p.name = rest
		ok = isName(p.name)
	default:
		return principal{}, false
	}
	p.uid = types.NewEntityUID(found, types.String(text))
	return p, ok
}

// ancestors returns all ancestors of the principal in the hierarchy of entities.
func (p *principal) ancestors() []types.EntityUID {
	found := make([]types.EntityUID, 0, 2)
	if p.account != "" {
		found = append(found, types.NewEntityUID(typeAccount, types.String(p.account)))
	}
	if p.role != "" {
		found = append(found, types.NewEntityUID(typeRole, types.String(p.role)))
	}
	return found
}

// attributes returns the attributes of the principal that the schema has for its type.
func (p *principal) attributes() types.Record {
	m := make(types.RecordMap, 6)
	m["arn"] = types.String(p.arn)
	for _, a := range [...]struct {
		name  types.String
		value string
	}{
		{"partition", p.partition}, {"account", p.account}, {"path", p.path}, {"name", p.name},
		{"sessionName", p.session}, {"service", p.service},
	} {
		if a.value != "" {
			m[a.name] = types.String(a.value)
		}
	}
	return types.NewRecord(m)
}

func splitPath(rest string) (string, string) {
	end := strings.LastIndexByte(rest, '/') + 1
	return "/" + rest[:end], rest[end:]
}

// linkedService returns the service that a service-linked role belongs to, or "". IAM lets nobody
// else create roles under this path.
func linkedService(path string) string {
	service, ok := strings.CutPrefix(path, "/aws-service-role/")
	if !ok {
		return ""
	}
	service = strings.TrimSuffix(service, "/")
	if !isService(service) {
		return ""
	}
	return service
}
