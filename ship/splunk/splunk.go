// Package splunk gives rows to Splunk's HTTP Event Collector, one event a row, with indexer acknowledgement.
//
// The collector's 200 says that it has read the events. It says when an indexer has them by the answer to a later
// question: GET the acknowledgement of a number, on the channel of the request. Only that is the acknowledgement. When it
// does not come in time, the batch comes again.
package splunk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/post"
	"github.com/useargus/argus/ship/sink"
)

// poll is how often an acknowledgement is asked for. Splunk asks clients not to do it more often than needed.
const poll = 250 * time.Millisecond

// Sink is a collector.
type Sink struct {
	declared *sink.Splunk
	format   string
	channel  string // a client's own; acknowledgements are numbered in it
	poster   *post.Poster
	buf      []byte
}

// New makes the sink of a declaration that was loaded. It connects to nothing.
func New(d *sink.Splunk, format string) *Sink {
	channel := uuid.NewString()
	return &Sink{declared: d, format: format, channel: channel, poster: post.New(d.Egress, d.Timeout, d.Compression,
		[]sink.Header{{Name: "Authorization", Prefix: "Splunk ", Value: d.Token}})}
}

// Send implements sink.Sink. The manifest is the first event, of the sourcetype argus:batch. Rows have argus:call, or
// ocsf:api_activity.
func (s *Sink) Send(ctx context.Context, b *sink.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.declared.Timeout))
	defer cancel()
	manifest := b.AppendManifest(nil)
	s.buf = s.append(s.buf[:0], b.First, "argus:batch", b.Batch, manifest[:len(manifest)-1])
	kind := "argus:call"
	if s.format == "ocsf" {
		kind = "ocsf:api_activity"
	}
	for i := range b.Rows {
		r := &b.Rows[i]
		if r.Record == nil {
			return fmt.Errorf("the batch %s came without its rows", b.Batch)
		}
		s.buf = s.append(s.buf, r.Record.OccurredAt, kind, b.Batch, r.Line)
	}
	said, err := s.ask(ctx, "/services/collector/event", s.channel, s.buf)
	if err != nil {
		return err
	}
	if said.AckID == nil {
		return errors.New("the collector gave no number of an acknowledgement: enable indexer acknowledgement for the token")
	}
	return s.acknowledged(ctx, *said.AckID)
}

// append appends an event. Its time has microseconds; its fields are indexed.
func (s *Sink) append(to []byte, at time.Time, kind, batch string, event []byte) []byte {
	to = append(to, `{"time":`...)
	to = strconv.AppendInt(to, max(at.Unix(), 0), 10)
	to = append(to, fmt.Sprintf(".%06d", at.Nanosecond()/1000)...)
	to = argus.AppendJSONString(append(to, `,"host":`...), s.declared.Host)
	to = append(to, `,"source":"argus","sourcetype":"`...)
	to = append(append(to, kind...), '"')
	if s.declared.Index != "" {
		to = argus.AppendJSONString(append(to, `,"index":`...), s.declared.Index)
	}
	to = argus.AppendJSONString(append(to, `,"fields":{"argus_batch":`...), batch)
	to = append(to, `},"event":`...)
	return append(append(to, event...), '}', '\n')
}

// acknowledged asks until an indexer has the events of the number, or the time is up.
func (s *Sink) acknowledged(ctx context.Context, id int64) error {
	question := fmt.Appendf(nil, `{"acks":[%d]}`, id)
	for wait := poll / 10; ; wait = min(2*wait, poll) {
		said, err := s.ask(ctx, "/services/collector/ack", s.channel, question)
		if err != nil {
			if kind, after := sink.KindOf(err); kind != sink.KindRetry {
				return sink.RetryAfter(err, after) // it is about the question, not about the rows
			}
			return err
		}
		if said.Acks[strconv.FormatInt(id, 10)] {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no indexer has acknowledged the batch: %w", ctx.Err())
		case <-time.After(wait):
		}
	}
}

// said is any answer of a collector.
type said struct {
	Text  string          `json:"text"`
	Code  *int            `json:"code"`
	AckID *int64          `json:"ackId"`
	Acks  map[string]bool `json:"acks"`
}

// aboutEvents are the codes of a 400 that rejects the events themselves: no data, invalid format, the field event that is
// missing or blank, and indexed fields. The other codes are about the token, the channel or the index.
var aboutEvents = map[int]bool{5: true, 6: true, 12: true, 13: true, 15: true}

func (s *Sink) ask(ctx context.Context, path, channel string, body []byte) (*said, error) {
	answer, err := s.poster.Post(ctx, s.declared.URL+path+"?channel="+channel, "application/json", body)
	if err != nil {
		return nil, err
	}
	var says said
	readable := json.Unmarshal(answer.Body, &says) == nil
	if readable && says.Text != "" {
		answer.Body = []byte(says.Text)
	}
	err = answer.Err()
	switch {
	case answer.Status == http.StatusBadRequest && (!readable || says.Code == nil || !aboutEvents[*says.Code]):
		return nil, sink.RetryAfter(err, 0)
	case err != nil:
		return nil, err
	case !readable:
		return nil, fmt.Errorf("the receiver answered %d with something else than JSON: this is no collector", answer.Status)
	}
	return &says, nil
}

// Test implements sink.Sink. It asks for an acknowledgement that no request has: the collector checks the token and the
// channel, and whether the token acknowledges. The channel is another than that of batches, since an answer of true is given
// once.
func (s *Sink) Test(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.declared.Timeout))
	defer cancel()
	_, err := s.ask(ctx, "/services/collector/ack", uuid.NewString(), []byte(`{"acks":[0]}`))
	return err
}

// Close implements sink.Sink.
func (s *Sink) Close() error { return s.poster.Close() }
