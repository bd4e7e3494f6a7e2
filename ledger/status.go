package ledger

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/useargus/argus/proof"
)

// Status is how the ledger stands, in argus.ledger_status for GET /v1/health. Keys are public.
type Status struct {
	State          string             `json:"state"` // sealing, standby, forked or failing
	Host           string             `json:"host"`
	Origin         string             `json:"origin"`
	VKeys          []string           `json:"vkeys"`
	Size           int64              `json:"size"` // of the newest checkpoint
	Root           string             `json:"root,omitempty"`
	SealedAt       time.Time          `json:"sealed_at,omitzero"`
	Backlog        int64              `json:"backlog_rows"`
	BacklogSeconds float64            `json:"backlog_seconds"`
	Witnesses      map[string]Witness `json:"witnesses,omitempty"` // by name
	Problem        string             `json:"problem,omitempty"`
}

// Witness is how far a witness has cosigned.
type Witness struct {
	Size    int64     `json:"size"`
	At      time.Time `json:"at,omitzero"`
	Problem string    `json:"problem,omitempty"`
}

// health is the status of this process. It may be used by several goroutines.
type health struct {
	mu     sync.Mutex
	status Status
}

func (h *health) update(f func(*Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.status)
}

func (h *health) start(host string, keys *Keys) {
	h.update(func(s *Status) {
		s.State, s.Host, s.Origin = "starting", host, keys.Origin
		for _, k := range keys.public {
			s.VKeys = append(s.VKeys, k.String())
		}
	})
}

func (h *health) standing(size int64) {
	h.update(func(s *Status) { s.State, s.Size, s.Problem = "standby", size, "" })
}

func (h *health) behind(rows int64, age time.Duration) {
	h.update(func(s *Status) {
		s.State, s.Problem, s.Backlog, s.BacklogSeconds = "sealing", "", rows, age.Seconds()
	})
}

func (h *health) signed(size int64, root proof.Hash, at time.Time) {
	h.update(func(s *Status) { s.Size, s.Root, s.SealedAt = size, root.String(), at.UTC() })
}

func (h *health) fail(err error) {
	h.update(func(s *Status) { s.State, s.Problem = "failing", err.Error() })
}

// fork tells whether it is news.
func (h *health) fork(err error) (news bool) {
	h.update(func(s *Status) {
		news = s.State != "forked" || s.Problem != err.Error()
		s.State, s.Problem = "forked", err.Error()
	})
	return news
}

// Status of this process.
func (s *Sealer) Status() Status {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	status := s.health.status
	status.Witnesses = s.witnesses.status()
	return status
}

// writeStatus is for GET /v1/health. A sealer that cannot even stand by does not overwrite the active one's status. But each
// process that sees a fork tells it.
func (s *Sealer) writeStatus(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	data, err := json.Marshal(s.Status())
	if err == nil {
		_, err = s.pool.Exec(ctx, `INSERT INTO argus.ledger_status (updated_at, status)
			SELECT clock_timestamp(), $1::jsonb FROM set_config('synchronous_commit', 'off', true)
			ON CONFLICT (one) DO UPDATE SET updated_at = excluded.updated_at, status = excluded.status
			 WHERE excluded.status->>'state' IN ('sealing', 'forked') OR ledger_status.status->>'host' = excluded.status->>'host'
			    OR ledger_status.updated_at < clock_timestamp() - interval '5 seconds'`, data)
	}
	if err != nil {
		s.log.Debug("the status was not written", "error", err)
	}
}
