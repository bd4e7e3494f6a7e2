// Package logins lets the roles and users that the migrations make log in: they are made without a usable
// password. What is sent to a store is never the password, only what the store keeps of it, so that no log of
// statements has it.
package logins

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
)

// CheckPassword says why a text is no good password for a login, by its name; nil for a good one.
func CheckPassword(name, password string) error {
	if len(password) < 12 || len(password) > 128 {
		return fmt.Errorf("%s has %d characters, not 12 to 128; make one with: openssl rand -hex 24", name, len(password))
	}
	for _, c := range []byte(password) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("%s has a character that is no printable ASCII; make one with: openssl rand -hex 24", name)
		}
	}
	return nil
}

// Postgres gives each role its password and lets it log in. The URL is the migrating administrator's. Of several at
// once each waits for the one before; it may run again at any time, and sessions under way go on.
func Postgres(ctx context.Context, url string, passwords map[string]string) error {
	if len(passwords) == 0 {
		return nil
	}
	config, err := connect.Postgres(url, "argus-migrate")
	if err != nil {
		return err
	}
	config.ConnectTimeout = 10 * time.Second
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Roles belong to the server, whose databases may be several: the lock is this database's only.
		if _, err := tx.Exec(ctx, "SELECT FROM argus.locks WHERE name = 'logins' FOR UPDATE"); err != nil {
			return err
		}
		for _, role := range slices.Sorted(maps.Keys(passwords)) {
			secret, err := scramSecret(passwords[role])
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf("ALTER ROLE %s LOGIN PASSWORD '%s'", pgx.Identifier{role}.Sanitize(), secret)); err != nil {
				return fmt.Errorf("the role %s: %w", role, err)
			}
		}
		return nil
	})
}

// scramSecret is what Postgres keeps of a password, by RFC 5802. It is not enough to log in.
func scramSecret(password string) (string, error) {
	const iterations = 4096 // Postgres's own
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(mac("Server Key"))), nil
}

// ClickHouse gives each user its password and lets it come from any host. The server must keep its users by SQL.
func ClickHouse(ctx context.Context, url string, passwords map[string]string) error {
	if len(passwords) == 0 {
		return nil
	}
	options, err := connect.ClickHouse(url)
	if err != nil {
		return err
	}
	if len(options.Addr) > 1 {
		return errors.New("the URL names several hosts: name one server")
	}
	options.Auth.Database = "system" // is always there
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, user := range slices.Sorted(maps.Keys(passwords)) {
		err := conn.Exec(ctx, clickHouseStatement(user, passwords[user]))
		var rejected *clickhouse.Exception
		if errors.As(err, &rejected) && (rejected.Code == 495 || rejected.Code == 514) {
			return fmt.Errorf("the user %s comes from the server's configuration files: set its password there, and none here", user)
		}
		if err != nil {
			return fmt.Errorf("the user %s: %w", user, err)
		}
	}
	return nil
}

func clickHouseStatement(user, password string) string {
	return fmt.Sprintf("ALTER USER `%s` IDENTIFIED WITH sha256_hash BY '%X' HOST ANY", user, sha256.Sum256([]byte(password)))
}
