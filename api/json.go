package api

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/useargus/argus"
)

// unmarshal reads JSON into v. A key counts only as it is written, and one given twice is an error. encoding/json
// takes SCOPES and ſcopes for scopes, and the last of two: what it reads need not be what another reader sees. Unknown
// keys are ignored.
func unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Bind reads the body as one JSON object into v. Keys count exactly as they are written, so one in another case is
// unknown. An unknown key, a key given twice, text behind the object, broken UTF-8 and an empty body are errors. They have
// CodeInvalidJSON.
func (c *call) Bind(v any) error {
	bad := func(how string) error {
		return argus.Errorf(argus.CodeInvalidJSON, "The body must be one JSON object: %s.", how)
	}
	body := bytes.TrimSpace(c.Body)
	switch {
	case len(body) == 0:
		return bad("it is empty")
	case body[0] != '{':
		return bad("it begins with something else")
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return bad("the field " + fieldOf(syntax.JSONPointer) + " is given twice")
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &meaning):
		return bad("the field " + fieldOf(meaning.JSONPointer) + " is not known here, keys are lower-case")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("it ends too early")
	case !utf8.Valid(body):
		return bad("it is not valid UTF-8")
	case errors.As(err, &syntax):
		return bad("there is a mistake in its syntax, or something stands behind it")
	case errors.As(err, &meaning) && meaning.JSONPointer != "":
		return bad("the field " + fieldOf(meaning.JSONPointer) + " has the wrong type")
	}
	return bad("it cannot be read")
}

// fieldOf names the field that a pointer leads to, as far as it is fit to be shown.
func fieldOf(p jsontext.Pointer) string { return argus.Text(strings.TrimPrefix(string(p), "/"), 64) }
