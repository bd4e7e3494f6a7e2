package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// Canonical forms, version 1, of the rows that have no row_hash of their own. Their SHA-256 is the digest in the entry.
// Postgres computes the same bytes when it queues a row for sealing (functions argus.ledger_canonical_…).
//
//	compute step:  0x01 · 0x02 · 16 bytes audit_id · i16 step · i64 at · text actor_id · opt text impersonator_id ·
//	               text action · opt text worker_id · opt text provider · opt text reason · opt text from_state ·
//	               opt text to_state · text result · opt text error
//	support step:  0x01 · 0x03 · 16 bytes audit_id · i16 step · i64 at · text actor_id · opt text impersonator_id ·
//	               text action · text tenant_id · opt 16 bytes session_id · opt text reason ·
//	               opt text consent_document_id · opt text consent_recorded_by · opt i64 consent_recorded_at ·
//	               text result · opt text error
//	audit_admin:   0x01 · 0x04 · i64 id · i64 at · text actor · text kind · text detail (as jsonb is written by Postgres)
//
// Integers, times, text and opt are as in the canonical encoding of a call (package argus): big-endian, microseconds since
// 1970, a u32 length before UTF-8, and 0x00 for null or 0x01 before the value. An empty text is not null.
const canonicalVersion = 0x01

// ComputeControl is a row of argus.compute_control_audit.
type ComputeControl struct {
	AuditID                              uuid.UUID
	Step                                 int16
	At                                   time.Time
	ActorID                              string
	ImpersonatorID                       *string
	Action                               string
	WorkerID, Provider, Reason, From, To *string
	Result                               string
	Error                                *string
}

// Canonical is the row's canonical form.
func (s *ComputeControl) Canonical() []byte {
	b := appendStep(make([]byte, 0, 256), ComputeStep, s.AuditID, s.Step, s.At)
	b = appendOptText(appendText(b, s.ActorID), s.ImpersonatorID)
	b = appendText(b, s.Action)
	for _, t := range []*string{s.WorkerID, s.Provider, s.Reason, s.From, s.To} {
		b = appendOptText(b, t)
	}
	return appendOptText(appendText(b, s.Result), s.Error)
}

// Entry is the entry of the row's leaf.
func (s *ComputeControl) Entry() Entry {
	return Entry{Kind: ComputeStep, Month: MonthOfUUID(s.AuditID), AuditID: s.AuditID, Step: s.Step, Digest: sha256.Sum256(s.Canonical())}
}

// RemoteSupport is a row of argus.remote_support_audit.
type RemoteSupport struct {
	AuditID                              uuid.UUID
	Step                                 int16
	At                                   time.Time
	ActorID                              string
	ImpersonatorID                       *string
	Action, TenantID                     string
	SessionID                            *uuid.UUID
	Reason                               *string
	ConsentDocumentID, ConsentRecordedBy *string
	ConsentRecordedAt                    *time.Time
	Result                               string
	Error                                *string
}

// Canonical is the row's canonical form.
func (s *RemoteSupport) Canonical() []byte {
	b := appendStep(make([]byte, 0, 256), SupportStep, s.AuditID, s.Step, s.At)
	b = appendOptText(appendText(b, s.ActorID), s.ImpersonatorID)
	b = appendText(appendText(b, s.Action), s.TenantID)
	if s.SessionID == nil {
		b = append(b, 0)
	} else {
		b = append(append(b, 1), s.SessionID[:]...)
	}
	for _, t := range []*string{s.Reason, s.ConsentDocumentID, s.ConsentRecordedBy} {
		b = appendOptText(b, t)
	}
	if s.ConsentRecordedAt == nil {
		b = append(b, 0)
	} else {
		b = binary.BigEndian.AppendUint64(append(b, 1), uint64(s.ConsentRecordedAt.UnixMicro()))
	}
	return appendOptText(appendText(b, s.Result), s.Error)
}

// Entry is the entry of the row's leaf.
func (s *RemoteSupport) Entry() Entry {
	return Entry{Kind: SupportStep, Month: MonthOfUUID(s.AuditID), AuditID: s.AuditID, Step: s.Step, Digest: sha256.Sum256(s.Canonical())}
}

// Admin is a row of argus.audit_admin.
type Admin struct {
	ID          int64
	At          time.Time
	Actor, Kind string
	Detail      string // the jsonb as Postgres writes it: detail::text
}

// Canonical is the row's canonical form.
func (a *Admin) Canonical() []byte {
	b := append(make([]byte, 0, 256), canonicalVersion, byte(AdminRow))
	b = binary.BigEndian.AppendUint64(b, uint64(a.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(a.At.UnixMicro()))
	return appendText(appendText(appendText(b, a.Actor), a.Kind), a.Detail)
}

// Entry is the entry of the row's leaf.
func (a *Admin) Entry() Entry {
	return Entry{Kind: AdminRow, Month: MonthOf(a.At), ID: a.ID, Digest: sha256.Sum256(a.Canonical())}
}

func appendStep(b []byte, kind Kind, id uuid.UUID, step int16, at time.Time) []byte {
	b = append(append(b, canonicalVersion, byte(kind)), id[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(step))
	return binary.BigEndian.AppendUint64(b, uint64(at.UnixMicro()))
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendOptText(b []byte, s *string) []byte {
	if s == nil {
		return append(b, 0)
	}
	return appendText(append(b, 1), *s)
}

// StepEntry is the entry of a step's leaf.
func StepEntry(s *argus.Step) (Entry, error) {
	switch s.Table {
	case "compute_control_audit":
		c := ComputeControl{s.AuditID, s.Step, time.Time(s.At), s.ActorID, s.ImpersonatorID, s.Action, s.WorkerID, s.Provider, s.Reason,
			s.FromState, s.ToState, s.Result, s.Error}
		return c.Entry(), nil
	case "remote_support_audit":
		r := RemoteSupport{AuditID: s.AuditID, Step: s.Step, At: time.Time(s.At), ActorID: s.ActorID, ImpersonatorID: s.ImpersonatorID,
			Action: s.Action, SessionID: s.SessionID, Reason: s.Reason, ConsentDocumentID: s.ConsentDocumentID,
			ConsentRecordedBy: s.ConsentRecordedBy, Result: s.Result, Error: s.Error}
		if s.TenantID != nil {
			r.TenantID = *s.TenantID
		}
		if at := time.Time(s.ConsentRecordedAt); !at.IsZero() {
			r.ConsentRecordedAt = &at
		}
		return r.Entry(), nil
	}
	return Entry{}, fmt.Errorf("%w: a step of the table %.40q", ErrMalformed, s.Table)
}
