package xks

// The errors of the API: one table of names, and one function that maps errors from below to them.

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/sigv4"
)

// errorName is the errorName of an error reply (requirements X1, X2).
type errorName string

const (
	validation           errorName = "ValidationException"
	invalidState         errorName = "InvalidStateException"
	invalidCiphertext    errorName = "InvalidCiphertextException"
	invalidKeyUsage      errorName = "InvalidKeyUsageException"
	authenticationFailed errorName = "AuthenticationFailedException"
	accessDenied         errorName = "AccessDeniedException"
	keyNotFound          errorName = "KeyNotFoundException"
	invalidURIPath       errorName = "InvalidUriPathException"
	throttling           errorName = "ThrottlingException"
	internal             errorName = "InternalException"
	unsupported          errorName = "UnsupportedOperationException"
	dependencyTimeout    errorName = "DependencyTimeoutException"
)

var statusOf = map[errorName]int{
	validation:           http.StatusBadRequest,
	invalidState:         http.StatusBadRequest,
	invalidCiphertext:    http.StatusBadRequest,
	invalidKeyUsage:      http.StatusBadRequest,
	authenticationFailed: http.StatusUnauthorized,
	accessDenied:         http.StatusForbidden,
	keyNotFound:          http.StatusNotFound,
	invalidURIPath:       http.StatusNotFound,
	throttling:           http.StatusTooManyRequests,
	internal:             http.StatusInternalServerError,
	unsupported:          http.StatusNotImplemented,
	dependencyTimeout:    http.StatusServiceUnavailable,
}

// apiError is an error as AWS KMS sees it. Its message is fixed text that contains nothing of the
// request, the HSMs or the configuration (requirement X6). The cause is for the log.
type apiError struct {
	name    errorName
	message string
	status  int // 0: that of the name
	cause   error
}

func (e *apiError) Error() string {
	if e.cause == nil {
		return e.message
	}
	return e.message + ": " + e.cause.Error()
}

func (e *apiError) Unwrap() error { return e.cause }

func (e *apiError) httpStatus() int {
	if e.status != 0 {
		return e.status
	}
	return statusOf[e.name]
}

func failure(name errorName, message string, cause error) *apiError {
	return &apiError{name: name, message: message, cause: cause}
}

// invalid returns a ValidationException: the request does not have the form that the API demands.
func invalid(message string) *apiError { return failure(validation, message, nil) }

// Replies that several places give.
var (
	errNotAllowed = &apiError{
		name: unsupported, status: http.StatusMethodNotAllowed,
		message: "Only POST is supported at this URI.",
	}
	errNoSuchPath = failure(invalidURIPath, "The URI path is not one of this proxy.", nil)
	errNoSuchKey  = failure(keyNotFound, "The external key was not found.", nil)
	errDenied     = failure(accessDenied, "The caller is not allowed to use the external key.", nil)
	errTooLate    = failure(dependencyTimeout, "The time allotted to the request ran out.", nil)
	errBodyTooBig = failure(
		unsupported, "The request body is larger than this proxy supports.", nil,
	)
)

// apiErrorOf maps an error from below to its name on the wire. It is the only place that does. The
// name decides what KMS reports to its caller and whether KMS tries again (requirement X7).
func apiErrorOf(err error) *apiError {
	var api *apiError
	var auth *sigv4.Failure
	switch {
	case errors.As(err, &api):
		return api
	case errors.As(err, &auth):
		return failure(authenticationFailed, "The request could not be authenticated.", err)
	case errors.Is(err, hsm.ErrInvalidCiphertext):
		return failure(
			invalidCiphertext,
			"The ciphertext, its metadata or its additional authenticated data are not valid.", err,
		)
	case errors.Is(err, hsm.ErrKeyUsage):
		return failure(invalidKeyUsage, "The external key does not support the operation.", err)
	case errors.Is(err, hsm.ErrKeyNotFound):
		return failure(keyNotFound, errNoSuchKey.message, err)
	case errors.Is(err, catalogue.ErrIncomplete):
		return failure(
			invalidState, "The external key is not enabled on every external key manager.", err,
		)
	case errors.Is(err, hsm.ErrTooLarge):
		return failure(
			unsupported, "An input is larger than the external key manager supports.", err,
		)
	case errors.Is(err, group.ErrLookupLimit):
		return errOverLookups
	case errors.Is(err, hsm.ErrBusy):
		return failure(throttling, shedMessage, fmt.Errorf("%w: %w", overBusy, err))
	case errors.Is(err, hsm.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return failure(dependencyTimeout, "The external key manager did not answer in time.", err)
	}
	return failure(internal, "The external key manager could not serve the request.", err)
}

// allowed returns e if the API lets the operation return it (requirements X3, X4), and otherwise an
// InternalException: any other error is a bug.
func (op *operation) allowed(e *apiError) *apiError {
	if op == nil || op.errors[e.name] {
		return e
	}
	return failure(internal, "The request could not be served.", e)
}

// reasonOf returns why a request was refused, in one of some 30 texts: the cause of a failed
// authentication, or the name of the error. It returns "ok" for a request that was served.
func reasonOf(failed *apiError) string {
	var auth *sigv4.Failure
	switch {
	case failed == nil:
		return string(outcomes[0])
	case errors.As(failed, &auth):
		return string(auth.Cause)
	}
	return string(failed.name)
}
