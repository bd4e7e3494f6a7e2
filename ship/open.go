package ship

import (
	"context"
	"fmt"
	"time"

	"github.com/useargus/argus/ship/folder"
	"github.com/useargus/argus/ship/https"
	"github.com/useargus/argus/ship/kafka"
	"github.com/useargus/argus/ship/otlp"
	"github.com/useargus/argus/ship/s3"
	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/splunk"
	"github.com/useargus/argus/ship/syslog"
)

// opened is a sink, and what it wants of its batches.
type opened struct {
	sink.Sink
	records bool // Row.Record is filled
}

// Test asks the declaration's receiver whether it would take batches. It gives no row of the log.
func Test(ctx context.Context, d *sink.Declaration) error {
	o, err := open(d)
	if err != nil {
		return err
	}
	defer o.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return o.Test(ctx)
}

// open makes the declaration's sink. It connects to nothing yet.
func open(d *sink.Declaration) (o opened, err error) {
	switch {
	case d.Folder != nil:
		o.Sink = folder.New(d.Folder)
	case d.HTTPS != nil:
		o.Sink = https.New(d.Name, d.HTTPS)
	case d.Kafka != nil:
		return opened{kafka.New(d.Kafka), true}, nil
	case d.OTLP != nil:
		return opened{otlp.New(d.OTLP), true}, nil
	case d.Splunk != nil:
		return opened{splunk.New(d.Splunk, d.Format), true}, nil
	case d.Syslog != nil:
		return opened{syslog.New(d.Syslog), true}, nil
	case d.S3 != nil:
		s, err := s3.New(d.S3)
		if err != nil {
			return opened{}, err
		}
		return opened{s, s.Records()}, nil
	default:
		err = fmt.Errorf("the sink %s has no type", d.Name)
	}
	return o, err
}
