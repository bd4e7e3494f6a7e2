package credential

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	exact "github.com/go-json-experiment/json"

	"github.com/useargus/argus"
)

// leeway allows for clocks that differ.
const leeway = 5 * time.Second

// algorithms are those by which a token may be signed, for issuers of every kind. All are asymmetric: a key set can
// hold no secret that a caller could sign with.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

// tokenTypes are the header's typ of tokens that identify a caller, in lower case. Others (logout+jwt, dpop+jwt, …) may be signed by the
// same keys and are made for something else.
var tokenTypes = []string{"", "jwt", "at+jwt", "application/at+jwt"}

// signedToken is a JWT (RFC 7519) as a caller sent it: well-formed, and believed only after signedBy and within.
type signedToken struct {
	jws     *jose.JSONWebSignature
	payload []byte
	claims  map[string]any

	kind, keyID, algorithm string // of the header
	issuer, subject, party string // iss, sub, azp; "" when there is none
	audience               []string
	expires, notBefore     time.Time // zero: not stated
	issued                 time.Time
}

// readToken reads a token in compact form. Keys of header and claims count as they are written, and none may stand twice.
// The claims of RFC 7519 must have the types that it names. Nothing is verified.
func readToken(text string) (*signedToken, error) {
	jws, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return nil, unauthenticated(reasonToken, err)
	}
	t := &signedToken{jws: jws}
	if err := t.readHeader(text); err != nil {
		return nil, unauthenticated(reasonToken, err)
	}
	t.payload = jws.UnsafePayloadWithoutVerification()
	if !bytes.HasPrefix(bytes.TrimLeft(t.payload, " \t\r\n"), []byte("{")) {
		return nil, unauthenticated(reasonToken, errors.New("the claims are no object"))
	}
	if err := exact.Unmarshal(t.payload, &t.claims); err != nil {
		return nil, unauthenticated(reasonToken, errors.New("the claims cannot be read, or one stands twice"))
	}
	if err := t.readClaims(); err != nil {
		return nil, unauthenticated(reasonToken, err)
	}
	return t, nil
}

// readHeader takes headers that name the key and the algorithm. It rejects a header that would have to be obeyed: a critical
// extension, a key of the caller's choice, a token inside the token.
func (t *signedToken) readHeader(text string) error {
	head, _, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(head)
	var header map[string]any
	if err != nil || exact.Unmarshal(raw, &header) != nil {
		return errors.New("the header cannot be read, or names something twice")
	}
	for _, name := range []string{"crit", "b64", "jku", "jwk", "x5u", "x5c", "cty", "zip", "enc", "epk", "p2s"} {
		if _, there := header[name]; there {
			return fmt.Errorf("the header has %s", name)
		}
	}
	for name, into := range map[string]*string{"typ": &t.kind, "kid": &t.keyID, "alg": &t.algorithm} {
		if value, there := header[name]; there {
			text, ok := value.(string)
			if !ok {
				return fmt.Errorf("the header's %s is no text", name)
			}
			*into = text
		}
	}
	t.kind = strings.ToLower(t.kind)
	switch {
	case !slices.Contains(tokenTypes, t.kind):
		return fmt.Errorf("a token of type %q", argus.Text(t.kind, 32))
	case t.keyID == "":
		return errors.New("the header names no key (kid)")
	}
	return nil
}

func (t *signedToken) readClaims() error {
	for name, into := range map[string]*string{"iss": &t.issuer, "sub": &t.subject, "azp": &t.party} {
		if value, there := t.claims[name]; there {
			text, ok := value.(string)
			if !ok {
				return fmt.Errorf("%s is no text", name)
			}
			*into = text
		}
	}
	for name, into := range map[string]*time.Time{"exp": &t.expires, "nbf": &t.notBefore, "iat": &t.issued} {
		if value, there := t.claims[name]; there {
			seconds, ok := value.(float64)
			if !ok || seconds < 0 || seconds > 1<<40 {
				return fmt.Errorf("%s is no date", name)
			}
			whole, part := math.Modf(seconds)
			*into = time.Unix(int64(whole), int64(part*1e9))
		}
	}
	if value, there := t.claims["aud"]; there {
		var ok bool
		if t.audience, ok = texts(value); !ok {
			return errors.New("aud is neither a text nor a list of texts")
		}
		if len(t.audience) == 0 {
			return errors.New("aud is an empty list: the issuer granted the client no audience")
		}
	}
	return nil
}

// texts reads a text, or a list of texts.
func texts(value any) ([]string, bool) {
	switch v := value.(type) {
	case string:
		return []string{v}, true
	case []any:
		list := make([]string, len(v))
		for i := range v {
			text, ok := v[i].(string)
			if !ok {
				return nil, false
			}
			list[i] = text
		}
		return list, true
	}
	return nil, false
}

// signedBy verifies the signature with a key of its issuer.
func (t *signedToken) signedBy(key *jose.JSONWebKey) error {
	payload, err := t.jws.Verify(key)
	if err == nil && !bytes.Equal(payload, t.payload) {
		err = errors.New("the signed claims are others")
	}
	if err != nil {
		return unauthenticated(reasonToken, err)
	}
	return nil
}

// within checks that a token holds at this moment and for longest at most, counted from its making.
func (t *signedToken) within(now time.Time, longest time.Duration) error {
	problem := ""
	_, dated := t.claims["exp"]
	switch {
	case !dated:
		problem = "no exp"
	case !now.Before(t.expires.Add(leeway)):
		return unauthenticated(reasonExpired, nil)
	case t.notBefore.After(now.Add(leeway)):
		problem = "not valid yet (nbf)"
	case t.issued.IsZero():
		problem = "no iat"
	case t.issued.After(now.Add(leeway)):
		problem = "made in the future (iat)"
	case t.expires.Sub(t.issued) > longest:
		problem = fmt.Sprintf("it lives longer than %v from iat to exp", longest)
	default:
		return nil
	}
	return unauthenticated(reasonToken, errors.New(problem))
}

// claim finds a claim by its name, or by a JSON Pointer (RFC 6901) when the name begins with a slash.
func (t *signedToken) claim(name string) (any, bool) {
	if !strings.HasPrefix(name, "/") {
		value, ok := t.claims[name]
		return value, ok
	}
	var at any = t.claims
	for part := range strings.SplitSeq(name[1:], "/") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]; !ok {
			return nil, false
		}
	}
	return at, true
}

// plain is a claim's value as rules and rows have it: a text as it is, true or false, a whole number in digits. Of
// anything else, and of numbers that JSON readers round, there is none.
func plain(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatFloat(v, 'f', -1, 64), true
		}
	}
	return "", false
}
