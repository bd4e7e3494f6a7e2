package provider

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	exact "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// HTTPConfig is a fleet's controller that runs workers, called as docs/provider.openapi.yaml says.
type HTTPConfig struct {
	Name    string
	URL     string // without a slash at its end
	TLS     *tls.Config
	Timeout time.Duration // of one request, its answer included

	// Assert makes the Argus-Assertion of a request.
	Assert func(Request) (string, error)
}

// Request is what an assertion is made of.
type Request struct {
	Provider    string
	Method, URL string
	Body        []byte
	Caller      Caller
}

// Caller says on whose behalf a provider is asked. It is empty when no call is under way: while ARGUS looks what is true.
type Caller struct {
	AuditID        string
	ActorID        string
	ActorKind      string
	ImpersonatorID string
	Agent          string
}

type callerKey struct{}

// WithCaller returns a context whose requests to providers name the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// Bounds of a controller's answers.
const (
	maxInstances      = 100_000
	maxInstanceList   = 64 << 20
	maxInstanceAnswer = 64 << 10
	maxHandle         = 200
	maxRef            = 16 << 10
)

type httpProvider struct {
	config HTTPConfig
	client *http.Client
}

// httpInstance is an instance as a controller tells it.
type httpInstance struct {
	Handle      string         `json:"handle"`
	WorkerID    string         `json:"worker_id"`
	State       State          `json:"state"`
	StartedAt   time.Time      `json:"started_at"`
	CostPerHour float64        `json:"cost_per_hour"`
	Detail      map[string]any `json:"detail"`
}

// NewHTTP returns the provider that asks a controller. It keeps no state.
func NewHTTP(config HTTPConfig) Provider { return newHTTP(config) }

func newHTTP(config HTTPConfig) *httpProvider {
	return &httpProvider{config: config, client: &http.Client{
		Timeout: config.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a redirect is an answer, and not one of the contract
		},
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:        config.TLS,
			TLSHandshakeTimeout:    5 * time.Second,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        4 * time.Second, // shorter than servers keep them
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		},
	}}
}

func (p *httpProvider) Name() string { return p.config.Name }

// CloseIdleConnections ends the connections that no request uses.
func (p *httpProvider) CloseIdleConnections() { p.client.CloseIdleConnections() }

func (p *httpProvider) Launch(ctx context.Context, workerID string) (Instance, error) {
	body, err := json.Marshal(map[string]string{"worker_id": workerID})
	if err != nil {
		return Instance{}, err
	}
	var in httpInstance
	if _, err := p.ask(ctx, http.MethodPost, "/instances", body, &in, maxInstanceAnswer); err != nil {
		return Instance{}, err
	}
	instance, err := in.instance()
	if err == nil && instance.WorkerID != workerID {
		err = fmt.Errorf("launched %q as worker %q", workerID, instance.WorkerID)
	}
	return instance, err
}

func (p *httpProvider) Stop(ctx context.Context, ref json.RawMessage) error {
	return p.act(ctx, http.MethodPost, ref, "/stop")
}

func (p *httpProvider) Resume(ctx context.Context, ref json.RawMessage) error {
	return p.act(ctx, http.MethodPost, ref, "/resume")
}

func (p *httpProvider) Terminate(ctx context.Context, ref json.RawMessage) error {
	err := p.act(ctx, http.MethodDelete, ref, "")
	var no *statusError
	if errors.As(err, &no) && no.status == http.StatusNotFound && no.known {
		return nil // gone already
	}
	return err
}

func (p *httpProvider) act(ctx context.Context, method string, ref json.RawMessage, verb string) error {
	var named struct {
		Handle string `json:"handle"`
	}
	if err := exact.Unmarshal(ref, &named); err != nil || checkHandle(named.Handle) != nil {
		return fmt.Errorf("not a reference of the provider %s: %s", p.config.Name, ref)
	}
	_, err := p.ask(ctx, method, "/instances/"+url.PathEscape(named.Handle)+verb, nil, nil, maxInstanceAnswer)
	return err
}

func (p *httpProvider) List(ctx context.Context) ([]Instance, error) {
	var list struct {
		Instances *instanceList `json:"instances"`
	}
	if _, err := p.ask(ctx, http.MethodGet, "/instances", nil, &list, maxInstanceList); err != nil {
		return nil, err
	}
	if list.Instances == nil {
		return nil, errors.New("the answer has no list of instances")
	}
	return *list.Instances, nil
}

// instanceList is a list of instances as a controller tells it. Each is checked as it is read: an answer within its bound
// would otherwise become many times as much memory.
type instanceList []Instance

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *instanceList) UnmarshalJSONFrom(from *jsontext.Decoder) error {
	if begin, err := from.ReadToken(); err != nil || begin.Kind() != '[' {
		return cmp.Or(err, errors.New("instances is no list"))
	}
	seen := map[string]bool{}
	all := instanceList{}
	for from.PeekKind() != ']' {
		text, err := from.ReadValue()
		switch {
		case err != nil:
			return err
		case len(all) == maxInstances:
			return fmt.Errorf("there are more than %d instances", maxInstances)
		case len(text) > maxInstanceAnswer:
			return fmt.Errorf("an instance of %d bytes is longer than %d", len(text), maxInstanceAnswer)
		}
		var told httpInstance
		if err := exact.Unmarshal(text, &told); err != nil {
			return err
		}
		in, err := told.instance()
		if err != nil {
			return err
		}
		if seen[in.Handle] {
			return fmt.Errorf("the instance %q is listed twice", in.Handle)
		}
		seen[in.Handle] = true
		all = append(all, in)
	}
	*l = all
	_, err := from.ReadToken()
	return err
}

// instance checks what the controller said.
func (in *httpInstance) instance() (Instance, error) {
	if err := checkHandle(in.Handle); err != nil {
		return Instance{}, err
	}
	switch {
	case in.State != Running && in.State != Stopped:
		return Instance{}, fmt.Errorf("instance %q has the state %q: want running or stopped", in.Handle, in.State)
	case in.StartedAt.IsZero():
		return Instance{}, fmt.Errorf("instance %q has no started_at", in.Handle)
	case !(in.CostPerHour >= 0 && in.CostPerHour < 1e6):
		return Instance{}, fmt.Errorf("instance %q costs %v an hour", in.Handle, in.CostPerHour)
	case len(in.WorkerID) > maxHandle || !utf8.ValidString(in.WorkerID) || strings.ContainsRune(in.WorkerID, 0):
		return Instance{}, fmt.Errorf("instance %q has a worker_id that ARGUS never gave", in.Handle)
	}
	ref := in.Detail
	if ref == nil {
		ref = map[string]any{}
	}
	ref["handle"] = in.Handle
	data, err := json.Marshal(ref)
	if err == nil && (len(data) > maxRef || bytes.Contains(data, []byte(`\u0000`))) {
		err = fmt.Errorf("instance %q has a detail of %d bytes, more than %d, or one that no database keeps", in.Handle, len(data), maxRef)
	}
	return Instance{Handle: in.Handle, WorkerID: in.WorkerID, State: in.State, StartedAt: in.StartedAt, CostPerHour: in.CostPerHour, Ref: data}, err
}

// checkHandle: a handle stands in paths of both APIs.
func checkHandle(handle string) error {
	if handle == "" || len(handle) > maxHandle || handle == "." || handle == ".." || strings.ContainsFunc(handle, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~:", r))
	}) {
		return fmt.Errorf("%.64q is no handle: 1 to %d letters, digits and -._~:", handle, maxHandle)
	}
	return nil
}

// statusError is an answer of a controller that says no. known: it is an answer of the contract, and no proxy's.
type statusError struct {
	status  int
	known   bool
	message string
}

func (e *statusError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("answered %d", e.status)
	}
	return fmt.Sprintf("answered %d: %s", e.status, e.message)
}

// ask makes one request. An error of a request that was sent says nothing of what became of it.
func (p *httpProvider) ask(ctx context.Context, method, path string, body []byte, into any, limit int64) (*http.Response, error) {
	target := p.config.URL + path
	caller, _ := ctx.Value(callerKey{}).(Caller)
	assertion, err := p.config.Assert(Request{Provider: p.config.Name, Method: method, URL: target, Body: body, Caller: caller})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	// No request is repeated by itself: net/http repeats one on a connection that breaks, unless its body cannot be had
	// again. So one without a body gets an empty one; identity keeps it from being sent in chunks.
	r.GetBody = nil
	if body == nil && (method == http.MethodGet || method == http.MethodDelete) {
		r.Body, r.TransferEncoding = io.NopCloser(bytes.NewReader(nil)), []string{"identity"}
	}
	r.Header.Set("Argus-Assertion", assertion)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "argus")
	if caller.AuditID != "" {
		r.Header.Set("Argus-Audit-Id", caller.AuditID)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer breaks off: %w", err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		no := &statusError{status: resp.StatusCode}
		var said struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"error"`
		}
		if exact.Unmarshal(data, &said) == nil && said.Error.Code != "" {
			no.known, no.message = true, fmt.Sprintf("%.100s: %.300s", said.Error.Code, said.Error.Message)
		}
		return nil, no
	case into == nil:
		return resp, nil
	}
	if err := exact.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("the answer is not understood: %w", err)
	}
	return resp, nil
}
