package authz

// The type checker of cedar-go with the proxy's schema, and its errors reworded. It is an
// experimental package of cedar-go: errors in other words than those expected here are passed on
// unchanged.

import (
	_ "embed" // the schema
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

// Schema is the schema that policies are checked against, in Cedar's schema language. It is the
// file configs/policies/xks-proxy.cedarschema.
//
//go:embed xks-proxy.cedarschema
var Schema string

// resolvedSchema panics if the embedded schema is broken, which a test rules out.
var resolvedSchema = sync.OnceValue(func() *resolved.Schema {
	var s schema.Schema
	s.SetFilename("xks-proxy.cedarschema")
	err := s.UnmarshalCedar([]byte(Schema))
	if err != nil {
		panic(err)
	}
	r, err := s.Resolve()
	if err != nil {
		panic(err)
	}
	return r
})

var validator = sync.OnceValue(func() *validate.Validator { return validate.New(resolvedSchema()) })

// attributesOf returns the attributes that a variable of policies can have, over all actions and
// types.
func attributesOf(variable string) []string {
	return knownAttributes()[variable]
}

var knownAttributes = sync.OnceValue(func() map[string][]string {
	sets := map[string]map[types.String]bool{"principal": {}, "resource": {}, "context": {}}
	add := func(variable string, record resolved.RecordType) {
		for name := range record {
			sets[variable][name] = true
		}
	}
	s := resolvedSchema()
	for _, a := range s.Actions {
		if a.AppliesTo == nil {
			continue
		}
		add("context", a.AppliesTo.Context)
		for _, t := range a.AppliesTo.Principals {
			add("principal", s.Entities[t].Shape)
		}
		for _, t := range a.AppliesTo.Resources {
			add("resource", s.Entities[t].Shape)
		}
	}
	known := make(map[string][]string, len(sets))
	for variable, set := range sets {
		for name := range set {
			known[variable] = append(known[variable], string(name))
		}
		slices.Sort(known[variable])
	}
	return known
})

var (
	notOnEntity  = regexp.MustCompile("^attribute `([^`]*)` on entity types? (.*) not found$")
	notInContext = regexp.MustCompile(
		"^attribute `([^`]*)` in context for Action::\"([^\"]*)\" not found$",
	)
	notGuarded = regexp.MustCompile(
		"^unable to guarantee safety of access to optional attribute `([^`]*)`(.*)$",
	)
	noEntityType = regexp.MustCompile("^unrecognized entity type `([^`]*)`$")
	mixedTypes   = regexp.MustCompile("^the types (.*) are not compatible$")
	noAction     = regexp.MustCompile("^unrecognized action `Action::\"([^`]*)\"`$")
	wantsEntity  = regexp.MustCompile(
		"^unexpected type: expected .*AnyEntity but saw (Set<)?String",
	)
)

const noApplicableAction = "unable to find an applicable action given the policy scope constraints"

// checkTypes reports each finding of cedar-go's type checker once.
func (c *checker) checkTypes(tree *xast.Policy) {
	err := validator().Policy("", tree)
	if err == nil {
		return
	}
	lacking := make(map[string][]string) // entity types by attribute that they do not have
	said := make(map[string]bool)
	for _, message := range messages(err) {
		if m := notOnEntity.FindStringSubmatch(message); m != nil {
			lacking[m[1]] = append(lacking[m[1]], strings.ReplaceAll(m[2], "`", ""))
			continue
		}
		name, text := explainTypeError(message)
		if said[text] || c.reported[name] || (message == noApplicableAction && len(said) > 0) {
			continue
		}
		said[text] = true
		c.fail(name, text)
		if notInContext.MatchString(message) {
			c.reported[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lacking)) {
		if c.reported[name] {
			continue
		}
		kinds := lacking[name]
		slices.Sort(kinds)
		c.fail(name, fmt.Sprintf("there is no attribute %s on %s: ask first, `… has %s && …`, or "+
			"write `is` and a type in the head",
			name, strings.Join(slices.Compact(kinds), ", "), name))
	}
}

// messages splits the joined error and sorts its messages: their order depends on maps, and a
// faulty file must give the same report each time.
func messages(err error) []string {
	var all []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, messages(one)...)
		}
	} else {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	follows := slices.Index(all, noApplicableAction) // from the others: last
	if follows >= 0 {
		all = append(slices.Delete(all, follows, follows+1), noApplicableAction)
	}
	return all
}

// explainTypeError returns the name that an error is about, and the text for the operator.
func explainTypeError(message string) (string, string) {
	if m := notInContext.FindStringSubmatch(message); m != nil {
		return m[1], fmt.Sprintf(
			"%s never carries context.%s: write the actions that do in the head, `action in "+
				"[Action::\"Encrypt\", Action::\"Decrypt\"]`",
			m[2], m[1],
		)
	}
	if m := notGuarded.FindStringSubmatch(message); m != nil {
		of := "principal"
		switch {
		case strings.HasPrefix(m[2], " in context"):
			of = "context"
		case strings.Contains(m[2], "`"+string(typeKey)+"`"):
			of = "resource"
		}
		return m[1], fmt.Sprintf(
			"%s.%s may be absent: ask first, `%s has %s && …`", of, m[1], of, m[1],
		)
	}
	if m := noEntityType.FindStringSubmatch(message); m != nil {
		return m[1], noSuchType(m[1], entityTypes())
	}
	if m := noAction.FindStringSubmatch(message); m != nil {
		known := []string{actionGroup}
		for _, a := range actions {
			known = append(known, string(a))
		}
		if m[1] == operationHealth {
			return m[1], "there is no action GetHealthStatus: health checks of AWS KMS are never " +
				"subject to policies; leave it out"
		}
		return m[1], fmt.Sprintf(
			"there is no action %q%s; there are %s", m[1], didYouMean(m[1], known),
			strings.Join(known, ", "),
		)
	}
	if m := mixedTypes.FindStringSubmatch(message); m != nil {
		return "", explainMixed(m[1])
	}
	if wantsEntity.MatchString(message) {
		return "", "`in` is for entities and sets of them; " +
			"for texts write `[\"…\", \"…\"].contains(…)`"
	}
	if message == noApplicableAction {
		return "", "no request can match the head: no action has such a principal and such a " +
			"resource"
	}
	return "", "type check: " + boundedText(message, maxErrorText)
}

// explainMixed explains a mix of types such as "Long and String", in the type checker's words.
func explainMixed(both string) string {
	first, second, _ := strings.Cut(strings.ReplaceAll(both, "`", ""), " and ")
	entities := entityTypes()
	entity := slices.Contains(entities, first) || slices.Contains(entities, second)
	switch {
	case entity && (first == "String" || second == "String"):
		return "a text and an entity are never equal: write the entity, such as Role::\"arn:…\", " +
			"or compare one of its attributes, such as principal.arn"
	case first == "Long" && second == "String", first == "String" && second == "Long":
		return "a number and a text are never equal: write numbers without quotes"
	}
	return fmt.Sprintf("%s do not go together in one set or comparison: write `… || …`", both)
}

func noSuchType(name string, known []string) string {
	return fmt.Sprintf("there is no entity type %s%s", name, didYouMean(name, known))
}

func entityTypes() []string {
	var names []string
	for name := range resolvedSchema().Entities {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}
