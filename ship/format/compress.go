package format

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/useargus/argus/ship/sink"
)

// Compressor compresses one batch after the other. The same bytes compress to the same bytes, so a repetition equals the
// first. One goroutine uses it.
type Compressor struct {
	how  sink.Compression
	gzip *gzip.Writer
	zstd *zstd.Encoder
	buf  bytes.Buffer
}

// NewCompressor makes a compressor.
func NewCompressor(how sink.Compression) *Compressor {
	c := &Compressor{how: how}
	switch how {
	case "gzip": // the levels are constants, so there is no error
		c.gzip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed)
	case "zstd":
		// One goroutine and a window of 1 MiB: a sink stays small.
		c.zstd, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	}
	return c
}

// Compress gives the parts as one compressed text. It is valid until the next call.
func (c *Compressor) Compress(parts ...[]byte) []byte {
	c.buf.Reset()
	switch {
	case c.gzip != nil:
		c.gzip.Reset(&c.buf)
		for _, p := range parts {
			c.gzip.Write(p) // into memory: no error
		}
		c.gzip.Close()
	case c.zstd != nil:
		c.zstd.Reset(&c.buf)
		for _, p := range parts {
			c.zstd.Write(p)
		}
		c.zstd.Close()
	default:
		for _, p := range parts {
			c.buf.Write(p)
		}
	}
	return c.buf.Bytes()
}

// Suffix is what a file of compressed text ends with: .gz, .zst or nothing.
func (c *Compressor) Suffix() string {
	return map[sink.Compression]string{"gzip": ".gz", "zstd": ".zst"}[c.how]
}

// Encoding is the HTTP header Content-Encoding of it; "" for none.
func (c *Compressor) Encoding() string {
	if c.how == "none" {
		return ""
	}
	return string(c.how)
}
