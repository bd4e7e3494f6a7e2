// Package maintenance keeps both stores' months: partitions ahead of the clock, whole months past retention gone,
// those under a legal hold kept. Its SQL is in migrations/postgres/0005_retention.sql: the role argus_maintenance
// may run those functions and nothing else.
package maintenance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/connect"
)

// MonthsAhead is how many months of partitions are kept in front of the clock.
const MonthsAhead = 24

// maxSkew is how far the clocks of this machine, Postgres and ClickHouse may lie apart for months to be dropped.
const maxSkew = time.Minute

// Config is what maintenance works on.
type Config struct {
	PostgresURL   string // as argus_maintenance, the primary
	LedgerKeep    int    // months that runs of the ledger are kept after their rows have left; 0: for ever
	ClickHouseURL string // as argus_maintenance, one copy or several; empty leaves them alone

	now   func() time.Time // tests turn this machine's clock
	wait  time.Duration    // between tries to get at a month that a long query holds; 0 means 5 s
	tries int              // 0 means 12
}

// Result is what a run did. Months are their first days, UTC.
type Result struct {
	Created int         // partitions, in Postgres
	Dropped []time.Time // from Postgres
	Kept    []Kept      // past retention and kept all the same
	Copies  []Copy      // one for each server of ClickHouse, in the order of the URL
}

// Kept is a month that is past retention and stays.
type Kept struct {
	Month  time.Time
	Reason string // "hold 3: …", or what is wrong with the clock
}

// Held says whether a legal hold is what keeps the month, and not a doubt about the clock.
func (k Kept) Held() bool { return strings.HasPrefix(k.Reason, "hold ") }

// Run creates what is missing ahead and drops what is past retention, in Postgres first: what leaves ClickHouse is
// exactly what Postgres has recorded as dropped. It may be killed anywhere and run again; of two at once one
// works and the other waits. The result is what was done, beside an error too.
func Run(ctx context.Context, config Config) (Result, error) {
	var result Result
	var failed []error
	if config.now == nil {
		config.now = time.Now
	}
	if config.wait == 0 {
		config.wait = 5 * time.Second
	}
	if config.tries == 0 {
		config.tries = 12
	}
	conn, err := open(ctx, config.PostgresURL)
	if err != nil {
		return result, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// One run at a time. The lock belongs to a transaction of its own connection, and is gone when this process is.
	turn, err := open(ctx, config.PostgresURL)
	if err != nil {
		return result, err
	}
	defer turn.Close(context.WithoutCancel(ctx))
	for _, statement := range []string{"BEGIN", "SET LOCAL idle_in_transaction_session_timeout = 0", "SELECT argus.lock_maintenance()"} {
		if _, err := turn.Exec(ctx, statement); err != nil {
			return result, fmt.Errorf("taking the lock in Postgres: %w", err)
		}
	}
	if err := conn.QueryRow(ctx, "SELECT argus.create_months_ahead($1)", MonthsAhead).Scan(&result.Created); err != nil {
		return result, fmt.Errorf("creating partitions of Postgres: %w", err)
	}
	servers, err := connect.Servers(config.ClickHouseURL)
	if err != nil {
		return result, err
	}
	copies := make([]*copyStore, len(servers))
	result.Copies = make([]Copy, len(servers))
	for i, server := range servers {
		result.Copies[i].Server = server
		if copies[i], err = openCopy(ctx, server.URL); err != nil {
			result.Copies[i].Err = fmt.Errorf("connecting: %w", err)
			continue
		}
		defer copies[i].close()
	}
	if err := compareClocks(ctx, config.now, conn, result.Copies, copies); err != nil {
		return result, err
	}
	if result.Dropped, err = dropExpired(ctx, conn, config); err != nil {
		return result, fmt.Errorf("dropping months of Postgres: %w", err)
	}
	if result.Kept, err = kept(ctx, conn); err != nil {
		return result, fmt.Errorf("reading months past retention of Postgres: %w", err)
	}
	if config.LedgerKeep > 0 {
		if _, err := conn.Exec(ctx, "SELECT argus.prune_ledger($1)", config.LedgerKeep); err != nil {
			return result, fmt.Errorf("pruning the ledger: %w", err)
		}
	}
	for i := range result.Copies {
		c := &result.Copies[i]
		if c.Err == nil {
			c.Dropped, c.Err = copies[i].dropAfter(ctx, conn, c.Server.Name())
		}
		if c.Err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.Server, c.Err))
		}
	}
	for _, k := range result.Kept {
		if !k.Held() {
			failed = append(failed, fmt.Errorf("%s is past retention and was not dropped: %s", k.Month.Format("2006-01"), k.Reason))
		}
	}
	return result, errors.Join(failed...)
}

func open(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := connect.Postgres(url, "argus-maintain")
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = 10 * time.Second
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to Postgres: %w", err)
	}
	return conn, nil
}

// compareClocks refuses to go on when the machines disagree about the time: then at least one is wrong. A copy that does not
// answer is not asked, and keeps no other from its turn.
func compareClocks(ctx context.Context, now func() time.Time, conn *pgx.Conn, of []Copy, copies []*copyStore) error {
	compare := func(name string, ask func(context.Context) (time.Time, error)) error {
		before := now()
		theirs, err := ask(ctx)
		if err != nil {
			return fmt.Errorf("%s: reading its clock: %w", name, err)
		}
		// The time that the answer took is in our favour.
		if skew := min(theirs.Sub(before).Abs(), theirs.Sub(now()).Abs()); skew > maxSkew {
			return fmt.Errorf("%w: the clocks of this machine and of %s differ by %v; "+
				"mend whichever is wrong and run this again", errSkew, name, skew.Round(time.Second))
		}
		return nil
	}
	err := compare("Postgres", func(ctx context.Context) (t time.Time, err error) {
		err = conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&t)
		return t, err
	})
	for i := range of {
		if err != nil {
			return err
		}
		if of[i].Err == nil {
			if err = compare(of[i].Server.String(), copies[i].clock); err != nil && !errors.Is(err, errSkew) {
				of[i].Err, err = err, nil
			}
		}
	}
	return err
}

var errSkew = errors.New("nothing is dropped")

// dropExpired tries again while a long query holds a month. The drop itself waits for no more than half a second, so calls do
// not queue behind it.
func dropExpired(ctx context.Context, conn *pgx.Conn, config Config) ([]time.Time, error) {
	for try := 1; ; try++ {
		rows, err := conn.Query(ctx, "SELECT argus.drop_expired_months()")
		if err != nil {
			return nil, err
		}
		dropped, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
		var rejected *pgconn.PgError
		if err == nil || !errors.As(err, &rejected) || rejected.Code != "55P03" {
			return dropped, err
		}
		if try >= config.tries {
			return nil, errors.New("a long query or transaction reads the audit log and would make calls wait; " +
				"nothing was dropped, the next run tries again")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(config.wait):
		}
	}
}

func kept(ctx context.Context, conn *pgx.Conn) ([]Kept, error) {
	rows, err := conn.Query(ctx, "SELECT month, kept FROM argus.expired_months() WHERE kept IS NOT NULL")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Kept])
}
