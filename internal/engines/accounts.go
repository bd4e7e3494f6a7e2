package engines

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SetPostgresPassword lets the role, which the migrations make NOLOGIN and without a password, log in with
// this one. superURL is that of a superuser, or of a role that administers it. The password travels as a
// SCRAM verifier's input in a statement that the server does not log by default.
func SetPostgresPassword(ctx context.Context, superURL, role, password string) error {
	conn, err := pgx.Connect(ctx, superURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if strings.ContainsAny(password, "'\\\x00") {
		return errors.New("a password may not contain quotes, backslashes or NUL")
	}
	query := fmt.Sprintf("ALTER ROLE %s LOGIN PASSWORD '%s'", pgx.Identifier{role}.Sanitize(), password)
	for {
		_, err = conn.Exec(ctx, query)
		// Roles belong to the whole server: another database's set-up may be doing the same.
		var concurrent *pgconn.PgError
		if !errors.As(err, &concurrent) || concurrent.Code != "XX000" || !strings.Contains(concurrent.Message, "concurrently") {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("setting the password of the role %s: %w", role, err)
	}
	return nil
}

// SetClickHousePassword lets the user, whom the migrations make without a usable password, log in with this
// one from any host. adminURL is that of a user who may alter users. Not for the embedded server, whose
// users are stated when it starts (ClickHouseConfig.Users).
func SetClickHousePassword(ctx context.Context, adminURL, user, password string) error {
	options, err := clickhouse.ParseDSN(adminURL)
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	if strings.ContainsAny(user, "`\\\x00") || strings.ContainsAny(password, "'\\\x00") {
		return errors.New("a user or password may not contain quotes, backslashes or NUL")
	}
	query := fmt.Sprintf("ALTER USER `%s` IDENTIFIED WITH sha256_password BY '%s' HOST ANY", user, password)
	if err := conn.Exec(ctx, query); err != nil {
		return fmt.Errorf("setting the password of the ClickHouse user %s: %w", user, err)
	}
	return nil
}
