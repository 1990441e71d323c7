package worker

// Errors on the wire: an *hsm.Error goes across with everything in it, so that
// errors.Is and errors.As work on the parent's side.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"xks-proxy/pkg/hsm"
)

// maxDetail bounds what a module's error text can make of a frame, in bytes.
const maxDetail = 4 << 10

// kinds are the sentinels by their number on the wire. The order never changes
// without protocolVersion.
var kinds = []error{
	hsm.ErrUnavailable, // also for what is no *hsm.Error
	hsm.ErrTimeout,
	hsm.ErrBusy,
	hsm.ErrInvalidCiphertext,
	hsm.ErrKeyUsage,
	hsm.ErrKeyNotFound,
	hsm.ErrDuplicateKey,
	hsm.ErrTooLarge,
	hsm.ErrPINIncorrect,
	hsm.ErrPINLocked,
	hsm.ErrTokenNotFound,
	hsm.ErrModule,
	hsm.ErrRefusedCiphertext,
	hsm.ErrUnprovenCiphertext,
	hsm.ErrKeyFault,
}

// failure is the body of kindError, in JSON, and part of failed.
type failure struct {
	Kind     int    `json:"kind"` // index in kinds
	Op       string `json:"op,omitempty"`
	Function string `json:"function,omitempty"`
	Code     uint32 `json:"code,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// newFailure makes of any error of a token what crosses the wire.
func newFailure(op string, err error) failure {
	var e *hsm.Error
	if !errors.As(err, &e) {
		return failure{Kind: kindNumber(err), Op: op, Detail: shorten(err.Error())}
	}
	return failure{Kind: kindNumber(e), Op: e.Op, Function: shorten(e.Function), Code: uint32(e.Code), Detail: shorten(e.Detail)}
}

func kindNumber(err error) int {
	for i, kind := range kinds {
		if errors.Is(err, kind) {
			return i
		}
	}
	return 0
}

// parseFailure reads the body of kindError.
func parseFailure(body []byte) (failure, error) {
	var f failure
	err := json.Unmarshal(body, &f)
	if err != nil {
		return failure{}, fmt.Errorf("%w: error: %w", ErrProtocol, err)
	}
	return f, nil
}

// err is the *hsm.Error on the parent's side.
func (f failure) err(name string) *hsm.Error {
	e := &hsm.Error{HSM: name, Op: f.Op, Function: f.Function, Code: hsm.CKR(f.Code), Detail: f.Detail}
	switch {
	case f.Kind < 0 || f.Kind >= len(kinds):
		e.Kind = hsm.ErrUnavailable
	case kinds[f.Kind] == hsm.ErrTimeout:
		e.Kind = hsm.Timeout(context.DeadlineExceeded)
	default:
		e.Kind = kinds[f.Kind]
	}
	return e
}

func shorten(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	return s[:maxDetail] + " …"
}
