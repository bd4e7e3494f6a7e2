package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/useargus/argus/ship/kafka"
	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
)

// advertised is a listener that tells clients to come another way.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

// broker is a cluster of one broker with TLS and SASL. Clients reach it by the path that it advertises.
func broker(t *testing.T) (cluster *kfake.Cluster, path *sinktest.Path, folder string) {
	t.Helper()
	folder = t.TempDir()
	sinktest.Write(t, folder, "password", "correct-horse\n")
	certificate := sinktest.Authority(t, folder)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "audit"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "argus", "correct-horse"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}),
		kfake.ListenFn(func(string, string) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			path = sinktest.NewPath(t, l.Addr().String())
			addr, err := net.ResolveTCPAddr("tcp", path.Addr)
			return advertised{l, addr}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, path, folder
}

func kafkaSink(t *testing.T, folder, addr, ca, more string) *kafka.Sink {
	t.Helper()
	return kafka.New(sinktest.Declared(t, folder, fmt.Sprintf("sinks:\n- name: lake\n  kafka:\n    brokers: [%q]\n    topic: audit\n    private: true\n    tls: {ca: %s}\n"+
		"    sasl: {mechanism: plain, user: argus, password: {file: password}}\n%s", addr, ca, more)).Kafka)
}

// consumed reads the topic from its beginning.
func consumed(t *testing.T, cluster *kfake.Cluster, addr string) (records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("audit"), kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true}),
		kgo.SASL(plain.Auth{User: "argus", Pass: "correct-horse"}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	total := 0
	for _, p := range cluster.PartitionInfos("audit") {
		total += int(p.HighWatermark)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(records) < total {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestKafkaFaults(t *testing.T) {
	sinktest.Quiet(t)
	cluster, path, folder := broker(t)
	t.Cleanup(cluster.Close)
	sinktest.Faults(t, sinktest.Kit{
		Path: path, Secrets: []string{"correct-horse"}, Preamble: 3000,
		Open: func(t *testing.T, addr, ca string) sink.Sink {
			return kafkaSink(t, folder, addr, ca, "    timeout: 10s\n")
		},
		Received: func(t *testing.T) (lines []string) {
			for _, r := range consumed(t, cluster, path.Addr) {
				lines = append(lines, string(r.Value))
			}
			return lines
		},
	})
}

// TestKafkaRecords: a writer's rows are in one partition, by their key, and each record names its batch.
func TestKafkaRecords(t *testing.T) {
	cluster, path, folder := broker(t)
	for i, compression := range []string{"none", "gzip", "zstd"} {
		s := kafkaSink(t, folder, path.Addr, "ca.pem", "    compression: "+compression+"\n")
		if err := s.Send(context.Background(), sinktest.Batch(t, i+1, 20, nil)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	partitions, manifests := map[string]int32{}, 0
	records := consumed(t, cluster, path.Addr)
	for _, r := range records {
		if at, ok := partitions[string(r.Key)]; ok && at != r.Partition {
			t.Errorf("rows of %s are in two partitions", r.Key)
		}
		partitions[string(r.Key)] = r.Partition
		if time.Since(r.Timestamp) > time.Hour {
			t.Errorf("a record has the time %s, and may be deleted", r.Timestamp)
		}
		if len(r.Headers) == 0 || r.Headers[0].Key != "argus-batch" || !strings.HasPrefix(string(r.Headers[0].Value), "0000000") {
			t.Errorf("a record has the headers %v", r.Headers)
		}
		if len(r.Headers) == 2 && r.Headers[1].Key == "argus-manifest" {
			manifests++
		} else if !strings.HasPrefix(string(r.Value), `{"writer_id":`+string(r.Key)+",") {
			t.Errorf("the key %s is of the row %s", r.Key, r.Value)
		}
	}
	if len(records) != 63 || manifests != 3 || len(partitions) != 7 {
		t.Errorf("there are %d records, %d manifests and %d keys", len(records), manifests, len(partitions))
	}
}

// TestKafkaAnswers: what a broker says of a produced batch decides what becomes of it.
func TestKafkaAnswers(t *testing.T) {
	cluster, path, folder := broker(t)
	var code atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := request.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range asked.Topics {
			to := kmsg.NewProduceResponseTopic()
			to.Topic, to.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				of := kmsg.NewProduceResponseTopicPartition()
				of.Partition, of.ErrorCode = p.Partition, int16(code.Load())
				to.Partitions = append(to.Partitions, of)
			}
			answer.Topics = append(answer.Topics, to)
		}
		return answer, nil, true
	})
	for _, c := range []struct {
		code *kerr.Error
		kind sink.Kind
	}{
		{kerr.MessageTooLarge, sink.KindTooLarge},
		{kerr.RecordListTooLarge, sink.KindTooLarge},
		{kerr.InvalidRecord, sink.KindRejected},
		{kerr.TopicAuthorizationFailed, sink.KindRetry},
		{kerr.NotEnoughReplicas, sink.KindRetry},
	} {
		code.Store(int32(c.code.Code))
		timeout := "60s"
		if c.kind == sink.KindRetry { // it is tried again until then
			timeout = "1s"
		}
		s := kafkaSink(t, folder, path.Addr, "ca.pem", "    timeout: "+timeout+"\n")
		err := s.Send(context.Background(), sinktest.Batch(t, 1, 4, nil))
		if kind, _ := sink.KindOf(err); err == nil || kind != c.kind || kind != sink.KindRetry && !errors.Is(err, c.code) {
			t.Errorf("%s: %v is of kind %d", c.code.Message, err, kind)
		}
		s.Close()
	}
	sinktest.Write(t, folder, "password", "battery-staple\n")
	s := kafkaSink(t, folder, path.Addr, "ca.pem", "    timeout: 2s\n")
	defer s.Close()
	for _, err := range []error{s.Test(context.Background()), s.Send(context.Background(), sinktest.Batch(t, 1, 4, nil))} {
		if err == nil || strings.Contains(err.Error(), "battery") {
			t.Errorf("with a wrong password the sink says %v", err)
		}
	}
}
