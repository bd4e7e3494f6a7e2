package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// Probe is what an issuer answers at this moment.
type Probe struct {
	Endpoints
	Keys int       // usable ones
	Date time.Time // the issuer's clock, in whole seconds; zero when it states none
}

// Ask fetches an issuer's description and keys as the API does. discovered says that the description was good.
func Ask(ctx context.Context, issuer Issuer) (p Probe, discovered bool, err error) {
	d, err := newDiscovery(issuer.Issuer, issuer.CAFile)
	if err != nil {
		return p, false, err
	}
	defer d.http.CloseIdleConnections()
	d.http.Transport = dated{d.http.Transport, &p.Date}
	found, err := d.describe(ctx)
	if err != nil {
		return p, false, err
	}
	p.Endpoints = found.Endpoints
	data, err := d.get(ctx, found.Keys, maxKeySet)
	if err != nil {
		return p, true, err
	}
	keys, err := usable(data, algorithms)
	p.Keys = len(keys)
	return p, true, err
}

// dated notes what clock an answer shows.
type dated struct {
	http.RoundTripper
	at *time.Time
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(r)
	if err == nil {
		*d.at, _ = http.ParseTime(response.Header.Get("Date"))
	}
	return response, err
}

// Explanation is what the API makes of a token.
type Explanation struct {
	Issuer string      // the name of the issuer that it is verified by; "" when there is none
	Actor  argus.Actor // who its bearer is; the zero value when it is not taken
	Rule   int         // of a workload, the number of the rule that matched, from 1
	Misses []string    // of a workload, why each rule before did not match
}

// Explain verifies a token as the API does, without noting anything, and says what came of it. The error is why it is
// not taken.
func Explain(ctx context.Context, clerk ClerkConfig, issuers []Issuer, token string) (e Explanation, err error) {
	t, err := readToken(strings.TrimSpace(token))
	if err != nil {
		return e, causeOf(err)
	}
	alone := func(func(context.Context)) {}
	if clerk.IsSet() && t.issuer == clerk.Issuer {
		e.Issuer = ClerkName
		c, err := newClerkIdentity(ctx, &Config{Clerk: clerk, Run: alone, Heard: func(string) {}, Now: time.Now})
		if err != nil {
			return e, err
		}
		defer c.http.CloseIdleConnections()
		cred, err := c.verify(ctx, t)
		if err != nil {
			return e, causeOf(err)
		}
		e.Actor = cred.Actor
		return e, nil
	}
	for _, issuer := range issuers {
		if issuer.Issuer != t.issuer {
			continue
		}
		e.Issuer = issuer.Name
		i := &identity{Issuer: issuer}
		if i.discovery, err = newDiscovery(issuer.Issuer, issuer.CAFile); err != nil {
			return e, err
		}
		defer i.discovery.http.CloseIdleConnections()
		i.keys = &keyring{issuer: issuer.Name, algorithms: algorithms, fetch: i.discovery.keySet, base: ctx, now: time.Now,
			run: alone}
		for n, rule := range issuer.Rules {
			failed, ok := rule.match(t)
			if ok {
				e.Rule = n + 1
				break
			}
			e.Misses = append(e.Misses, fmt.Sprintf("rule %d (%s) does not match: %s", n+1, rule.Actor, t.miss(failed, rule.When[failed])))
		}
		cred, err := i.judge(ctx, t)
		if err != nil {
			return e, causeOf(err)
		}
		e.Actor = cred.Actor
		return e, nil
	}
	return e, fmt.Errorf("no issuer is configured for its iss %q", argus.Text(t.issuer, 200))
}

// miss says what a claim is and what a rule wants.
func (t *signedToken) miss(claim, want string) string {
	value, there := t.claim(claim)
	text, is := plain(value)
	switch {
	case !there:
		return fmt.Sprintf("there is no claim %s", claim)
	case !is:
		return fmt.Sprintf("the claim %s is no plain value", claim)
	}
	return fmt.Sprintf("the claim %s is %q, not %q", claim, argus.Text(text, 200), want)
}

// causeOf is what went wrong inside, which a caller of the API does not hear.
func causeOf(err error) error {
	var why *Unauthenticated
	if !errors.As(err, &why) {
		if cause := errors.Unwrap(err); cause != nil {
			return cause
		}
		return err
	}
	switch {
	case why.Cause != nil:
		return why.Cause
	case why.Reason == reasonExpired:
		return errors.New("it has expired (exp)")
	}
	return err
}
