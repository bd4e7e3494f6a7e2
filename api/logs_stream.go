package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// pingEvery is how often a stream says that it is alive.
const pingEvery = 10 * time.Second

// follow streams calls as server-sent events, as they are recorded. Each event's id is the position to go on
// from, so a client that was cut off misses and repeats nothing.
func (l *logs) follow(c *call) (answer, error) {
	q := c.Query()
	var req argus.FollowRequest
	var err error
	if req.Filter, _, err = l.followedFilterOf(c, true, "cursor", "steps"); err != nil {
		return answer{}, err
	}
	steps, err := boolOf(q, "steps")
	if err != nil {
		return answer{}, err
	}
	from := c.Header("Last-Event-ID")
	if from == "" {
		if from, err = one(q, "cursor"); err != nil {
			return answer{}, err
		}
	}
	var place argus.Place
	if from != "" {
		if place, err = l.auditLog.Place(c.Context(), from); err != nil {
			return answer{}, err
		}
	}
	c.SetHeader("Content-Type", "text/event-stream")
	c.SetHeader("X-Accel-Buffering", "no") // nginx would hold events back
	asked := map[string]any{"from": nil}   // from now on
	if from != "" {
		asked["from"] = place.Position.JSON()
	}
	r, err := c.startReading(false, &req.Filter, asked)
	if err != nil {
		return answer{}, err
	}
	s, err := c.Start()
	if err != nil {
		r.ended(err)
		return answer{}, err
	}
	// From now on means behind this call's own row. The headers leave with the first event, so a call that is made after
	// they came is in the stream.
	if from == "" {
		if place, err = l.auditLog.Place(c.Context(), ""); err != nil {
			r.ended(err)
			return answer{}, err
		}
	}
	req.From = &place.Position
	e := &events{s: s, position: place.Token, reading: r}
	if steps {
		e.steps = l.stepsOf
	}
	if err := e.send("ready", e.position, []byte("{}")); err != nil {
		r.ended(err)
		return answer{}, err
	}
	ctx, cancel := context.WithCancel(c.Context())
	var pings sync.WaitGroup
	pings.Go(func() { e.ping(ctx, cancel) })
	err = l.auditLog.Follow(ctx, req, func(event argus.FollowEvent) error { return e.emit(ctx, event) })
	r.ended(err)
	cancel()
	pings.Wait()
	return answer{}, l.endOfStream(c, e, err)
}

// endOfStream tells a follower why its stream ends, where there is something to tell.
func (l *logs) endOfStream(c *call, e *events, err error) error {
	var behind argus.BehindError
	var denied *argus.Error
	switch {
	case errors.As(err, &behind):
		return e.send("behind", "", appendJSONObject("resume", behind.Resume.Token))
	case errors.As(context.Cause(c.Context()), &denied):
		return e.send("denied", "", problemBody(denied, c.Record.ID))
	case errors.Is(context.Cause(c.Context()), errShutdown):
		return nil // an orderly end: the client comes again, elsewhere
	}
	return err
}

// events writes server-sent events, by one goroutine at a time.
type events struct {
	mu       sync.Mutex
	s        *stream
	reading  *reading
	steps    func(context.Context, ...argus.Record) (map[uuid.UUID][]argus.Step, error) // nil: rows go without
	position string                                                                     // token of where the stream stands
	told     string                                                                     // the last token that was sent
	buf      []byte
}

// emit sends what Follow found.
func (e *events) emit(ctx context.Context, event argus.FollowEvent) error {
	if event.Record == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.position = event.Place.Token // the next ping tells it
		return nil
	}
	row := event.Record.AppendJSON(nil)
	if e.steps != nil {
		steps, err := e.steps(ctx, *event.Record)
		if err != nil {
			return err
		}
		row = argus.AppendBeside(row, &argus.Beside{Steps: steps[event.Record.ID]}, true, false)
	}
	// It counts before it is sent: a row that may have left is not left out.
	e.reading.left(*event.Record)
	return e.send("row", event.Place.Token, row)
}

// ping sends a ping now and then, until ctx ends; when that fails, it ends the stream.
func (e *events) ping(ctx context.Context, cancel context.CancelFunc) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.mu.Lock()
		id := ""
		if e.position != e.told {
			id = e.position
		}
		err := e.write("ping", id, []byte("{}"))
		e.mu.Unlock()
		if err != nil {
			cancel()
			return
		}
	}
}

func (e *events) send(name, id string, data []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.write(name, id, data)
}

// write sends one event; data is JSON on one line.
func (e *events) write(name, id string, data []byte) error {
	b := fmt.Appendf(e.buf[:0], "event: %s\n", name)
	if id != "" {
		b = fmt.Appendf(b, "id: %s\n", id)
		e.position, e.told = id, id
	}
	b = append(b, "data: "...)
	for len(data) > 0 && data[len(data)-1] == '\n' {
		data = data[:len(data)-1]
	}
	b = append(b, data...)
	b = append(b, "\n\n"...)
	e.buf = b
	if _, err := e.s.Write(b); err != nil {
		return err
	}
	return e.s.Flush()
}

func appendJSONObject(name, value string) []byte {
	b := argus.AppendJSONString([]byte{'{'}, name)
	b = argus.AppendJSONString(append(b, ':'), value)
	return append(b, '}')
}
