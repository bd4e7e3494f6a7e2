package proof

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Outcome is what a check came to.
type Outcome int

const (
	Proven    Outcome = 0
	Disproved Outcome = 9
	Undecided Outcome = 10
)

// ExitCode is the exit code of a command with that outcome.
func (o Outcome) ExitCode() int { return int(o) }

func (o Outcome) String() string {
	switch o {
	case Proven:
		return "proven"
	case Disproved:
		return "disproved"
	}
	return "undecided"
}

// Verdict is the outcome of a check, and why. The zero value says proven: a check that finds nothing to say against it.
type Verdict struct {
	Outcome    Outcome
	Reasons    []string // why it is not proven
	Checkpoint Checkpoint
	Faults     []Fault // the first ones, ascending by leaf
	Counts     Counts
}

func (v *Verdict) disprove(why string) {
	v.Outcome = Disproved
	v.Reasons = append(v.Reasons, why)
}

func (v *Verdict) undecide(why string) {
	if v.Outcome == Proven {
		v.Outcome = Undecided
	}
	v.Reasons = append(v.Reasons, why)
}

// Add adds an error of a check: malformed bytes and disproof say no, everything else leaves the question open.
func (v *Verdict) Add(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrDisproved) || errors.Is(err, ErrMalformed):
		v.disprove(strings.TrimPrefix(err.Error(), ErrDisproved.Error()+": "))
	default:
		v.undecide(strings.TrimPrefix(err.Error(), ErrUndecided.Error()+": "))
	}
}

// Aged leaves the verdict open when the checkpoint is older than maxAge. sealed is when it was made, as far as is known.
func (v *Verdict) Aged(sealed, now time.Time, maxAge time.Duration) {
	if age := now.Sub(sealed); age > maxAge {
		v.undecide(fmt.Sprintf("the checkpoint is %s old, more than %s: the sealer stands still, or an old checkpoint was shown",
			age.Round(time.Second), maxAge))
	}
}

// Of is the verdict that an error stands for.
func Of(err error) Verdict {
	var v Verdict
	v.Add(err)
	return v
}
