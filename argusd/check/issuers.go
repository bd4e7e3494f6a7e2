package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// Issuers is what the API depends on of OpenID Connect issuers.
type Issuers struct {
	Clerk credential.ClerkConfig // for the token alone
	All   []credential.Issuer
	Token string // one to explain; "" for none
}

func (c Issuers) check(ctx context.Context, r *Report) {
	for _, issuer := range c.All {
		what := "issuer " + issuer.Name
		before := r.clock()
		found, discovered, err := credential.Ask(ctx, issuer)
		var dns *net.DNSError
		mend := fmt.Sprintf("see that this machine reaches %s/.well-known/openid-configuration over https, and that issuer in ARGUS_IDENTITY_FILE is what it says there, to the letter",
			strings.TrimSuffix(issuer.Issuer, "/"))
		if errors.As(err, &dns) {
			mend = "the host of the issuer has no address: see its spelling, and this machine's DNS"
		}
		if !discovered {
			r.Line(what+": discovery", err, mend)
			continue
		}
		r.Line(what+": discovery", nil, "")
		r.Line(fmt.Sprintf("%s: %s", what, argus.Counted(found.Keys, "key")), err, "the issuer must publish a key for RS256 (2048 bits or more), ES256 or EdDSA, with a kid, at its jwks_uri")
		if !found.Date.IsZero() {
			r.skew(what, found.Date.Add(time.Second/2), before.Add(-time.Second), maxTokenSkew,
				"run NTP on this machine (see timedatectl): tokens are rejected when clocks differ by more than five seconds")
		}
		if issuer.SignIn != nil {
			var problem error
			if found.Authorization == "" || found.Endpoints.Token == "" {
				problem = errors.New("its description names no authorization or token endpoint")
			}
			r.Line(what+": sign-in", problem, "people cannot sign in there: remove sign_in, or ask the issuer's administrator")
			if found.Device == "" {
				r.note(what + " offers no device grant: argusctl login needs a browser on the same machine")
			}
		}
	}
	if c.Token != "" {
		c.explain(ctx, r)
	}
}

// explain says what the API would make of a token: which rule matched and which scopes follow, or which check failed.
func (c Issuers) explain(ctx context.Context, r *Report) {
	e, err := credential.Explain(ctx, c.Clerk, c.All, c.Token)
	what := "token"
	if e.Issuer != "" {
		what += " of " + e.Issuer
	}
	for _, miss := range e.Misses {
		r.note(miss)
	}
	if err != nil {
		r.Line(what, err, "docs/identity.md says what each token must have, under Issuers")
		return
	}
	if e.Rule > 0 {
		r.note(fmt.Sprintf("rule %d matches", e.Rule))
	}
	text := fmt.Sprintf("%s: %s %s", what, e.Actor.Kind, e.Actor.ID)
	for _, claim := range e.Actor.Workload {
		text += fmt.Sprintf("\n      %s = %s", claim.Name, claim.Value)
	}
	if len(e.Actor.Scopes) == 0 {
		r.Line(text, errors.New("it has no scope: none of its groups is mapped"), "map one of its groups in scopes of ARGUS_IDENTITY_FILE, or see that the token holds its groups")
		return
	}
	r.Line(text+"\n      scopes: "+argus.JoinScopes(e.Actor.Scopes), nil, "")
}
