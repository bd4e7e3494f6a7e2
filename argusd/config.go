package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/provider"
)

// Configuration comes from the environment alone, one struct a process. Every value is checked at start and
// all errors are told at once. Embedded structs are exported: the library that reads the environment sees no others.
// envDefault is for a variable that is unset or empty, whenUnset for one where empty has a meaning.

type LogConfig struct {
	Level  slog.Level `env:"ARGUS_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	Format string     `env:"ARGUS_LOG_FORMAT" envDefault:"json" help:"json or text"`
}

func (c LogConfig) logger() *slog.Logger { return newLogger(c.Level, c.Format) }

type ClerkConfig struct {
	Issuer            string            `env:"ARGUS_CLERK_ISSUER" help:"the exact issuer of session tokens, https; with any variable of Clerk's the ones without a default are required, but for the publishable key"`
	SecretKey         string            `env:"ARGUS_CLERK_SECRET_KEY" help:"key of Clerk's backend API" secret:"true"`
	PublishableKey    string            `env:"ARGUS_CLERK_PUBLISHABLE_KEY" help:"what the console signs in with"`
	APIURL            string            `env:"ARGUS_CLERK_API_URL" envDefault:"https://api.clerk.com/v1" help:"Clerk's backend API"`
	AuthorizedParties []string          `env:"ARGUS_CLERK_AUTHORIZED_PARTIES" help:"origins whose session tokens are taken, comma separated"`
	Organization      string            `env:"ARGUS_CLERK_ORGANIZATION" help:"the one organization (org_…) whose members may call"`
	RoleScopes        map[string]string `env:"ARGUS_CLERK_ROLE_SCOPES" envKeyValSeparator:"=" envSeparator:";" envDefault:"org:admin=admin-full;org:member=support-readonly" help:"role or permission = preset or scopes (a b c), separated by ;"`
}

type apiConfig struct {
	LogConfig
	ClerkConfig
	IdentityFile   string        `env:"ARGUS_IDENTITY_FILE" help:"file of OpenID Connect issuers, docs/identity.md; Clerk or one of them is required"`
	Listen         string        `env:"ARGUS_LISTEN" envDefault:":8420" help:"address of the ops API and the console"`
	MetricsListen  string        `env:"ARGUS_METRICS_LISTEN" whenUnset:"127.0.0.1:9420" help:"address of /metrics; empty turns it off"`
	PostgresURL    string        `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_api" secret:"true"`
	ClickHouseURL  string        `env:"ARGUS_CLICKHOUSE_URL,required,notEmpty" help:"as argus_reader, native protocol: one URL, or name=url for each copy, separated by blanks; shards of a copy are joined by |" secret:"true"`
	HedgeAfter     time.Duration `env:"ARGUS_HEDGE_AFTER" envDefault:"100ms" help:"how long a copy in ClickHouse may take before another is asked as well, at most 5 % of questions; 0 turns it off"`
	ConsentURL     string        `env:"ARGUS_POSTGRES_CONSENT_URL" help:"as argus_consent: lets operators with tenants:write record consents; empty leaves that to the host" secret:"true"`
	CursorKey      string        `env:"ARGUS_CURSOR_KEY,required,notEmpty" help:"64 hex digits, the same for every API process" secret:"true"`
	TrustedProxies []string      `env:"ARGUS_TRUSTED_PROXIES" help:"networks whose X-Forwarded-For is believed, comma separated"`
	ServicesConfig
	ShutdownDelay time.Duration `env:"ARGUS_SHUTDOWN_DELAY" envDefault:"3s" help:"after a request to stop, how long /readyz says no and calls are still taken; 0s to 1m"`
	WriterLanes   int           `env:"ARGUS_WRITER_LANES" envDefault:"0" help:"concurrent audit batches, 1 to 16; 0 chooses"`
}

type replicatorConfig struct {
	LogConfig
	MetricsListen string `env:"ARGUS_METRICS_LISTEN" whenUnset:"127.0.0.1:9421" help:"address of /metrics; empty turns it off"`
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_replicator, the primary" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL,required,notEmpty" help:"as argus_replicator, native protocol; several copies as for the API" secret:"true"`
	Copy          string `env:"ARGUS_COPY" help:"which server of ARGUS_CLICKHOUSE_URL this process copies to, NAME or NAME/2 for a shard; required where it names several"`
	Slot          string `env:"ARGUS_REPLICATION_SLOT" envDefault:"argus" help:"name of the logical replication slot; of a named copy it is followed by _NAME, of a shard by _NAME_2"`
}

type migrateConfig struct {
	LogConfig
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as a superuser, or a role that may create roles and is a member of argus_owner" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" help:"as an administrator (argus_migrate), native protocol; several copies as for the API; empty skips ClickHouse" secret:"true"`

	// A password that is empty leaves the login as it is.
	API                   string `env:"ARGUS_POSTGRES_API_PASSWORD" help:"lets the role argus_api log in with it; so do the others for theirs" secret:"true"`
	Replicator            string `env:"ARGUS_POSTGRES_REPLICATOR_PASSWORD" help:"of argus_replicator" secret:"true"`
	Maintenance           string `env:"ARGUS_POSTGRES_MAINTENANCE_PASSWORD" help:"of argus_maintenance" secret:"true"`
	Hold                  string `env:"ARGUS_POSTGRES_HOLD_PASSWORD" help:"of argus_hold" secret:"true"`
	BreakGlass            string `env:"ARGUS_POSTGRES_BREAK_GLASS_PASSWORD" help:"of argus_break_glass" secret:"true"`
	Consent               string `env:"ARGUS_POSTGRES_CONSENT_PASSWORD" help:"of argus_consent" secret:"true"`
	Ledger                string `env:"ARGUS_POSTGRES_LEDGER_PASSWORD" help:"of argus_ledger" secret:"true"`
	Ship                  string `env:"ARGUS_POSTGRES_SHIP_PASSWORD" help:"of argus_ship" secret:"true"`
	Auditor               string `env:"ARGUS_POSTGRES_AUDITOR_PASSWORD" help:"of argus_auditor" secret:"true"`
	ClickHouseReplicator  string `env:"ARGUS_CLICKHOUSE_REPLICATOR_PASSWORD" help:"of ClickHouse's argus_replicator" secret:"true"`
	ClickHouseMaintenance string `env:"ARGUS_CLICKHOUSE_MAINTENANCE_PASSWORD" help:"of ClickHouse's argus_maintenance" secret:"true"`
	ClickHouseReader      string `env:"ARGUS_CLICKHOUSE_READER_PASSWORD" help:"of ClickHouse's argus_reader" secret:"true"`
}

// logins are the passwords that are set, by role or user.
func (c migrateConfig) logins() (postgres, clickhouse map[string]string) {
	set := func(all map[string]string) map[string]string {
		maps.DeleteFunc(all, func(_, password string) bool { return password == "" })
		return all
	}
	return set(map[string]string{"argus_api": c.API, "argus_replicator": c.Replicator, "argus_maintenance": c.Maintenance,
			"argus_hold": c.Hold, "argus_break_glass": c.BreakGlass, "argus_consent": c.Consent, "argus_ledger": c.Ledger, "argus_ship": c.Ship, "argus_auditor": c.Auditor}),
		set(map[string]string{"argus_replicator": c.ClickHouseReplicator, "argus_maintenance": c.ClickHouseMaintenance, "argus_reader": c.ClickHouseReader})
}

type maintainConfig struct {
	LogConfig
	LedgerKeep    int    `env:"ARGUS_LEDGER_KEEP" envDefault:"0" help:"months that the entries of the ledger are kept after their rows have left, 13 at least; 0: for ever"`
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_maintenance" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" help:"as argus_maintenance, native protocol; several copies as for the API; empty skips ClickHouse" secret:"true"`
}

type holdConfig struct {
	LogConfig
	PostgresURL string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_hold; argus_maintenance can list" secret:"true"`
}

type breakGlassConfig struct {
	LogConfig
	PostgresURL  string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_break_glass" secret:"true"`
	ServicesFile string `env:"ARGUS_SERVICES_FILE" help:"file of the services behind the door, whose scopes a token may then have"`
}

type consentConfig struct {
	LogConfig
	PostgresURL string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_consent" secret:"true"`
}

func (c apiConfig) cursorKey() []byte {
	key, _ := hex.DecodeString(c.CursorKey) // checked by problems
	return key
}

func (c apiConfig) trustedProxies() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, s := range c.TrustedProxies {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		network, err := argus.ParseNetwork(s)
		if err == nil && network != network.Masked() {
			err = fmt.Errorf("%q has bits behind its length: write %s, or the address alone", s, network.Masked())
		}
		if err != nil {
			return nil, fmt.Errorf("ARGUS_TRUSTED_PROXIES: %w", err)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// roleScopes reads ARGUS_CLERK_ROLE_SCOPES: each role or permission maps to a preset or to scopes.
func (c ClerkConfig) roleScopes() (map[string][]argus.Scope, error) {
	m := map[string][]argus.Scope{}
	for role, value := range c.RoleScopes {
		role, value = strings.TrimSpace(role), strings.TrimSpace(value)
		scopes := []argus.Scope{argus.Scope(value)} // a preset's name is expanded at each use
		if _, preset := argus.PresetScopes(value); !preset {
			var err error
			if scopes, err = argus.ParseScopes(strings.Fields(value)); err != nil || len(scopes) == 0 {
				return nil, fmt.Errorf("ARGUS_CLERK_ROLE_SCOPES: %q of %q is neither a preset nor a list of scopes", value, role)
			}
		}
		if !strings.HasPrefix(role, "org:") {
			return nil, fmt.Errorf("ARGUS_CLERK_ROLE_SCOPES: %q is no role or permission of Clerk's (org:…), so no caller has it", role)
		}
		m[role] = scopes
	}
	return m, nil
}

// api is the API's configuration as far as it comes from the environment.
func (c apiConfig) api(dev devAPI) (api.Config, error) {
	proxies, err := c.trustedProxies()
	if err != nil {
		return api.Config{}, err
	}
	scopes, err := c.roleScopes()
	if err != nil {
		return api.Config{}, err
	}
	issuers, found := readIdentity(c.IdentityFile)
	if len(found) > 0 {
		return api.Config{}, errors.New(strings.Join(found, "\n"))
	}
	keys, public, err := c.door()
	if err != nil {
		return api.Config{}, err
	}
	config := api.Config{
		AssertionKeys: keys, PublicURL: public,
		TrustedProxies: proxies, ConsentURL: c.ConsentURL, Issuers: issuers,
	}
	if c.ClerkConfig.set() {
		config.Clerk = credential.ClerkConfig{
			Issuer: c.Issuer, SecretKey: c.SecretKey, PublishableKey: c.PublishableKey, APIURL: c.APIURL,
			AuthorizedParties: c.AuthorizedParties, Organization: c.Organization, RoleScopes: scopes,
		}
	}
	if dev.localIssuer {
		config.Clerk.Local = true
		config.Clerk.LocalSignInURL = c.Issuer + "/sign-in"
	}
	if dev.workersDir != "" {
		local, err := provider.NewLocal(provider.LocalConfig{Dir: dev.workersDir})
		if err != nil {
			return api.Config{}, err
		}
		config.Providers = append(config.Providers, local)
	}
	return config, nil
}
