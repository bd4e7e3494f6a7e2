// Package kafka produces each row as one record of a topic.
//
// The producer is idempotent and waits for all replicas in sync. Their answer is the acknowledgement: the record is as
// durable as the topic's min.insync.replicas says. A row's key is its writer, so a partition holds the rows of a writer in
// their order.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/useargus/argus/ship/sink"
)

// Sink is a topic.
type Sink struct {
	declared *sink.Kafka
	client   *kgo.Client // nil until it is needed, and after a failure
	records  []kgo.Record
}

// New makes the sink of a declaration that was loaded. It connects to nothing.
func New(d *sink.Kafka) *Sink { return &Sink{declared: d} }

// Send implements sink.Sink. The manifest comes as a record of its own, with the header argus-manifest.
//
// A failed batch ends the client. What it had under way ends with it: a producer that went on would write rows of this
// batch behind rows of the next.
func (s *Sink) Send(ctx context.Context, b *sink.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.declared.Timeout))
	defer cancel()
	if s.client == nil {
		client, err := s.connected(ctx)
		if err != nil {
			return err
		}
		s.client = client
	}
	s.fill(b)
	errs := s.produce(ctx)
	clear(s.records)
	if errs == nil {
		return nil
	}
	s.Close()
	err := fmt.Errorf("producing to the topic %s: %w", s.declared.Topic, errs)
	switch {
	case errors.Is(errs, kerr.MessageTooLarge), errors.Is(errs, kerr.RecordListTooLarge):
		return sink.TooLarge(err)
	case errors.Is(errs, kerr.InvalidRecord):
		return sink.Rejected(err)
	}
	return err
}

// fill makes the records of a batch. Their time is that of producing them: a topic deletes by it, so rows of a backfill
// with times of their own would be deleted when they arrive.
func (s *Sink) fill(b *sink.Batch) {
	batch := kgo.RecordHeader{Key: "argus-batch", Value: []byte(b.Batch)}
	manifest := b.AppendManifest(nil)
	s.records = append(s.records[:0], kgo.Record{Topic: s.declared.Topic, Key: []byte(b.Sink), Value: manifest[:len(manifest)-1],
		Headers: []kgo.RecordHeader{batch, {Key: "argus-manifest"}}})
	headers := []kgo.RecordHeader{batch}
	var writer int64
	var key []byte
	for i := range b.Rows {
		r := &b.Rows[i]
		if key == nil || r.Record.WriterID != writer {
			writer = r.Record.WriterID
			key = strconv.AppendInt(nil, writer, 10)
		}
		s.records = append(s.records, kgo.Record{Topic: s.declared.Topic, Key: key, Value: r.Line, Headers: headers})
	}
}

// produce gives the first error of any record. It returns when the client holds none of them any more.
func (s *Sink) produce(ctx context.Context) error {
	var (
		mu    sync.Mutex
		first error
		left  sync.WaitGroup
	)
	left.Add(len(s.records))
	for i := range s.records {
		s.client.Produce(ctx, &s.records[i], func(_ *kgo.Record, err error) {
			mu.Lock()
			// A record that is refused says more than those that end with it.
			if first == nil || err != nil && errors.Is(first, context.Canceled) {
				first = err
			}
			mu.Unlock()
			left.Done()
		})
	}
	all := make(chan struct{})
	go func() { left.Wait(); close(all) }()
	select {
	case <-all:
	case <-ctx.Done():
		s.client.Close() // fails what is under way; it would be tried until the client ends
		<-all
		return ctx.Err()
	}
	return first
}

// Test implements sink.Sink: it connects, and asks for the topic.
func (s *Sink) Test(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.declared.Timeout))
	defer cancel()
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	ask := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(s.declared.Topic)
	ask.Topics = append(ask.Topics, topic)
	answer, err := ask.RequestWith(ctx, client)
	if err == nil && len(answer.Topics) == 1 {
		err = kerr.ErrorForCode(answer.Topics[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("asking for the topic %s: %w", s.declared.Topic, err)
	}
	return nil
}

// Close implements sink.Sink.
func (s *Sink) Close() error {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
	return nil
}

// connected makes a client that has reached a broker. Otherwise the reason would be lost: the client tries until the
// time is up, and says no more than that.
func (s *Sink) connected(ctx context.Context) (*kgo.Client, error) {
	d := s.declared
	options := []kgo.Opt{
		kgo.SeedBrokers(d.Brokers...), kgo.ClientID("argus"), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.Dialer(func(ctx context.Context, _, address string) (net.Conn, error) { return d.Egress.DialTLS(ctx, address) }),
		kgo.ProducerBatchCompression(map[sink.Compression]kgo.CompressionCodec{
			"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "zstd": kgo.ZstdCompression()}[d.Compression]),
		kgo.MaxBufferedRecords(sink.MaxRows + 1), kgo.DialTimeout(10 * time.Second),
	}
	if d.SASL != nil {
		options = append(options, kgo.SASL(mechanism(d.SASL)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("a client for Kafka: %w", err)
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("reaching Kafka at %s: %w", d.Brokers[0], err)
	}
	return client, nil
}

// mechanism reads the password for each connection, so a rotated one is taken without a restart.
func mechanism(d *sink.SASL) sasl.Mechanism {
	if d.Mechanism == "plain" {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := d.Password.Value()
			return plain.Auth{User: d.User, Pass: password}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		password, err := d.Password.Value()
		return scram.Auth{User: d.User, Pass: password}, err
	}
	if d.Mechanism == "scram-sha-256" {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}
