package api

import (
	"time"

	"github.com/useargus/argus"
)

// Limits bounds what callers may take. A zero field means its default; a negative one means no limit.
type Limits struct {
	Calls         int     // calls served at once; 1024
	Streams       int     // streams and exports at once; 2048
	PerSecond     float64 // calls of one credential per second, sustained; 200
	Burst         int     // calls of one credential at once; 1000
	FailPerSecond float64 // refused credentials of one address per second, sustained; 1
	FailBurst     int     // refused credentials of one address at once; 30
}

func (l Limits) withDefaults() Limits {
	if l.Calls == 0 {
		l.Calls = 1024
	}
	if l.Streams == 0 {
		l.Streams = 2048
	}
	if l.PerSecond == 0 {
		l.PerSecond = 200
	}
	if l.Burst == 0 {
		l.Burst = 1000
	}
	if l.FailPerSecond == 0 {
		l.FailPerSecond = 1
	}
	if l.FailBurst == 0 {
		l.FailBurst = 30
	}
	return l
}

// limits enforces Limits.
type limits struct {
	config  Limits
	calls   chan struct{}
	streams chan struct{}
}

func newLimits(config Limits) *limits {
	l := &limits{config: config.withDefaults()}
	if n := l.config.Calls; n > 0 {
		l.calls = make(chan struct{}, n)
	}
	if n := l.config.Streams; n > 0 {
		l.streams = make(chan struct{}, n)
	}
	return l
}

// enter takes a place among the calls served at once; release gives it back, once however often it is called.
func (l *limits) enter() (release func(), err error) {
	if l.calls == nil {
		return func() {}, nil
	}
	select {
	case l.calls <- struct{}{}:
	default:
		return nil, argus.Errorf(argus.CodeUnavailable, "The server is busy. Try again.").WithRetryAfter(time.Second)
	}
	done := false // by the one goroutine that serves the call
	return func() {
		if !done {
			done = true
			<-l.calls
		}
	}, nil
}

// enterStream takes a place among the streams.
func (l *limits) enterStream() error {
	if l.streams == nil {
		return nil
	}
	select {
	case l.streams <- struct{}{}:
		return nil
	default:
		return argus.Errorf(argus.CodeUnavailable, "The server has as many streams as it takes. Try again.").WithRetryAfter(5 * time.Second)
	}
}

func (l *limits) leaveStream() {
	if l.streams != nil {
		<-l.streams
	}
}

// call counts one call of a credential.
func (l *limits) call(principal string) error { return nil }
