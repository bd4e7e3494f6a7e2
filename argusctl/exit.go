package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// The exit codes, for scripts. They are part of the interface.
const (
	exitDone            = 0
	exitFailure         = 1  // any other failure
	exitUsage           = 2  // wrong usage
	exitUnreachable     = 3  // the server could not be reached, or answered 5xx
	exitUnauthenticated = 4  // 401, or no token at all
	exitForbidden       = 5  // 403
	exitNotFound        = 6  // 404
	exitRejected        = 7  // rejected as it stands: 400, 409, 413, 422
	exitRateLimited     = 8  // 429
	exitNegative        = 9  // a check came out negative
	exitUndecided       = 10 // a check could not be decided: nothing to check, no checkpoint, an unknown key, input cut off

	exitUnread = 128 + 13 // standard output has no reader any more: what a shell says of a program that SIGPIPE ended
)

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	var (
		usage   *usageError
		api     *apiError
		net     *netError
		verdict *verdictError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &verdict): // reached or not, it does not depend on who reads standard output
		return verdict.outcome.ExitCode()
	case errors.Is(err, errStdoutClosed):
		return exitUnread
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errNegative):
		return exitNegative
	case errors.Is(err, errUndecided):
		return exitUndecided
	case errors.Is(err, errNoToken):
		return exitUnauthenticated
	case errors.As(err, &api):
		return api.exitCode()
	case errors.As(err, &net):
		return exitUnreachable
	}
	return exitFailure
}

func (e *apiError) exitCode() int {
	if e.Code == argus.CodeUnknownFilterValue {
		return exitNotFound
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return exitUnauthenticated
	case http.StatusForbidden:
		return exitForbidden
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return exitRejected
	case http.StatusTooManyRequests:
		return exitRateLimited
	}
	if e.Status >= 500 {
		return exitUnreachable
	}
	return exitFailure
}

var (
	// errStdoutClosed: the reader of our output has seen enough (`| head -1`). No noise.
	errStdoutClosed = errors.New("the reader of standard output is gone")
	// errNegative: a check came out negative and has said so.
	errNegative = errors.New("the check came out negative")
	// errUndecided: a check could not be decided and has said so.
	errUndecided = errors.New("the check could not be decided")
	// errNoToken: nothing to authenticate with.
	errNoToken = errors.New("there is no token: set ARGUS_TOKEN, or sign in with `argusctl login`")
)

// usageError is a command line that cannot be meant.
type usageError struct {
	message string
	command string // "argusctl logs tail", for the pointer to its help; may be empty
}

func (e *usageError) Error() string { return e.message }

func usageErrorf(format string, args ...any) *usageError {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// badParameter turns what package argus says about a value into a usage error, in words of the command line.
func badParameter(flag string, err error) *usageError {
	message := err.Error()
	var e *argus.Error
	if errors.As(err, &e) {
		message = e.Message
	}
	if flag == "" {
		return &usageError{message: inFlags(message)}
	}
	if _, said, ok := strings.Cut(message, "="); ok && aValue.MatchString(message) { // actor_kind="x": how to write it
		return &usageError{message: flag + " " + inFlags(said)}
	}
	return &usageError{message: flag + ": " + inFlags(message)}
}

var (
	aValue = regexp.MustCompile(`^[a-z_]+="`)
	// A word with an underscore is a name of the API wherever it stands, one without only where it is the subject.
	aField = regexp.MustCompile(`^[a-z]+( must | is | lies | names | holds |=)|\b[a-z]+(_[a-z]+)+\b|before since\.`)
)

// renamed are the fields of the API whose flags have another name.
var renamed = map[string]string{"consent_document_id": "consent-document", "confirm_tenant_id": "confirm", "agent_actions": "allow-actions",
	"scopes": "scope", "document_id": "document"}

// inFlags puts the flags of the command line in the place of fields of the API.
func inFlags(message string) string {
	return aField.ReplaceAllStringFunc(message, func(found string) string {
		name, rest := found, ""
		if i := strings.IndexAny(found, " ="); i >= 0 && !strings.HasPrefix(found, "before ") {
			name, rest = found[:i], found[i:]
		}
		switch {
		case found == "before since.":
			return "before --since."
		case renamed[name] != "":
			return "--" + renamed[name] + rest
		case name == string(argus.FilterBreakGlass): // it is a kind of actor, too
		case slices.Contains(apiFields, strings.TrimPrefix(name, "not_")):
			return "--" + strings.ReplaceAll(name, "_", "-") + rest
		}
		return found
	})
}

// apiFields are the parameters and fields that flags of the same name stand for.
var apiFields = append(textsOf(argus.FilterNames()), "since", "until", "limit", "cursor", "group_by", "compare", "expires_in", "preset", "owner",
	"unused_since", "reason", "minutes", "provider", "kind", "name", "agents")

// apiError is an answer of the server that says no.
type apiError struct {
	Status     int // HTTP status
	Code       argus.Code
	Message    string
	AuditID    string        // of the call's row; "" when the call was not authenticated
	RetryAfter time.Duration // 0 when the server names none
	Mutation   bool          // the call was to change something
	Health     *health       // what GET /v1/health knows while it cannot be answered
	Service    bool          // a service behind ARGUS said it, and ARGUS passed it on
}

func (e *apiError) Error() string { return e.Message }

// hint says what to do next, beyond the server's own sentence.
func (e *apiError) hint() string {
	switch {
	case e.Service && e.Status == http.StatusUnauthorized:
		return "ARGUS took your token. The service rejects ARGUS's assertion, or has a check of its own."
	case e.Status == http.StatusUnauthorized:
		return "Sign in with `argusctl login`, or set ARGUS_TOKEN."
	case e.Status == http.StatusForbidden && e.Code == argus.CodeForbidden:
		return "See what this credential may do with `argusctl whoami`. A token keeps the scopes that it was made with: for a newer scope, make a new one."
	case e.Code == argus.CodeAuditUnconfirmed && e.AuditID != "":
		return "Whether it happened is not known. Before repeating it: argusctl logs show " + harmless(e.AuditID)
	case e.Code == argus.CodeAuditUnconfirmed:
		return "Whether it happened is not known. Look before repeating it."
	case e.Code == argus.CodeInvalidCursor:
		return "A cursor belongs to one search: give the same filters, or start over without it."
	case e.Code == argus.CodeReasonRequired:
		return "Give one with --reason."
	case e.Status >= 300 && e.Status < 400:
		return "Redirects are not followed."
	case e.RetryAfter > 0:
		return fmt.Sprintf("Try again in %s.", formatDuration(e.RetryAfter))
	}
	return ""
}

// report prints an error for a person, on standard error. Nothing of it is a secret: tokens are in no error.
func (f *factory) report(err error) {
	var verdict *verdictError
	if err == nil || errors.Is(err, errStdoutClosed) || errors.Is(err, errNegative) || errors.Is(err, errUndecided) || errors.As(err, &verdict) {
		return
	}
	var (
		usage *usageError
		api   *apiError
		net   *netError
	)
	say := func(format string, args ...any) { fmt.Fprintln(f.io.err, f.redact(fmt.Sprintf(format, args...))) }
	switch {
	case errors.As(err, &api):
		message := api.Message
		if !f.raw {
			message = inFlags(message)
		}
		say("%s %s", f.io.errStyle(red, "error:"), harmless(message))
		facts := []string{fmt.Sprintf("HTTP %d", api.Status)}
		if api.Code != "" {
			facts = append([]string{harmless(string(api.Code))}, facts...)
		}
		if api.AuditID != "" {
			facts = append(facts, "audit id "+harmless(api.AuditID))
		}
		say("  %s", strings.Join(facts, ", "))
		if hint := api.hint(); hint != "" {
			say("  %s", hint)
		}
	case errors.As(err, &net):
		say("%s %s", f.io.errStyle(red, "error:"), harmless(net.Message))
		if net.Hint != "" {
			say("  %s", harmless(net.Hint))
		}
	case errors.As(err, &usage):
		say("%s %s", f.io.errStyle(red, "error:"), harmlessLines(usage.message))
		if usage.command != "" {
			say("See `%s --help`.", usage.command)
		}
	case errors.Is(err, context.Canceled):
		say("Stopped.")
	default:
		say("%s %s", f.io.errStyle(red, "error:"), harmless(sentence(err.Error())))
	}
}

// redact takes out of a text everything that is a token or looks like one. A user may have typed it where it does
// not belong, and an error must not repeat it.
func (f *factory) redact(s string) string {
	if f.connected != nil && f.connected.last() != "" {
		s = strings.ReplaceAll(s, f.connected.last(), "…")
	}
	for _, prefix := range []string{argus.PATPrefix, argus.BreakGlassPrefix} {
		head, rest, found := strings.Cut(s, prefix)
		for found {
			rest = strings.TrimLeftFunc(rest, func(r rune) bool {
				return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
			})
			var next string
			next, rest, found = strings.Cut(rest, prefix)
			head += prefix + "…" + next
		}
		s = head
	}
	return s
}
