package cli

// What `config check` prints: sentences for eyes, or JSON for programs.

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"xks-proxy/internal/check"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/text"
)

// checkJSON is the answer of `config check --json`.
type checkJSON struct {
	File       string        `json:"file"`
	Good       bool          `json:"good"`       // no problem is an error
	Problems   []problemJSON `json:"problems"`   // errors in the order of the files, then warnings
	NotChecked []string      `json:"notChecked"` // what could not be known, a sentence each
}

type problemJSON struct {
	Severity string `json:"severity"` // error or warning
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`   // from 1; without one it is about the file as a whole
	Column   int    `json:"column,omitempty"` // from 1
	Variable string `json:"variable,omitempty"`
	Field    string `json:"field,omitempty"` // such as hsms[0].pin.file
	Message  string `json:"message"`
	Remedy   string `json:"remedy,omitempty"` // what to do, if that is not plain from the message
}

// remedyForm finds the last part of a message that says what to do.
var remedyForm = regexp.MustCompile(
	`^(.*?); ((?:run:|did you mean|known:|write |give |remove |put |save |set |name |choose |` +
		`end |make |use |add |install |store |unset |look at |indent |` +
		`delete |correct |close |probe |xks-proxy ).*)$`,
)

func problemAsJSON(p schema.Problem, severity string) problemJSON {
	message, remedy := p.Message, ""
	if found := remedyForm.FindStringSubmatch(p.Message); found != nil {
		message, remedy = found[1], found[2]
	}
	j := problemJSON{
		Severity: severity, File: p.File, Line: p.Origin.Line, Column: p.Origin.Column,
		Variable: p.Origin.Variable,
		Field:    p.Path, Message: message, Remedy: remedy,
	}
	if j.Variable != "" {
		j.File = ""
	}
	return j
}

// printCheck prints the outcome, and returns the error that makes the exit code.
func printCheck(c *cobra.Command, k *check.Result, path string, asJSON bool) error {
	errs := k.Report.Sorted()
	if asJSON {
		err := printCheckJSON(c, k, path, errs)
		if err == nil && len(errs) > 0 {
			err = command.ExitError{Code: command.ExitFailed}
		}
		return err
	}
	command.PrintWarnings(c, k.Report.Warnings)
	if len(errs) > 0 {
		for _, what := range k.NotChecked {
			fmt.Fprintf(c.ErrOrStderr(), "not checked: %s\n", what)
		}
		var err error = &schema.Error{File: k.Report.File, Problems: errs}
		advice := ""
		if !k.Options.NoSecrets && k.Config != nil {
			advice = command.NeedsSystemd(c.Context(), k.Config.SecretRefs(), false)
		}
		if advice != "" {
			err = fmt.Errorf("%w\n%s", err, advice)
		}
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: ok\n\n", path)
	return text.Print(c.OutOrStdout(), func(p *text.Page) { summarize(p, k) })
}

func printCheckJSON(
	c *cobra.Command,
	k *check.Result,
	path string,
	errs []schema.Problem,
) error {
	j := checkJSON{
		File:       path,
		Good:       len(errs) == 0,
		Problems:   []problemJSON{},
		NotChecked: append([]string{}, k.NotChecked...),
	}
	for _, p := range errs {
		j.Problems = append(j.Problems, problemAsJSON(p, "error"))
	}
	for _, w := range k.Report.Warnings {
		j.Problems = append(j.Problems, problemAsJSON(schema.Problem(w), "warning"))
	}
	return encodeCheck(c, j)
}

// printUnreadable is for a configuration of which nothing could be read.
func printUnreadable(c *cobra.Command, path string, err error) error {
	j := checkJSON{
		File:       path,
		Problems:   []problemJSON{{Severity: "error", File: path, Message: err.Error()}},
		NotChecked: []string{},
	}
	failed := encodeCheck(c, j)
	if failed != nil {
		return failed
	}
	return command.ExitError{Code: command.ExitFailed}
}

func encodeCheck(c *cobra.Command, j checkJSON) error {
	encoder := json.NewEncoder(c.OutOrStdout())
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(j)
}
