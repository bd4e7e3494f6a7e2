package sink

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/yamlfile"
)

// MaxFile bounds ARGUS_SINKS_FILE.
const MaxFile = 1 << 20

// File is ARGUS_SINKS_FILE as it is written.
type File struct {
	Sinks []*Declaration `yaml:"sinks"`
}

// Declaration is one sink. Load fills what the file leaves out, so a reader sees the values that hold. Exactly one of the
// types stands in it.
type Declaration struct {
	Name   string                    `yaml:"name"`
	Format string                    `yaml:"format"` // argus or ocsf
	Filter map[string]yamlfile.Texts `yaml:"filter"` // as everywhere: route: ["POST *"]
	Start  string                    `yaml:"start"`  // of a sink without a position: beginning or now
	Rows   int                       `yaml:"batch_rows"`
	Bytes  Size                      `yaml:"batch_bytes"` // of the lines of a batch
	Linger Duration                  `yaml:"linger"`      // how long a batch that is not full waits for more rows

	Folder *Folder `yaml:"folder"`
	HTTPS  *HTTPS  `yaml:"https"`
	S3     *S3     `yaml:"s3"`
	Syslog *Syslog `yaml:"syslog"`
	Kafka  *Kafka  `yaml:"kafka"`
	OTLP   *OTLP   `yaml:"otlp"`
	Splunk *Splunk `yaml:"splunk"`

	filter argus.Filter
}

// Folder is a folder of files on this host.
type Folder struct {
	Path        string      `yaml:"path"`
	Compression Compression `yaml:"compression"`
}

// HTTPS is a receiver of NDJSON batches, signed as Standard Webhooks.
type HTTPS struct {
	URL         string      `yaml:"url"`
	Secret      *Secret     `yaml:"secret"` // signs each batch; whsec_… or any text
	Headers     []Header    `yaml:"headers"`
	Compression Compression `yaml:"compression"`
	TLS         *TLS        `yaml:"tls"`
	Private     bool        `yaml:"private"` // allows a private address
	Timeout     Duration    `yaml:"timeout"` // of a batch, 1s to 5m; 30s without it

	Egress Egress `yaml:"-"`
}

// Header is a further header of each request.
type Header struct {
	Name  string  `yaml:"name"`
	Value *Secret `yaml:"value"`

	Prefix string `yaml:"-"` // before the value, of a sink's own header
}

// TLS names the files of certificates, beside the sinks file or absolute.
type TLS struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ServerName string `yaml:"server_name"`
}

// Parsed is the filter of the declaration; the zero value lets all rows pass.
func (d *Declaration) Parsed() argus.Filter { return d.filter }

// Type names the declaration's type.
func (d *Declaration) Type() string {
	for _, t := range d.types() {
		if t.set {
			return t.name
		}
	}
	return ""
}

// Secret is a text that stands in a file or in the environment, never in the sinks file.
type Secret struct {
	File string `yaml:"file"` // beside the sinks file or absolute
	Env  string `yaml:"env"`
}

// Value reads the secret. It reads a file each time, so a rotated secret is taken without a restart.
func (s *Secret) Value() (string, error) {
	if s.Env != "" {
		v := os.Getenv(s.Env)
		if v == "" {
			return "", fmt.Errorf("the environment has no %s", s.Env)
		}
		return v, nil
	}
	data, err := os.ReadFile(s.File)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	v := strings.TrimRight(string(data), "\r\n")
	if v == "" || len(data) > 64<<10 {
		return "", fmt.Errorf("the secret's file %s is empty, or larger than 64 KiB", s.File)
	}
	return v, nil
}

// Compression is none, gzip or zstd.
type Compression string

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Compression) UnmarshalText(text []byte) error {
	*c = Compression(text)
	if !slices.Contains([]Compression{"none", "gzip", "zstd"}, *c) {
		return errors.New("write none, gzip or zstd")
	}
	return nil
}

// Duration and Size are what the file writes as 30s and 4MiB.
type (
	Duration = yamlfile.Duration
	Size     = yamlfile.Size
)

// Limits of a batch.
const (
	DefaultRows  = 5000
	MaxRows      = 20000
	DefaultBytes = 4 << 20
	MinBytes     = 64 << 10
	MaxBytes     = 8 << 20
)

// Starts of a sink that has no position yet.
const (
	FromBeginning = "beginning"
	FromNow       = "now"
)

var sinkName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Load reads the file, and checks it whole. The error names every mistake with its line. Files that it names lie beside it.
func Load(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxFile {
		return nil, fmt.Errorf("%s has more than 1 MiB", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &File{}
	l := &loading{Decoded: yamlfile.Decode(filepath.Base(path), data, f), folder: filepath.Dir(path)}
	names := map[string]int{}
	for i, d := range f.Sinks {
		at := fmt.Sprintf("sinks[%d]", i)
		if d == nil {
			continue
		}
		l.declaration(at, d)
		if first, twice := names[d.Name]; twice {
			l.Wrong(at+".name", "there is a sink %q already, in line %d", d.Name, first)
		}
		names[d.Name] = l.Line(at + ".name")
	}
	return f, l.Err()
}

type loading struct {
	*yamlfile.Decoded
	folder string
}

func (l *loading) declaration(at string, d *Declaration) {
	if !sinkName.MatchString(d.Name) {
		l.Wrong(at+".name", "name must be lower-case letters, digits and dashes, 31 at most, and begin with a letter")
	}
	if d.Format == "" {
		d.Format = "argus"
	}
	if !slices.Contains([]string{"argus", "ocsf"}, d.Format) {
		l.Wrong(at+".format", "format is argus or ocsf")
	}
	if d.Start == "" {
		d.Start = FromBeginning
	}
	if d.Start != FromBeginning && d.Start != FromNow {
		l.Wrong(at+".start", "start is beginning or now")
	}
	if d.Rows == 0 && !l.Has(at+".batch_rows") {
		d.Rows = DefaultRows
	}
	if d.Rows < 1 || d.Rows > MaxRows {
		l.Wrong(at+".batch_rows", "batch_rows is from 1 to %d", MaxRows)
	}
	if d.Bytes == 0 && !l.Has(at+".batch_bytes") {
		d.Bytes = DefaultBytes
	}
	if d.Bytes < MinBytes || d.Bytes > MaxBytes {
		l.Wrong(at+".batch_bytes", "batch_bytes is from 64KiB to 8MiB")
	}
	if d.Linger == 0 && !l.Has(at+".linger") {
		d.Linger = Duration(200 * time.Millisecond)
		if d.Folder != nil {
			d.Linger = Duration(time.Second) // a file a second
		}
	}
	if d.Linger < 0 || d.Linger > Duration(time.Hour) {
		l.Wrong(at+".linger", "linger is from 0s to 1h")
	}
	values := url.Values{}
	for name, texts := range d.Filter {
		values[name] = texts
		if name == "since" || name == "until" {
			l.Wrong(at+".filter."+name, "a sink's filter has no time: say where it starts with start")
		}
	}
	var err error
	if d.filter, err = argus.ParseFilter(values, time.Now()); err != nil {
		l.Wrong(at+".filter", "%s", err)
	}
	l.typed(at, d)
}

// file gives a path that the file names, from the folder that it lies in.
func (l *loading) file(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.folder, path)
}

// secret checks that a secret is named, in one place.
func (l *loading) secret(at string, s *Secret) {
	if s == nil {
		return
	}
	if (s.File == "") == (s.Env == "") {
		l.Wrong(at, "name either the secret's file or its variable: {file: path} or {env: NAME}")
	}
	s.File = l.file(s.File)
	if _, err := s.Value(); err != nil && (s.File == "") != (s.Env == "") {
		l.Wrong(at, "%s", err)
	}
}
