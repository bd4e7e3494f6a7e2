package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/connect"
)

// seed makes the operators' tokens and the tenants, and on the first start the demonstration: real calls by
// several operators, with the mistakes that operators make.
func (d *dev) seed(ctx context.Context) error {
	session, err := connect.PostgresPool(d.roleURL("argus_owner"), "argus-dev")
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, session)
	if err != nil {
		return err
	}
	defer pool.Close()
	declared, err := services.Load(d.servicesFile())
	if err != nil {
		return err
	}
	argus.DeclareScopes(declared.Scopes()) // the tokens get those that the file gives their presets now
	for _, o := range demoOperators() {
		name := o.token
		if name == "" {
			name = "demo/" + o.id
		}
		if secret := d.state.Tokens[name]; secret != "" && d.accepted(ctx, secret, o.scopes) {
			continue
		}
		_, secret, err := credential.IssueToken(ctx, pool, credential.NewToken{
			ActorID: o.id, Name: "make dev", Scopes: o.scopes, ExpiresIn: 90 * 24 * time.Hour})
		if err != nil {
			return err
		}
		d.state.Tokens[name] = secret
	}
	if err := api.SeedTenants(ctx, pool); err != nil {
		return err
	}
	if !d.state.Seeded {
		if err := d.demonstrate(ctx); err != nil {
			return err
		}
		d.state.Seeded = true
	}
	return d.state.save()
}

// caller makes calls as one operator.
type caller struct {
	base, token, agent string
	client             *http.Client
}

func (d *dev) caller(tokenName, agent string) *caller {
	return &caller{"http://" + d.addr, d.state.Tokens[tokenName], agent, &http.Client{Timeout: time.Minute}}
}

// do returns the status and decodes a JSON answer into out, unless out is nil.
func (c *caller) do(ctx context.Context, method, path string, body, out any) (int, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		payload = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("User-Agent", c.agent)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && out != nil && response.StatusCode < 300 {
		err = jsonv2.Unmarshal(data, out)
	}
	return response.StatusCode, err
}

// accepted reports whether a token is good, for all of the scopes.
func (d *dev) accepted(ctx context.Context, token string, scopes []argus.Scope) bool {
	c := &caller{"http://" + d.addr, token, "argusctl/" + argus.Version, &http.Client{Timeout: time.Minute}}
	var me struct {
		Scopes []argus.Scope `json:"scopes"`
	}
	status, err := c.do(ctx, http.MethodGet, "/v1/operators/me", nil, &me)
	return err == nil && status == http.StatusOK && argus.Within(scopes, me.Scopes)
}

// demonstrate is an hour's work of four operators, done in a second.
func (d *dev) demonstrate(ctx context.Context) error {
	const browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
	cli := "argusctl/" + argus.Version
	ada, grace := d.caller("ARGUS_TOKEN", cli), d.caller("ARGUS_TOKEN_SUPPORT", browser)
	linus, mira := d.caller("ARGUS_TOKEN_TENANTS", "curl/8.14.1"), d.caller("demo/user_2mira", browser)

	type body map[string]any
	type step struct {
		who          *caller
		method, path string
		body         any
	}
	var worker struct {
		ID string `json:"id"`
	}
	status, err := ada.do(ctx, http.MethodPost, "/compute/ops/launch",
		body{"provider": "local", "reason": "load test for 7-Eleven, Store 001"}, &worker)
	if err != nil {
		return err
	}
	if status != http.StatusCreated {
		return fmt.Errorf("launching a worker answered %d", status)
	}
	steps := []step{
		{ada, "GET", "/v1/operators/me", nil},
		{ada, "GET", "/v1/health", nil},
		{ada, "GET", "/compute/ops/workers", nil},
		{grace, "GET", "/v1/tenants", nil},
		{grace, "GET", "/v1/tenants/UTD_7ELEVEN_001", nil},
		{grace, "POST", "/v1/tenants/UTD_7ELEVEN_001/arm", body{"reason": "customer call", "confirm_tenant_id": "UTD_7ELEVEN_001"}},    // 403: scope
		{mira, "POST", "/v1/tenants/UTD_NORTHMART_014/arm", body{"reason": "customer call", "confirm_tenant_id": "UTD_NORTHMART_014"}}, // 403: consent
		{mira, "POST", "/v1/tenants/UTD_LAKESIDE_008/arm", body{"reason": "printer stuck", "confirm_tenant_id": "UTD_LAKESIDE_08"}},    // 403: step-up
		{mira, "POST", "/v1/tenants/UTD_LAKESIDE_008/arm", body{"reason": "printer stuck", "confirm_tenant_id": "UTD_LAKESIDE_008"}},
		{mira, "POST", "/v1/tenants/UTD_LAKESIDE_008/sessions", body{"reason": "printer stuck", "minutes": 30}},
		{mira, "POST", "/v1/tenants/UTD_LAKESIDE_008/disarm", body{"reason": "solved"}},
		{ada, "POST", "/compute/ops/workers/" + worker.ID + "/stop", body{"reason": "lunch"}},
		{mira, "POST", "/compute/ops/workers/" + worker.ID + "/stop", body{"reason": "already stopped"}}, // 409
		{ada, "POST", "/compute/ops/workers/" + worker.ID + "/resume", body{"reason": "back from lunch"}},
		{linus, "GET", "/v1/tenants", nil},
		{linus, "GET", "/v1/audit-log", nil},                  // 403: scope
		{linus, "GET", "/v1/tenants/UTD_7ELEVEN_999", nil},    // 404
		{linus, "GET", "/v1/tenant", nil},                     // no such route
		{ada, "POST", "/compute/ops/launch", body{"oops": 1}}, // 400
		{ada, "GET", "/svc/sample/v1/items", nil},
		{ada, "POST", "/svc/sample/v1/items", body{"name": "lamp"}},
		{grace, "GET", "/svc/sample/v1/items/4", nil},
		{grace, "POST", "/svc/sample/v1/items", body{"name": "chair"}}, // 403: scope
		{mira, "POST", "/svc/sample/v1/items/4/retire", nil},           // 400: no reason
		{mira, "GET", "/svc/sample/v1/items/9", nil},                   // 404: the service's own
		{mira, "GET", "/svc/sample/v1/secrets", nil},                   // 404: not declared
		{grace, "GET", "/v1/perf?since=1h", nil},
		{grace, "GET", "/v1/audit-log?since=1h&status=403", nil},
	}
	for _, s := range steps {
		if _, err := s.who.do(ctx, s.method, s.path, s.body, nil); err != nil {
			return err
		}
	}
	return nil
}

// makeLoad makes calls at the rate until ctx ends. Failures are part of the traffic.
func (d *dev) makeLoad(ctx context.Context, perSecond float64) {
	operators := []*caller{d.caller("ARGUS_TOKEN", "argusctl/"+argus.Version), d.caller("ARGUS_TOKEN_SUPPORT", "Mozilla/5.0"),
		d.caller("ARGUS_TOKEN_TENANTS", "curl/8.14.1"), d.caller("demo/user_2mira", "Mozilla/5.0")}
	tenants := []string{"UTD_7ELEVEN_001", "UTD_7ELEVEN_002", "UTD_LAKESIDE_008", "UTD_HARBOR_021"}
	paths := []func() string{
		func() string { return "/v1/tenants" },
		func() string { return "/v1/tenants/" + tenants[rand.IntN(len(tenants))] },
		func() string { return "/compute/ops/workers" },
		func() string { return "/v1/operators/me" },
		func() string { return "/v1/health" },
		func() string { return "/v1/audit-log?since=5m&limit=20" },
		func() string { return "/v1/tenants/UTD_UNKNOWN_001" },
	}
	slots := make(chan struct{}, 64) // calls under way
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue // the server is slower than the rate
		}
		go func() {
			defer func() { <-slots }()
			// The square of a uniform number favours the first of each list, as real traffic does.
			u, v := rand.Float64(), rand.Float64()
			operators[int(u*u*float64(len(operators)))].do(ctx, http.MethodGet, paths[int(v*v*float64(len(paths)))](), nil, nil)
		}()
	}
}
