package authz

// Checks of a policy beyond those of cedar-go: names that do not exist, ids that can never match,
// and fields that an operation never carries (Z4).

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// checker checks one policy and reports problems to its loader.
type checker struct {
	loader   *loader
	span     span
	problem  Problem         // where the policy begins
	reported map[string]bool // names that need not be reported again
}

// fail reports an error at the place of name, or where the policy begins.
func (c *checker) fail(name, text string) {
	c.loader.errors = append(c.loader.errors, c.at(name, text))
}

func (c *checker) warn(name, text string) {
	c.loader.warnings = append(c.loader.warnings, c.at(name, text))
}

func (c *checker) at(name, text string) Problem {
	p := c.problem
	line, column, found := c.span.find(name)
	if found {
		p.Line, p.Column = line, column
	}
	p.Text = text
	return p
}

func (c *checker) check(p *policy, tree *xast.Policy) {
	c.reported = make(map[string]bool)
	for _, scope := range []xast.IsScopeNode{tree.Principal, tree.Action, tree.Resource} {
		c.checkScope(scope)
	}
	for _, condition := range tree.Conditions {
		xast.Inspect(xast.NewNode(condition.Body), func(n xast.IsNode) bool {
			c.checkNode(n)
			return true
		})
	}
	c.checkTypes(tree)
	c.checkNeverCarried(p)
}

func (c *checker) checkScope(scope xast.IsScopeNode) {
	switch s := scope.(type) {
	case xast.ScopeTypeEq:
		c.checkEntity(s.Entity)
	case xast.ScopeTypeIn:
		c.checkEntity(s.Entity)
	case xast.ScopeTypeIsIn:
		c.checkEntity(s.Entity)
	case xast.ScopeTypeInSet:
		for _, e := range s.Entities {
			c.checkEntity(e)
		}
	}
}

func (c *checker) checkNode(n xast.IsNode) {
	if of, name, ok := attribute(n); ok {
		c.checkAttribute(string(of), string(name))
	}
	if v, ok := n.(xast.NodeValue); ok {
		c.checkValue(v.Value)
	}
	if is, ok := n.(xast.NodeTypeIs); ok {
		c.checkType(is.EntityType)
	}
	if isIn, ok := n.(xast.NodeTypeIsIn); ok {
		c.checkType(isIn.EntityType)
	}
	c.checkComparison(n)
}

func (c *checker) checkValue(v types.Value) {
	switch value := v.(type) {
	case types.EntityUID:
		c.checkEntity(value)
	case types.Set:
		for one := range value.All() {
			c.checkValue(one)
		}
	}
}

// checkAttribute reports attributes that do not exist: `context has vcpe` passes the type checker,
// and is always false.
func (c *checker) checkAttribute(of, name string) {
	known := attributesOf(of)
	if slices.Contains(known, name) || c.reported[name] {
		return
	}
	c.reported[name] = true
	c.fail(name, fmt.Sprintf("%s has no attribute %s%s; it has %s",
		of, name, didYouMean(name, known), strings.Join(known, ", ")))
}

// checkType reports types that do not exist: cedar-go's type checker accepts them behind an `is` in
// a condition, where they are always false.
func (c *checker) checkType(t types.EntityType) {
	name, known := string(t), entityTypes()
	if !slices.Contains(known, name) && t != typeAction && !c.reported[name] {
		c.reported[name] = true
		c.fail(name, noSuchType(name, known))
	}
}

// checkEntity reports ids of a form that no request ever has: such a permit or forbid would never
// match.
func (c *checker) checkEntity(e types.EntityUID) {
	id := string(e.ID)
	want := ""
	switch e.Type {
	case typeAccount:
		if !isAccount(id) {
			want = "an account id of 12 digits"
		}
	case typeUser, typeRole, typeSession, typeFederated, typeRoot, typeService:
		if got := parsePrincipal(id).uid.Type; got != e.Type {
			want = principalForms[e.Type]
			if got != typeUnknown {
				want += fmt.Sprintf("; this is the id of the entity type %s", got)
			}
		}
	case typeKeyStore:
		if !isReadable(id) {
			want = "the name of a key store"
		} else {
			c.addReference(refersToKeyStore, id)
		}
	case typeKey:
		at := strings.LastIndexByte(id, '/')
		if at <= 0 || !isKeyID(id[at+1:]) {
			want = `"key store/external key id"`
		} else {
			c.addReference(refersToKey, id)
		}
	}
	if want != "" && !c.reported[id] {
		c.reported[id] = true
		c.fail(id, fmt.Sprintf("%s can never match: its id must be %s",
			boundedText(e.String(), maxErrorText), want))
	}
}

var principalForms = map[types.EntityType]string{
	typeUser:      "an ARN arn:aws:iam::111122223333:user/path/name",
	typeRole:      "an ARN arn:aws:iam::111122223333:role/path/name",
	typeSession:   "an ARN arn:aws:sts::111122223333:assumed-role/role/session",
	typeFederated: "an ARN arn:aws:sts::111122223333:federated-user/name",
	typeRoot:      "an ARN arn:aws:iam::111122223333:root",
	typeService:   "a service principal such as ec2.amazonaws.com, or AWS Internal",
}

// checkNeverCarried warns about a policy that applies to GetKeyMetadata and reads what
// GetKeyMetadata never carries (Z4).
func (c *checker) checkNeverCarried(p *policy) {
	neverCarried := p.reads & neverInMetadata
	if neverCarried == 0 || p.reads&readsContext == readsContext ||
		!p.actions[actionIndex(GetKeyMetadata)] {
		return
	}
	name := strings.TrimPrefix(neverCarried.names()[0], "context.")
	if c.reported[name] {
		return
	}
	c.warn(name, fmt.Sprintf("GetKeyMetadata, which AWS KMS asks for in CreateKey, never carries "+
		"%s: write `action in [Action::\"Encrypt\", Action::\"Decrypt\"]` in the head, and give "+
		"GetKeyMetadata a policy of its own", strings.Join(neverCarried.names(), ", ")))
}

// knownOperations are the values of kmsOperation to expect (U11).
var knownOperations = []string{
	"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
	"CreateKey", "DescribeKey",
}

// checkComparison checks what attributes are compared with by ==, != and contains.
func (c *checker) checkComparison(n xast.IsNode) {
	var sides xast.BinaryNode
	switch b := n.(type) {
	case xast.NodeTypeEquals:
		sides = b.BinaryNode
	case xast.NodeTypeNotEquals:
		sides = b.BinaryNode
	case xast.NodeTypeContains:
		sides = b.BinaryNode
	default:
		return
	}
	for _, pair := range [...][2]xast.IsNode{{sides.Left, sides.Right}, {sides.Right, sides.Left}} {
		of, name, ok := attribute(pair[0])
		if !ok {
			continue
		}
		xast.Inspect(xast.NewNode(pair[1]), func(n xast.IsNode) bool {
			v, isValue := n.(xast.NodeValue)
			if isValue {
				c.checkCompared(string(of)+"."+string(name), v.Value)
			}
			return isValue || isSet(n)
		})
	}
}

func isSet(n xast.IsNode) bool {
	_, ok := n.(xast.NodeTypeSet)
	return ok
}

// checkCompared warns about a value that the attribute never has, and records names that only the
// configuration knows.
func (c *checker) checkCompared(attribute string, v types.Value) {
	if number, ok := v.(types.Long); ok {
		c.checkComparedNumber(attribute, int64(number))
		return
	}
	value, ok := v.(types.String)
	if !ok {
		return
	}
	text := string(value)
	switch attribute {
	case "resource.keyStore":
		c.addReference(refersToKeyStore, text)
	case "resource.owner":
		c.addReference(refersToOwner, text)
	case "context.operation":
		if !slices.Contains(knownOperations, text) {
			c.warn(text, fmt.Sprintf("AWS KMS sends no kmsOperation %q today%s",
				text, didYouMean(text, knownOperations)))
		}
	}
	form, known := attributeForms[attribute]
	if known && !form.fits(text) {
		c.warn(text, fmt.Sprintf("%s is never %q: it is %s",
			attribute, boundedText(text, maxName), form.what))
	}
}

func (c *checker) checkComparedNumber(attribute string, number int64) {
	bounds, known := numberBounds[attribute]
	if known && (number < bounds[0] || number > bounds[1]) {
		c.warn(fmt.Sprint(number), fmt.Sprintf("%s is never %d: it is %d to %d",
			attribute, number, bounds[0], bounds[1]))
	}
}

var numberBounds = map[string][2]int64{"context.hour": {0, 23}, "context.weekday": {1, 7}}

// attributeForms are the forms of attribute values.
var attributeForms = map[string]struct {
	fits func(string) bool
	what string
}{
	"principal.account":     {isAccount, "12 digits"},
	"principal.partition":   {isPartition, "aws, aws-cn, aws-us-gov, …"},
	"context.kmsKeyAccount": {isAccount, "12 digits"},
	"context.kmsKeyRegion":  {isLabel, "a region such as eu-west-1"},
	"context.region":        {isLabel, "a region such as eu-west-1"},
	"context.viaServiceName": {
		isLabel, "the first label only, such as rds; the whole is context.viaService",
	},
	"context.vpc":  {startsWith("vpc-"), "an id that begins with vpc-"},
	"context.vpce": {startsWith("vpce-"), "an id that begins with vpce-"},
	"resource.id":  {isKeyID, "an external key id, without the key store"},
}

func startsWith(prefix string) func(string) bool {
	return func(text string) bool { return strings.HasPrefix(text, prefix) }
}
