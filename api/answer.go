package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// answer is what a handler wants sent. The zero value is none.
type answer struct {
	Status int
	Value  any    // sent as JSON
	JSON   []byte // sent as it is, instead of Value

	forwarded *services.Answer // sent as a service gave it, instead of both
}

// reply is the answer 200 with v as JSON.
func reply(v any) (answer, error) { return answer{Status: http.StatusOK, Value: v}, nil }

// created is the answer 201 with v as JSON.
func created(v any) (answer, error) { return answer{Status: http.StatusCreated, Value: v}, nil }

// body renders the answer.
func (a *answer) body() ([]byte, error) {
	if a.JSON != nil || a.forwarded != nil {
		return a.JSON, nil
	}
	b, err := json.Marshal(a.Value)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// statusClientGone is recorded for a call without effects whose caller went away before the answer was ready.
// No caller sees this status.
const statusClientGone = 499

// codeClientGone is recorded with it.
const codeClientGone argus.Code = "client_gone"

// statusOf gives the HTTP status of a code.
func statusOf(code argus.Code) int {
	switch code {
	case argus.CodeInvalidParameter, argus.CodeInvalidCursor, argus.CodeInvalidJSON, argus.CodeBodyIncomplete,
		argus.CodeReasonRequired:
		return http.StatusBadRequest
	case argus.CodeUnauthenticated:
		return http.StatusUnauthorized
	case argus.CodeForbidden, argus.CodeConsentRequired, argus.CodeStepUpRequired:
		return http.StatusForbidden
	case argus.CodeNotFound:
		return http.StatusNotFound
	case argus.CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case argus.CodeConflict, argus.CodeNotSealed:
		return http.StatusConflict
	case argus.CodeBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case argus.CodeKeyReused, argus.CodeUnprocessable, argus.CodeQueryTooLarge, argus.CodeUnknownFilterValue:
		return http.StatusUnprocessableEntity
	case argus.CodeRateLimited:
		return http.StatusTooManyRequests
	case argus.CodeProviderFailed, argus.CodeServiceUnavailable, argus.CodeServiceBroken, argus.CodeServiceAnswerTooLarge:
		return http.StatusBadGateway
	case argus.CodeAuditUnavailable, argus.CodeUnavailable, argus.CodeServiceBusy:
		return http.StatusServiceUnavailable
	case argus.CodeServiceTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// problem is err as a caller may see it: an *argus.Error as it is, anything else as an internal error whose
// cause only the log gets.
func problem(err error) *argus.Error {
	var e *argus.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return argus.Errorf(argus.CodeUnavailable, "A store did not answer in time. Try again.").WithCause(err)
	}
	return argus.Errorf(argus.CodeInternal, "Something went wrong here. Tell your ARGUS administrator the audit id.").WithCause(err)
}

// problemBody is the JSON of an error; id is uuid.Nil when the caller is not authenticated.
func problemBody(e *argus.Error, id uuid.UUID) []byte {
	b := append(make([]byte, 0, 256), `{"error":{"code":`...)
	b = argus.AppendJSONString(b, string(e.Code))
	b = append(b, `,"message":`...)
	b = argus.AppendJSONString(b, e.Message)
	if e.Parameter != "" {
		b = appendField(b, "parameter", e.Parameter)
		b = appendField(b, "suggestions", append([]argus.Suggestion{}, e.Suggestions...))
	}
	if id == uuid.Nil {
		return append(b, `,"audit_id":null}}`+"\n"...)
	}
	b = append(b, `,"audit_id":"`...)
	b = append(b, id.String()...)
	return append(b, `"}}`+"\n"...)
}

// codeIn is the code of a body that problemBody made, "" of another.
func codeIn(body []byte) argus.Code {
	var p struct {
		Error struct {
			Code argus.Code `json:"code"`
		} `json:"error"`
	}
	if unmarshal(body, &p) != nil {
		return ""
	}
	return p.Error.Code
}

// setRetryAfter says when to try again, in whole seconds, at least one; 429 and 503 always say so.
func setRetryAfter(h http.Header, status int, e *argus.Error) {
	if e.RetryAfter <= 0 && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return
	}
	h.Set("Retry-After", strconv.FormatInt(int64(max(1, math.Ceil(e.RetryAfter.Seconds()))), 10))
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
