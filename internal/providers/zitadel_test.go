package providers

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/useargus/argus"
)

// publicClient is a client without a secret that may use the device grant too.
type publicClient struct{ op.Client }

func (publicClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
}
func (publicClient) IDTokenUserinfoClaimsAssertion() bool { return true }

// groups is the example's storage, whose people have a group.
type groups struct{ *storage.Storage }

func (g groups) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := g.Storage.GetClientByClientID(ctx, id)
	return publicClient{c}, err
}

func (g groups) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, token op.IDTokenRequest, _ []string) error {
	return fill(info, token.GetSubject())
}

func (g groups) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, _ string, _ []string) error {
	return fill(info, subject)
}

func fill(info *oidc.UserInfo, subject string) error {
	info.Subject, info.Name, info.Email = subject, "Test User", "test-user@localhost"
	info.AppendClaims("groups", []string{"sre"})
	return nil
}

// TestZitadel signs in by browser and by device with argusctl, renews, and signs out. Each ID token is judged as the API
// judges it.
func TestZitadel(t *testing.T) {
	storage.RegisterClients(storage.NativeClient(clientID, "http://127.0.0.1/callback"))
	issuer := serve(t, func(issuer string) http.Handler {
		return exampleop.SetupServer(issuer, groups{storage.NewStorage(storage.NewUserStore(issuer))}, slog.New(slog.DiscardHandler), false)
	})
	d := newDesk(t, `issuers:
  - name: zitadel
    issuer: `+issuer+`
    audience: argus
    kind: people
    scopes: {sre: admin-full}
    sign_in: {client_id: argus, scopes: [openid, profile, email, offline_access]}
`)
	if d.probe.Device == "" || !d.issuer.UsesIDToken() {
		t.Fatalf("%+v", d.probe)
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	byBrowser := func(line string) bool {
		if !strings.HasPrefix(line, issuer+"/auth?") {
			return false
		}
		resp, err := browser.Get(line)
		page, at := read(t, resp, err)
		id := at.Query().Get("authRequestID")
		if m := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(page); m != nil {
			id = m[1]
		}
		resp, err = browser.PostForm(issuer+"/login/username", url.Values{"id": {id}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}})
		if said, _ := read(t, resp, err); !strings.Contains(said, "You are signed in") {
			t.Fatalf("the browser sees %s", said)
		}
		return true
	}
	if actor := d.signInOnce(byBrowser); actor.Preset != argus.PresetAdminFull {
		t.Errorf("the person is %+v", actor)
	}
	d.signOut()
	byDevice := func(line string) bool {
		m := regexp.MustCompile(`^Open (\S+) and enter the code (\S+) `).FindStringSubmatch(line)
		if m == nil {
			return false
		}
		resp, err := browser.PostForm(issuer+"/device/login", url.Values{"user_code": {m[2]}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}})
		read(t, resp, err)
		resp, err = browser.Get(issuer + "/device/confirm?action=allowed")
		said, _ := read(t, resp, err)
		return strings.Contains(said, "allowed")
	}
	if said := d.run(byDevice, "login", "--url", d.url, "--device"); !strings.Contains(said, "as Test User (zitadel:") {
		t.Errorf("login says %s", said)
	}
}
