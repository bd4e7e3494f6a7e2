package proof

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/transparency-dev/formats/witness"
	"golang.org/x/mod/sumdb/note"
)

// Policy is a parsed tlog-policy: the keys of logs, and which witnesses must have cosigned.
type Policy struct {
	Logs   []Key
	Quorum bool // whether any witness must have cosigned: false for "quorum none"
	group  witness.Group

	witnesses []note.Verifier
}

// ParsePolicy reads a policy by C2SP's tlog-policy. Lines of logs and witnesses may go without a URL.
func ParsePolicy(b []byte) (Policy, error) {
	var p Policy
	if len(b) > MaxNote {
		return p, fmt.Errorf("%w: a policy of %d bytes", ErrMalformed, len(b))
	}
	witnesses := map[string]bool{} // by name and id: one that is listed twice would count twice
	var text strings.Builder
	quorums := 0
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		switch fields[0] {
		case "log":
			if len(fields) != 2 && len(fields) != 3 {
				return p, fmt.Errorf("%w: the policy's line %.120q", ErrMalformed, line)
			}
			k, err := ParseKey(fields[1])
			if err != nil {
				return p, err
			}
			if k.Cosigns() {
				return p, fmt.Errorf("%w: the policy's log key %s is a cosigner's", ErrMalformed, k)
			}
			p.Logs = append(p.Logs, k)
			continue
		case "witness":
			if len(fields) == 3 {
				fields = append(fields, "https://witness.invalid")
			}
			if len(fields) == 4 {
				if key, err := ParseKey(fields[2]); err == nil && !key.Cosigns() {
					return p, fmt.Errorf("%w: the policy's witness key %s is a log's", ErrMalformed, key)
				}
				w, err := witness.New(fields[2], &url.URL{})
				if err != nil {
					return p, fmt.Errorf("%w: the policy's witness key %.120q", ErrMalformed, fields[2])
				}
				id := fmt.Sprintf("%s+%08x", w.Key.Name(), w.Key.KeyHash())
				if !strings.HasPrefix(fields[2], id+"+") || witnesses[id] {
					return p, fmt.Errorf("%w: the policy's witness key %.120q has another id, or is there twice", ErrMalformed, fields[2])
				}
				witnesses[id] = true
				p.witnesses = append(p.witnesses, w.Key)
			}
		case "group":
			seen := map[string]bool{}
			for _, child := range fields[min(3, len(fields)):] {
				if seen[child] {
					return p, fmt.Errorf("%w: the policy's group %q counts %q twice", ErrMalformed, fields[1], child)
				}
				seen[child] = true
			}
		case "quorum":
			quorums++
			p.Quorum = len(fields) == 2 && fields[1] != "none"
		}
		text.WriteString(strings.Join(fields, " ") + "\n")
	}
	var err error
	if p.group, err = witness.ParsePolicy([]byte(text.String())); err != nil {
		return p, fmt.Errorf("%w: policy: %w", ErrMalformed, err)
	}
	if quorums != 1 {
		return p, fmt.Errorf("%w: a policy names its quorum once", ErrMalformed)
	}
	return p, nil
}

// Satisfied reports whether the witnesses that the policy wants have cosigned the note.
func (p Policy) Satisfied(msg []byte) bool { return p.group.Satisfied(msg) }

// Witnesses are the policy's witnesses by the URL of their add-checkpoint.
func (p Policy) Witnesses() map[string]note.Verifier {
	w := p.group.Endpoints()
	delete(w, "https://witness.invalid/add-checkpoint")
	return w
}

// ErrUnwitnessed: too few witnesses have cosigned a checkpoint. They may be about to.
var ErrUnwitnessed = fmt.Errorf("%w: fewer witnesses have cosigned the checkpoint than the policy wants", ErrUndecided)

// Open reads a checkpoint as OpenCheckpoint does with the policy's logs. Too few cosignatures leave it undecided. A bad
// cosignature of a witness that the policy names disproves it.
func (p Policy) Open(msg []byte) (Checkpoint, error) {
	c, err := p.Signed(msg)
	if err != nil {
		return c, err
	}
	var invalid *note.InvalidSignatureError
	if _, err := note.Open(msg, note.VerifierList(p.witnesses...)); errors.As(err, &invalid) {
		return Checkpoint{}, fmt.Errorf("%w: the checkpoint's cosignature by %s+%08x is not valid", ErrDisproved, invalid.Name, invalid.Hash)
	}
	if p.Satisfied(msg) {
		return c, nil
	}
	_, sigs, err := splitNote(msg)
	for _, s := range sigs {
		for _, w := range p.witnesses {
			if (s.name != w.Name() || s.id != w.KeyHash()) && damaged(s, w) {
				return Checkpoint{}, fmt.Errorf("%w: the cosignature line of %s+%08x was changed", ErrDisproved, w.Name(), w.KeyHash())
			}
		}
	}
	return Checkpoint{}, errors.Join(err, ErrUnwitnessed)
}

// Signed reads a checkpoint as OpenCheckpoint does with the policy's logs, and asks for no witness.
func (p Policy) Signed(msg []byte) (Checkpoint, error) { return OpenCheckpoint(msg, p.Logs...) }

// Time is the oldest time at which one of the policy's witnesses has cosigned the checkpoint. It is false when none has.
func (p Policy) Time(msg []byte) (oldest time.Time, ok bool) {
	for _, w := range p.witnesses {
		if at, cosigned := Cosigned(msg, w); cosigned && (!ok || at.Before(oldest)) {
			oldest, ok = at, true
		}
	}
	return oldest, ok
}
