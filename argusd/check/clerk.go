package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxTokenSkew: a session token lives for a minute, and five seconds are allowed for clocks that differ.
const maxTokenSkew = 5 * time.Second

// Clerk is what the API depends on of Clerk.
type Clerk struct{ APIURL, SecretKey, Organization string }

func (c Clerk) check(ctx context.Context, r *Report) {
	before := r.clock()
	status, date, err := c.get(ctx, "/jwks")
	var dns *net.DNSError
	mend := "see that this machine reaches ARGUS_CLERK_API_URL over https: proxies, firewalls, network policies"
	switch {
	case errors.As(err, &dns):
		mend = "the host of ARGUS_CLERK_API_URL has no address: see its spelling, and this machine's DNS"
	case err != nil:
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		err = fmt.Errorf("Clerk rejects the secret key (%d)", status)
		mend = "set ARGUS_CLERK_SECRET_KEY to a secret key of this instance: Clerk's dashboard, API keys"
	case status != http.StatusOK:
		err = fmt.Errorf("Clerk answered %d", status)
		mend = "see ARGUS_CLERK_API_URL (https://api.clerk.com/v1) and Clerk's status page"
	}
	r.Line("Clerk: secret key", err, mend)
	if err != nil {
		return
	}
	if theirs, err := http.ParseTime(date); err == nil {
		// The header has whole seconds, cut.
		r.skew("Clerk", theirs.Add(time.Second/2), before.Add(-time.Second), maxTokenSkew,
			"run NTP on this machine (see timedatectl): session tokens are answered 401 when clocks differ by more than five seconds")
	}

	status, _, err = c.get(ctx, "/organizations/"+url.PathEscape(c.Organization)+"/memberships?limit=1")
	switch {
	case err != nil:
	case status == http.StatusNotFound || status == http.StatusForbidden:
		err = fmt.Errorf("Clerk knows no organization %s in this instance", c.Organization)
	case status != http.StatusOK:
		err = fmt.Errorf("Clerk answered %d", status)
	}
	r.Line("Clerk: organization", err, "set ARGUS_CLERK_ORGANIZATION to the organization's id: Clerk's dashboard, Organizations; and see that key and organization are of one instance")
}

func (c Clerk) get(ctx context.Context, path string) (status int, date string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.APIURL, "/")+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+c.SecretKey)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the key goes nowhere else
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, response.Header.Get("Date"), nil
}
