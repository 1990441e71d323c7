package authz

// Cases: requests with an expected decision, or requests from the log that are decided again.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Case is one case. The fields of the request have the names of the proxy's log, so that a log line
// is a case without an expectation. Other fields of the line are ignored. A field that is absent is
// absent from the request.
type Case struct {
	Name     string   `json:"name"`     // default: kms_request_id, else its number
	Expect   string   `json:"expect"`   // "allow", "deny", or "": no expectation
	Policies []string `json:"policies"` // that must decide, in any order; absent: any

	// Encrypt, Decrypt or GetKeyMetadata; GetHealthStatus is skipped (H3)
	Operation       string  `json:"operation"`
	KeyStore        string  `json:"key_store"`
	Key             string  `json:"key"`
	KeyLabel        string  `json:"key_label"`
	Owner           string  `json:"owner"`
	AWSPrincipalARN string  `json:"aws_principal_arn"`
	KMSOperation    string  `json:"kms_operation"`
	KMSKeyARN       *string `json:"kms_key_arn"`
	KMSViaService   *string `json:"kms_via_service"`
	AWSSourceVPC    *string `json:"aws_source_vpc"`
	AWSSourceVPCE   *string `json:"aws_source_vpce"`
	AccessKeyID     string  `json:"access_key_id"`
	Region          string  `json:"region"`
	KMSRequestID    string  `json:"kms_request_id"`
	// RFC 3339; absent: policies that read the time fail closed
	Time string `json:"time"`

	Other map[string]jsontext.Value `json:",embed"`
}

// caseFields are the JSON names of the fields of Case.
var caseFields = []string{
	"name", "expect", "policies", "operation", "key_store", "key", "key_label", "owner",
	"aws_principal_arn", "kms_operation", "kms_key_arn",
	"kms_via_service", "aws_source_vpc", "aws_source_vpce", "access_key_id", "region",
	"kms_request_id", "time",
}

const (
	expectAllow = "allow"
	expectDeny  = "deny"

	operationHealth = "GetHealthStatus"

	longName = 8 // bytes of a name in which two letters may be a typo; "reason" is not "region"
)

// Result is one case and its decision.
type Result struct {
	Case     Case
	Decision Decision
	Failure  string // how it differs from the expectation; "" if it does not
}

// Results are the results of the cases of a file.
type Results struct {
	Cases []Result
	// entries that policies do not decide: GetHealthStatus, and log lines that are not requests for
	// a key or that are of another key store
	Skipped int
}

// Failures returns the number of cases that differ from what is expected.
func (r Results) Failures() int {
	n := 0
	for i := range r.Cases {
		if r.Cases[i].Failure != "" {
			n++
		}
	}
	return n
}

// errCase is the error of a malformed file of cases.
var errCase = errors.New("policy cases")

// KeyStore is the key store whose policies decide, and completes cases with what the proxy adds to
// a request. The zero value stands for any key store.
type KeyStore struct {
	Name  string
	Owner string                    // where the case has none
	Label func(keyID string) string // CKA_LABEL, where the case has none; nil if it is not known
}

// complete completes a case. It returns false for a log line of another key store.
func (k KeyStore) complete(c *Case) (bool, error) {
	switch {
	case k.Name == "":
		return true, nil
	case c.KeyStore == "":
		c.KeyStore = k.Name
	case c.KeyStore != k.Name && c.Expect == "":
		return false, nil
	case c.KeyStore != k.Name:
		return false, fmt.Errorf(
			"key_store %q: the policies are those of %q", boundedText(c.KeyStore, maxName), k.Name,
		)
	}
	if c.Owner == "" {
		c.Owner = k.Owner
	}
	if c.KeyLabel == "" && k.Label != nil {
		c.KeyLabel = k.Label(c.Key)
	}
	return true, nil
}

// RunCaseFile is RunCases on a file.
func RunCaseFile(p *Policies, at KeyStore, path string) (Results, error) {
	file, err := os.Open(path)
	if err != nil {
		return Results{}, fmt.Errorf("%w: %w", errCase, err)
	}
	defer file.Close()
	r, err := RunCases(p, at, file)
	if err != nil {
		return Results{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// RunCases decides the cases in from: JSON objects one after the other, as in a log, or arrays of
// them. It decides as in enforce mode. A file without a single case is an error: a test that tests
// nothing must not pass.
func RunCases(p *Policies, at KeyStore, from io.Reader) (Results, error) {
	var r Results
	decoder := jsontext.NewDecoder(from)
	for n := 0; ; {
		kind := decoder.PeekKind()
		if kind == '[' || kind == ']' {
			_, err := decoder.ReadToken()
			if err != nil {
				return Results{}, fmt.Errorf("%w: %w", errCase, err)
			}
			continue
		}
		var c Case
		err := json.UnmarshalDecode(decoder, &c)
		if errors.Is(err, io.EOF) {
			break
		}
		n++
		if err != nil {
			return Results{}, fmt.Errorf(
				"%w: entry %d, near byte %d: %w", errCase, n, decoder.InputOffset(), err,
			)
		}
		if c.Operation == "" && c.Expect == "" || c.Operation == operationHealth {
			r.Skipped++
			continue
		}
		ours, err := at.complete(&c)
		if err != nil {
			return Results{}, fmt.Errorf("%w: entry %d: %w", errCase, n, err)
		}
		if !ours {
			r.Skipped++
			continue
		}
		one, err := c.run(p, n)
		if err != nil {
			return Results{}, fmt.Errorf("%w: entry %d: %w", errCase, n, err)
		}
		r.Cases = append(r.Cases, one)
	}
	if len(r.Cases) == 0 {
		return Results{}, fmt.Errorf(
			"%w: no request for a key among %d entries", errCase, r.Skipped,
		)
	}
	return r, nil
}

func (c Case) run(p *Policies, number int) (Result, error) {
	err := c.check()
	if err != nil {
		return Result{}, err
	}
	switch {
	case c.Name != "":
	case c.KMSRequestID != "":
		c.Name = c.KMSRequestID
	default:
		c.Name = fmt.Sprintf("case %d", number)
	}
	request, err := c.request()
	if err != nil {
		return Result{}, err
	}
	r := Result{Case: c, Decision: p.Decide(ModeEnforce, request)}
	r.Failure = c.compare(r.Decision)
	return r, nil
}

// check refuses a case that does not say what its author meant.
func (c Case) check() error {
	switch c.Expect {
	case "", expectAllow, expectDeny:
	default:
		return fmt.Errorf(
			"expect %q: use %s or %s", boundedText(c.Expect, maxName), expectAllow, expectDeny,
		)
	}
	if c.Policies != nil && c.Expect == "" {
		return errors.New("policies without expect")
	}
	for name := range c.Other {
		meant, distance := nearest(name, caseFields)
		if distance == 1 || (distance == 2 && len(name) >= longName) {
			return fmt.Errorf(
				"unknown field %q: did you mean %s?", boundedText(name, maxName), meant,
			)
		}
	}
	if c.Expect != "" && actionIndex(Action(c.Operation)) < 0 {
		return fmt.Errorf(
			"operation %q: use %s, %s or %s", boundedText(c.Operation, maxName), Encrypt, Decrypt,
			GetKeyMetadata,
		)
	}
	return nil
}

func (c Case) request() (Request, error) {
	r := Request{
		Action: Action(c.Operation), KeyStore: c.KeyStore, KeyID: c.Key, KeyLabel: c.KeyLabel,
		Owner: c.Owner, PrincipalARN: c.AWSPrincipalARN, KMSOperation: c.KMSOperation,
		KMSKeyARN: c.KMSKeyARN, KMSViaService: c.KMSViaService, SourceVPC: c.AWSSourceVPC,
		SourceVPCE: c.AWSSourceVPCE, AccessKeyID: c.AccessKeyID, Region: c.Region,
	}
	if c.Time == "" {
		return r, nil
	}
	at, err := time.Parse(time.RFC3339, c.Time)
	if err != nil {
		return Request{}, fmt.Errorf(
			"time %q is not of the form 2026-01-02T15:04:05Z", boundedText(c.Time, maxName),
		)
	}
	r.Time = at
	return r, nil
}

// compare returns how the decision differs from what is expected, or "".
func (c Case) compare(d Decision) string {
	switch {
	case c.Expect == "":
		return ""
	case d.Allowed != (c.Expect == expectAllow):
		return "expected " + c.Expect
	case c.Policies == nil:
		return ""
	}
	want, got := slices.Sorted(slices.Values(c.Policies)), slices.Sorted(slices.Values(d.Policies))
	if slices.Equal(want, got) {
		return ""
	}
	return "expected the policies " + strings.Join(want, ", ")
}

// Row is a result as people and programs read it. Its texts are bounded and have no control
// characters.
type Row struct {
	Result   string   `json:"result"` // ok, FAIL, or "-" for a case without an expectation
	Case     string   `json:"case"`
	Decision string   `json:"decision"` // allow or deny
	Policies []string `json:"policies"` // that made it
	Why      string   `json:"why"`      // and how it differs from what is expected
}

// Rows returns the results in the order of the cases.
func (r Results) Rows() []Row {
	rows := make([]Row, 0, len(r.Cases))
	for i := range r.Cases {
		one := &r.Cases[i]
		row := Row{Result: "ok", Case: boundedText(one.Case.Name, maxName), Decision: expectDeny,
			Policies: append([]string{}, one.Decision.Policies...), Why: one.Decision.Explain()}
		switch {
		case one.Failure != "":
			row.Result = "FAIL"
			row.Why += "; " + boundedText(one.Failure, maxErrorText)
		case one.Case.Expect == "":
			row.Result = "-"
		}
		if one.Decision.Allowed {
			row.Decision = expectAllow
		}
		rows = append(rows, row)
	}
	return rows
}
