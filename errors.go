package argus

import (
	"errors"
	"fmt"
	"time"
)

// Code names a failure for programs. The API answers it in {"error": {"code": …}}.
type Code string

const (
	CodeInvalidParameter Code = "invalid_parameter" // 400
	CodeInvalidCursor    Code = "invalid_cursor"    // 400: malformed, altered, or of another search
	CodeInvalidJSON      Code = "invalid_json"      // 400
	CodeUnauthenticated  Code = "unauthenticated"   // 401
	CodeForbidden        Code = "insufficient_scope"
	CodeConsentRequired  Code = "tenant_consent_required" // 403
	CodeStepUpRequired   Code = "confirmation_mismatch"   // 403: the server-side step-up failed
	CodeNotFound         Code = "not_found"               // 404
	CodeMethodNotAllowed Code = "method_not_allowed"      // 405
	CodeConflict         Code = "conflict"                // 409
	CodeKeyReused        Code = "idempotency_key_reused"  // 422: same key, another request
	CodeBodyTooLarge     Code = "body_too_large"          // 413
	CodeBodyIncomplete   Code = "body_incomplete"         // 400: the caller stopped sending
	CodeUnprocessable    Code = "unprocessable"           // 422
	CodeRateLimited      Code = "rate_limited"            // 429
	CodeInternal         Code = "internal"                // 500
	CodeAuditUnconfirmed Code = "audit_unconfirmed"       // 500: an effect may have happened, its row is unconfirmed
	CodeProviderFailed   Code = "provider_failed"         // 502
	CodeAuditUnavailable Code = "audit_unavailable"       // 503: nothing happened, the row could not be written
	CodeUnavailable      Code = "unavailable"             // 503: a store did not answer in time
	CodeNotSealed        Code = "not_sealed"              // 409: no checkpoint holds the row yet
	CodeQueryTooLarge    Code = "query_too_large"         // 422: past the bounds of time, memory or rows

	CodeUnknownFilterValue Code = "unknown_filter_value" // 422: a filter's value matches no call, or its name means several

	// Of calls to services behind the door.
	CodeReasonRequired        Code = "reason_required"          // 400
	CodeServiceUnavailable    Code = "service_unavailable"      // 502: the service heard nothing
	CodeServiceBroken         Code = "service_broken"           // 502: it broke off before or inside its answer
	CodeServiceAnswerTooLarge Code = "service_answer_too_large" // 502
	CodeServiceBusy           Code = "service_busy"             // 503: too many calls under way, or too much memory in use
	CodeServiceTimeout        Code = "service_timeout"          // 504
)

// Error is a failure as a caller may see it: a code for programs and a sentence that says what to do. The
// wrapped cause is for the operator's log alone and is not part of Error().
type Error struct {
	Code       Code
	Message    string
	RetryAfter time.Duration // when positive, how long to wait before trying again
	Cause      error

	// Of CodeUnknownFilterValue: the query parameter, and what its value may mean.
	Parameter   string
	Suggestions []Suggestion
}

// Suggestion is a value that a filter may mean.
type Suggestion struct {
	Value string `json:"value"`
	Name  string `json:"name,omitempty"` // of the person or the tenant
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error without a cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithCause returns a copy of e that wraps cause.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// WithRetryAfter returns a copy of e that asks to wait for d.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// CodeOf returns the code of the first Error in err's chain, CodeInternal when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
