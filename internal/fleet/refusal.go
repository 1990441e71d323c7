package fleet

// Orders that are not carried out.

import (
	"fmt"
)

// refusal is an order that was not carried out, in words for the one who gave it.
type refusal struct {
	kind error
	text string
}

// Refuse is the error of an order that was not carried out. errors.Is finds the kind, which the
// text does not repeat.
func Refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return r.kind }
