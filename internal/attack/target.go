package attack

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
)

// target is a running argusd dev, and all that is known of it: each thief is given a part.
type target struct {
	config Config
	bin    string
	env    map[string]string // of env and admin.env
	run    string            // marks what this run makes

	passwords map[string]string // by Postgres role, or clickhouse/user
	issuerKey *rsa.PrivateKey

	postgresURL string // a URL of the database, whose user is replaced
	super       *pgx.Conn
	roles       []string // those a thief could have, sorted
	conns       map[string]*pgx.Conn
	borrowed    []string // logins made for roles that have no password here
	requests    atomic.Int64
	sources     atomic.Int64
	routes      []route
}

// openTarget reads the folder of an argusd dev and connects to its stores.
func openTarget(ctx context.Context, config Config) (*target, error) {
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, err
	}
	config.Dir = dir
	t := &target{config: config, env: map[string]string{}, conns: map[string]*pgx.Conn{}, run: fmt.Sprintf("attack-%x", rand.Uint32())}
	for _, name := range []string{"env", "admin.env"} {
		if err := readEnvFile(filepath.Join(dir, name), t.env); err != nil {
			return nil, fmt.Errorf("is argusd dev running on %s? %w", dir, err)
		}
	}
	t.bin = cmp.Or(config.Bin, t.env["PATH"])
	var state struct {
		Passwords map[string]string `json:"passwords"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		return nil, err
	}
	t.passwords = state.Passwords
	for name, file := range map[string]string{"postgres": "postgres/superuser.password", "clickhouse/argus_migrate": "clickhouse/admin.password"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		t.passwords[name] = strings.TrimSpace(string(data))
	}
	if data, err = os.ReadFile(filepath.Join(dir, "issuer.pem")); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("issuer.pem is damaged")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	t.issuerKey, _ = key.(*rsa.PrivateKey)

	t.postgresURL = t.env["ARGUS_POSTGRES_ADMIN_URL"]
	if t.super, err = t.connect(ctx, "postgres", t.passwords["postgres"]); err != nil {
		return nil, err
	}
	if err := t.findRoles(ctx); err != nil {
		t.close()
		return nil, err
	}
	if err := t.findRoutes(ctx); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// readEnvFile reads lines like export NAME='value'.
func readEnvFile(path string, into map[string]string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if !ok {
			continue
		}
		value = strings.TrimSuffix(value, `:"$PATH"`)
		if len(value) > 1 && value[0] == '\'' {
			value = strings.ReplaceAll(value[1:len(value)-1], `'\''`, `'`)
		}
		into[name] = value
	}
	return lines.Err()
}

// connect logs in to the database. No statement of an attempt takes long, and none waits long for a lock.
func (t *target) connect(ctx context.Context, user, password string) (*pgx.Conn, error) {
	u, err := url.Parse(t.postgresURL)
	if err != nil {
		return nil, errors.New("ARGUS_POSTGRES_ADMIN_URL cannot be read")
	}
	u.User = url.UserPassword(user, password)
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("ARGUS_POSTGRES_ADMIN_URL cannot be read")
	}
	config.RuntimeParams["statement_timeout"] = "8s"
	config.RuntimeParams["lock_timeout"] = "4s"
	config.RuntimeParams["application_name"] = "attack"
	config.OnNotice = nil
	return pgx.ConnectConfig(ctx, config)
}

// findRoles lists the roles of ARGUS below its owner. One without a password in dev.json is played by a login that
// is its member.
func (t *target) findRoles(ctx context.Context) error {
	rows, err := t.super.Query(ctx, `SELECT rolname::text FROM pg_roles
		WHERE rolname LIKE 'argus\_%' AND rolname <> 'argus_owner' ORDER BY 1`)
	if err != nil {
		return err
	}
	if t.roles, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return err
	}
	for _, role := range t.roles {
		user, password := role, t.passwords[role]
		if password == "" {
			user, password = "attack_"+role, t.run
			if err := t.makeLogin(ctx, user, password, role); err != nil {
				return err
			}
		}
		if t.conns[role], err = t.connect(ctx, user, password); err != nil {
			return fmt.Errorf("as %s: %w", role, err)
		}
	}
	return nil
}

// makeLogin makes a login that is a member of a role; close drops it.
func (t *target) makeLogin(ctx context.Context, user, password, role string) error {
	name, of := pgx.Identifier{user}.Sanitize(), pgx.Identifier{role}.Sanitize()
	if _, err := t.super.Exec(ctx, "DROP ROLE IF EXISTS "+name); err != nil {
		return err
	}
	t.borrowed = append(t.borrowed, user)
	_, err := t.super.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE %s", name, password, of))
	return err
}

func (t *target) close() {
	ctx := context.Background()
	for _, c := range t.conns {
		c.Close(ctx)
	}
	for _, user := range t.borrowed {
		name := pgx.Identifier{user}.Sanitize()
		_, _ = t.super.Exec(ctx, "DROP OWNED BY "+name)
		_, _ = t.super.Exec(ctx, "DROP ROLE IF EXISTS "+name)
	}
	t.super.Close(ctx)
}

// thieves are the roles but those named.
func (t *target) thieves(but ...string) []string {
	return slices.DeleteFunc(slices.Clone(t.roles), func(r string) bool { return slices.Contains(but, r) })
}
