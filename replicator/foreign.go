package replicator

import (
	"context"
	"fmt"
)

// foreignUse counts uses of what the replicator's role may do that are not the replicator's. Postgres gives a role that
// replicates no less than the whole cluster. The role may copy all files (BASE_BACKUP). It may decode every table of its
// database, also those that it may not SELECT. Both are seen by any session of the same role.
type foreignUse struct {
	// slots decode this database, or are read by our role, and are not ours.
	slots int
	// backups are connections of our role that copy the cluster's files, or stream its log without a slot.
	backups int
}

// ourSlot is a slot of a copy, by its name: the base $1, or that and the name of the copy.
const ourSlot = `(s.slot_name = $1 OR starts_with(s.slot_name, $1 || '_')) AND s.plugin = 'pgoutput' AND s.database = current_database()`

func readForeignUse(ctx context.Context, q querier, base string) (s foreignUse, err error) {
	err = q.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
		         WHERE NOT (`+ourSlot+`) AND (s.database = current_database() OR a.usename = current_user)),
		       (SELECT count(*) FROM pg_stat_activity a
		         WHERE a.usename = current_user AND a.backend_type = 'walsender'
		           AND (EXISTS (SELECT FROM pg_stat_progress_basebackup b WHERE b.pid = a.pid)
		             OR a.state = 'active' AND a.query ~* '^\s*START_REPLICATION'
		               AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = a.pid)))`, base).
		Scan(&s.slots, &s.backups)
	if err != nil {
		err = fmt.Errorf("looking for slots and base backups that are not ours: %w", err)
	}
	return s, err
}
