package authz

// What a decision can cost at most. A set that could take longer is refused when it is loaded, so
// that no caller, whatever its ARN, makes the proxy slow. The cost is counted in steps of about a
// nanosecond (BenchmarkCostliest). It is an upper bound for any request.

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

const (
	maxCost = 5_000_000 // steps of one decision: some 5 ms

	headCost   = 25  // of each policy for the action
	policyCost = 300 // of each whose head admits the request
	nodeCost   = 80  // of each operator, attribute and literal
	parseCost  = 400 // of an extension function, in addition to its text
	recordCost = 400 // of an element of a record, in addition to its text
)

// textLengths are the longest values of attributes of principal, resource and context, in bytes,
// where they are shorter than maxText.
var textLengths = map[types.String]int{
	"account": 12, "kmsKeyAccount": 12, "partition": maxName, "kmsKeyRegion": maxName,
	"viaServiceName": maxName, "name": maxService, "sessionName": maxName, "path": maxPath,
	"id": 128,
}

// costOf returns an upper bound of the steps that evaluating the conditions takes.
func costOf(tree *xast.Policy) int {
	cost := policyCost
	for _, condition := range tree.Conditions {
		xast.Inspect(xast.NewNode(condition.Body), func(n xast.IsNode) bool {
			cost += nodeCost + ownCost(n)
			return true
		})
	}
	return cost
}

// ownCost returns what a node costs beyond its operands: where texts are searched, parsed or
// hashed.
func ownCost(n xast.IsNode) int {
	switch node := n.(type) {
	case xast.NodeTypeLike:
		return likeCost(node.Value, textLength(node.Arg))
	case xast.NodeTypeContains:
		return textLength(node.Right)
	case xast.NodeTypeSet:
		cost := 0
		for _, element := range node.Elements {
			cost += textLength(element)
		}
		return cost
	case xast.NodeTypeRecord:
		cost := 0
		for _, element := range node.Elements {
			cost += recordCost + textLength(element.Value)
		}
		return cost
	case xast.NodeValue:
		return valueCost(node.Value)
	case xast.NodeTypeExtensionCall:
		cost := parseCost
		for _, argument := range node.Args {
			cost += textLength(argument)
		}
		return cost
	}
	return 0
}

// valueCost returns the cost of a literal: `in` compares each element of a set.
func valueCost(v types.Value) int {
	set, ok := v.(types.Set)
	if !ok {
		return 0
	}
	return nodeCost * set.Len()
}

// likeCost returns the cost of a pattern match. cedar-go searches each literal piece of the pattern
// from left to right and never goes back behind a piece that it has found. A piece behind a * is
// compared at every place of the text.
func likeCost(pattern types.Pattern, length int) int {
	total, longest := patternPieces(pattern)
	return total + length*(longest+1)
}

// patternPieces returns the length of all literal pieces, and that of the longest behind a *.
func patternPieces(pattern types.Pattern) (int, int) {
	document, err := pattern.MarshalJSON()
	if err != nil {
		return maxFile, maxFile
	}
	var parts []any
	err = json.Unmarshal(document, &parts)
	if err != nil {
		return maxFile, maxFile
	}
	total, longest := 0, 0
	for i, part := range parts {
		literal, ok := part.(map[string]any)
		if !ok {
			continue
		}
		text, _ := literal["Literal"].(string)
		total += len(text)
		if i > 0 {
			longest = max(longest, len(text))
		}
	}
	if longest == 0 {
		longest = -1 // only the beginning is compared
	}
	return total, longest
}

// textLength returns the most bytes that the value of an expression can have, as a text.
func textLength(n xast.IsNode) int {
	switch node := n.(type) {
	case xast.NodeValue:
		text, ok := node.Value.(types.String)
		if ok {
			return len(text)
		}
		return 0
	case xast.NodeTypeAccess: // a record in the policy may have an attribute of that name, too
		_, name, ofVariable := attribute(node)
		length, known := textLengths[name]
		if ofVariable && known {
			return length
		}
	}
	return maxText
}

// scope is which requests a policy can concern, as far as its head tells: those for a key store,
// and those of an account or of a principal without one. "" stands for all.
type scope struct{ keyStore, principal string }

func (p *policy) scope() scope {
	var w scope
	switch p.resource.entity.Type {
	case typeKeyStore:
		w.keyStore = string(p.resource.entity.ID)
	case typeKey:
		id := string(p.resource.entity.ID)
		w.keyStore = id[:max(0, strings.LastIndexByte(id, '/'))]
	}
	switch entity := p.principal.entity; entity.Type {
	case "":
	case typeAccount:
		w.principal = string(entity.ID)
	default:
		w.principal = parsePrincipal(string(entity.ID)).account
		if w.principal == "" {
			w.principal = entity.String()
		}
	}
	return w
}

// cost returns an upper bound of the steps of a decision about the action. A request meets the
// policies for everybody, those for its key store, those for its principal, and those for both.
func (p *Policies) cost(action int) int {
	sums := map[scope]int{}
	for _, one := range p.byAction[action] {
		sums[one.scope()] += one.cost
	}
	most, anyStore, anyPrincipal := 0, 0, 0
	for w, sum := range sums {
		switch {
		case w.keyStore != "" && w.principal != "":
			both := sum + sums[scope{keyStore: w.keyStore}] + sums[scope{principal: w.principal}]
			most = max(most, both)
		case w.keyStore != "":
			anyStore = max(anyStore, sum)
		case w.principal != "":
			anyPrincipal = max(anyPrincipal, sum)
		}
	}
	return headCost*len(p.byAction[action]) + sums[scope{}] + max(most, anyStore+anyPrincipal)
}

// tooExpensive returns the error of a set whose decisions may take too long, at its costliest
// policy, and whether there is one.
func (p *Policies) tooExpensive() (Problem, bool) {
	for i, action := range actions {
		cost := p.cost(i)
		if cost <= maxCost {
			continue
		}
		costliest := p.byAction[i][0]
		for _, one := range p.byAction[i] {
			if one.cost > costliest.cost {
				costliest = one
			}
		}
		problem := costliest.problem
		problem.Text = fmt.Sprintf("a decision about %s could take %s steps, and %s are allowed "+
			"(one is about a nanosecond); of the %d policies this one takes most, %s: shorten "+
			"what stands behind a * in `like`, write == or [\"…\"].contains(…) instead of it, "+
			"or name accounts and key stores in the heads",
			action, thousands(cost), thousands(maxCost), len(p.byAction[i]),
			thousands(costliest.cost))
		return problem, true
	}
	return Problem{}, false
}

// thousands formats 1234567 as 1,234,567.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
