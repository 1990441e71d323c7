package xks

// The fields of a request's log line (requirement L1). None contains plaintext, key material or
// secrets. Text from the caller is escaped, and bounded by its length in the log (logtext.go).

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/sigv4"
)

// Limits, in bytes as they are written to the log.
const (
	maxLoggedText      = 2048    // one field of requestMetadata: the length of an ARN (U9, U11)
	maxLoggedOther     = 4096    // all unknown fields of requestMetadata
	maxUnauthenticated = 256     // each of these, and the path, of an unauthenticated request
	maxUnsigned        = 512     // the reason for refusing an unauthenticated request
	maxLoggedStack     = 8 << 10 // of a panic, which is a bug

	loggedQueue = time.Millisecond // shorter queueing is not logged
)

func (x *exchange) appendLogFields(
	fields []zap.Field, status int, failed *apiError, writeErr error, took time.Duration,
) []zap.Field {
	r := x.request
	fields = append(fields,
		zap.Int("status", status),
		zap.Float64("duration_ms", milliseconds(took)),
		zap.String("remote", r.RemoteAddr),
		zap.Bool("new_connection", x.clock.newConn),
		zap.String("protocol", r.Proto),
	)
	if x.queued > loggedQueue {
		fields = append(fields, zap.Float64("queued_ms", milliseconds(x.queued)))
	}
	if x.store != nil {
		fields = append(
			fields, zap.String("operation", x.op.name), zap.String("key_store", x.store.name),
		)
		if x.op.keyed {
			fields = append(fields, zap.String("key", shorten(x.keyID, x.limit(maxLoggedText))))
		}
	} else {
		fields = append(fields, zap.String("method", shorten(r.Method, maxUnauthenticated)),
			zap.String("path", shorten(r.RequestURI, maxUnauthenticated)))
	}
	if x.store != nil {
		fields = append(fields, zap.Bool("authenticated", x.authenticated()))
	}
	if x.authenticated() {
		fields = append(
			fields, zap.String("access_key_id", x.identity.AccessKeyID),
			zap.String("region", x.identity.Region),
		)
	}
	fields = x.appendMetadata(fields)
	fields = x.appendDecision(fields)
	fields = x.appendHSM(fields)
	return x.appendFailure(fields, failed, writeErr)
}

// authenticated reports whether the request was authenticated.
func (x *exchange) authenticated() bool { return x.identity.AccessKeyID != "" }

// limit returns the limit of a field: authenticated, or less for an unauthenticated request.
func (x *exchange) limit(authenticated int) int {
	if x.authenticated() {
		return authenticated
	}
	return maxUnauthenticated
}

func (x *exchange) appendMetadata(fields []zap.Field) []zap.Field {
	if x.fields == nil || x.fields.Metadata == nil {
		return fields
	}
	m := x.fields.Metadata
	for _, f := range [...]struct {
		name  string
		value *string
	}{
		{"kms_request_id", m.KMSRequestID}, {"kms_operation", m.KMSOperation},
		{"aws_principal_arn", m.AWSPrincipalARN},
		{"kms_key_arn", m.KMSKeyARN}, {"kms_via_service", m.KMSViaService},
		{"aws_source_vpc", m.AWSSourceVPC}, {"aws_source_vpce", m.AWSSourceVPCE},
	} {
		if f.value != nil {
			fields = append(fields, zap.String(f.name, shorten(*f.value, x.limit(maxLoggedText))))
		}
	}
	if len(m.Other) > 0 {
		other := shorten(string(m.Other), x.limit(maxLoggedOther))
		fields = append(fields, zap.String("request_metadata_other", other))
	}
	return fields
}

func (x *exchange) appendHSM(fields []zap.Field) []zap.Field {
	if x.hasKey {
		fields = append(fields, zap.Uint32("key_version", x.version))
	}
	calls := &x.hsmCalls
	if calls.attempts > 0 {
		fields = append(
			fields, zap.String("hsm", calls.servedBy), zap.Int("attempts", calls.attempts),
		)
	}
	if calls.hedges > 0 {
		fields = append(fields, zap.Int("hedges", calls.hedges))
	}
	if calls.verifiedBy != "" {
		fields = append(fields, zap.String("verified_by", calls.verifiedBy))
	}
	if len(calls.faults) > 0 {
		fields = append(fields, zap.Strings("hsm_faults", texts(calls.faults)))
	}
	return fields
}

func (x *exchange) appendFailure(fields []zap.Field, failed *apiError, writeErr error) []zap.Field {
	switch {
	case failed == nil:
		fields = append(fields, zap.String("outcome", "ok"))
	default:
		maxReason := maxLoggedOther
		if !x.authenticated() {
			maxReason = maxUnsigned
		}
		fields = append(
			fields, zap.String("outcome", "error"), zap.String("error_name", string(failed.name)),
			zap.String("reason", shorten(failed.Error(), maxReason)),
		)
		var limit throttle
		if errors.As(failed, &limit) {
			fields = append(fields, zap.String("throttled", string(limit)))
		}
		var auth *sigv4.Failure
		if errors.As(failed, &auth) {
			fields = append(fields, zap.String("authentication_failure", string(auth.Cause)))
			if auth.AccessKeyID != "" {
				fields = append(fields, zap.String("claimed_access_key_id", auth.AccessKeyID))
			}
		}
	}
	if x.panicked != nil {
		fields = append(fields, zap.String("panic", shorten(fmt.Sprint(x.panicked), maxUnsigned)),
			zap.ByteString("stack", x.stack[:min(len(x.stack), maxLoggedStack)]))
	}
	if x.request.Context().Err() != nil {
		fields = append(fields, zap.Bool("client_gone", true))
	}
	if writeErr != nil {
		fields = append(fields, zap.NamedError("reply_not_sent", writeErr))
	}
	return fields
}

func texts(errs []error) []string {
	var list []string
	for _, err := range errs {
		list = append(list, shorten(err.Error(), maxLoggedText))
	}
	return list
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func itoa(n int) string { return strconv.Itoa(n) }
