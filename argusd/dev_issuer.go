package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/useargus/argus/internal/localissuer"
	"github.com/useargus/argus/internal/ports"
)

const issuerOrganization = "org_2argusdev"

// devClient is the public client as which people sign in at the second local issuer.
const devClient = "argus-dev"

// devIdentity is the identity file of argusd dev.
const devIdentity = `# Written by argusd dev at each start. docs/identity.md has the reference.
issuers:
  - name: second
    issuer: %s/people
    audience: argus
    kind: people
    scopes: {sre: admin-full, support: support-readonly}
    sign_in: {client_id: %s, scopes: [openid, profile, email]}
  - name: ci
    issuer: %s/ci
    audience: %s
    kind: workloads
    rules:
      - when: {repository: acme/fleet, ref: refs/heads/main, environment: production}
        actor: deploy-bot
        scopes: [compute:read, compute:write]
      - when: {repository: acme/*}
        actor: ci
        scopes: support-readonly
`

// issuerServer is the local issuers on a loopback port of their own: one plays Clerk, a second one of people lies below
// /people, one of CI jobs below /ci.
type issuerServer struct {
	URL          string // the issuer that plays Clerk, as in its tokens
	APIURL       string // its Clerk-like backend API
	IdentityFile string // names the two others
	server       *http.Server
}

// MintURL is where a CI job gets its token, as GitHub Actions has it.
func (s *issuerServer) MintURL() string { return s.URL + "/ci/mint" }

// listenAgain listens on the port of an earlier start. If another has it meanwhile, sessions end and nothing else.
func listenAgain(port int) (net.Listener, error) {
	if port != 0 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l, nil
		}
	}
	address, err := ports.FreeAddress()
	if err != nil {
		return nil, err
	}
	return net.Listen("tcp", address)
}

// startIssuer serves the local issuer for a console at consoleAddr. Its port is kept over restarts, since its
// address is part of the tokens it signs.
func startIssuer(state *devState, dir, consoleAddr string) (*issuerServer, error) {
	listener, err := listenAgain(state.IssuerPort)
	if err != nil {
		return nil, err
	}
	state.IssuerPort = listener.Addr().(*net.TCPAddr).Port
	if err := state.save(); err != nil {
		listener.Close()
		return nil, err
	}
	issuerURL := "http://" + listener.Addr().String()
	config := localissuer.Config{URL: issuerURL, Dir: dir, SecretKey: state.ClerkKey, Organization: issuerOrganization,
		Consoles: []string{"http://" + consoleAddr}}
	for _, o := range demoOperators() {
		config.Operators = append(config.Operators, localissuer.Operator{ID: o.id, Name: o.name, Email: o.email, Role: o.role})
	}
	issuer, err := localissuer.New(config)
	if err != nil {
		listener.Close()
		return nil, err
	}
	people, err := localissuer.NewOpenID(localissuer.OpenIDConfig{URL: issuerURL + "/people", KeyFile: filepath.Join(dir, "people.pem"),
		Audience: "argus", ClientID: devClient, Redirects: []string{"http://" + consoleAddr + "/", "http://127.0.0.1/callback"},
		People: []localissuer.Identity{
			{Subject: "00u1imani", Name: "Imani Osei", Email: "imani@example.test", Groups: []string{"sre"}},
			{Subject: "00u2jonas", Name: "Jonas Weber", Email: "jonas@example.test", Groups: []string{"support"}},
			{Subject: "00u3kei", Name: "Kei Tanaka", Email: "kei@example.test"},
		}})
	if err != nil {
		listener.Close()
		return nil, err
	}
	ci, err := localissuer.NewOpenID(localissuer.OpenIDConfig{URL: issuerURL + "/ci", KeyFile: filepath.Join(dir, "ci.pem"),
		Audience: "http://" + consoleAddr, Job: map[string]any{"sub": "repo:acme/fleet:environment:production", "repository": "acme/fleet", "ref": "refs/heads/main",
			"environment": "production", "run_id": "8123450123", "run_attempt": "1", "workflow_ref": "acme/fleet/.github/workflows/deploy.yaml@refs/heads/main",
			"actor": "imani", "sha": "3f7d1e0c5a9b48d2a6c1f0e9d8b7a6c5d4e3f2a1"}})
	if err != nil {
		listener.Close()
		return nil, err
	}
	file := filepath.Join(dir, "identity.yaml")
	if err := writeFileAtomic(file, fmt.Appendf(nil, devIdentity, issuerURL, devClient, issuerURL, "http://"+consoleAddr)); err != nil {
		listener.Close()
		return nil, err
	}
	all := http.NewServeMux()
	all.Handle("/", issuer)
	all.Handle("/people/", people)
	all.Handle("/ci/", ci)
	s := &issuerServer{URL: issuerURL, APIURL: issuerURL + "/v1", IdentityFile: file, server: &http.Server{
		Handler: all, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}}
	go func() {
		if err := s.server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener is ours and open: this cannot be
		}
	}()
	return s, nil
}

func (s *issuerServer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.server.Shutdown(ctx)
	_ = s.server.Close()
}

// newDevCIToken prints a token of the local CI issuer, as a job of a running argusd dev gets it.
func newDevCIToken() *cobra.Command {
	var claims []string
	command := &cobra.Command{
		Use:   "ci-token",
		Short: "Print a token of the local CI issuer, as a job gets it",
		Long: `Print a token of the local issuer of CI jobs. It is for the running argusd dev of $ARGUS_DEV_DIR, and holds the claims of a
job of acme/fleet on its main branch. --claim changes one, to see what the rules make of it.`,
		Example: "  ARGUS_TOKEN=$(argusd dev ci-token) argusctl whoami\n  argusd dev ci-token --claim ref=refs/heads/feature --claim run_id=42",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			state, err := loadDevState(cmp.Or(os.Getenv("ARGUS_DEV_DIR"), ".argus"))
			if err != nil {
				return err
			}
			query := url.Values{"claim": claims}
			request, err := http.NewRequestWithContext(command.Context(), http.MethodGet,
				fmt.Sprintf("http://127.0.0.1:%d/ci/mint?%s", state.IssuerPort, query.Encode()), nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return fmt.Errorf("argusd dev does not run on this folder: %w", err)
			}
			defer response.Body.Close()
			data, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
			var minted struct {
				Value string `json:"value"`
			}
			if err == nil && response.StatusCode == http.StatusOK {
				err = jsonv2.Unmarshal(data, &minted)
			}
			if err != nil || minted.Value == "" {
				return fmt.Errorf("the local issuer answers %d: %s", response.StatusCode, data)
			}
			fmt.Fprintln(command.OutOrStdout(), minted.Value)
			return nil
		},
	}
	command.Flags().StringArrayVar(&claims, "claim", nil, "set a claim: `name=value`; repeat for more")
	return command
}
