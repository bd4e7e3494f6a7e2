package sink

import (
	"net/url"
	"regexp"
	"strings"
)

// S3 is a bucket of any S3-compatible store.
type S3 struct {
	Endpoint    string      `yaml:"endpoint"` // https://s3.eu-central-1.amazonaws.com
	Region      string      `yaml:"region"`   // us-east-1 without it
	Bucket      string      `yaml:"bucket"`
	Prefix      string      `yaml:"prefix"`      // before dt=…; "audit/" for a folder
	Objects     string      `yaml:"objects"`     // ndjson or parquet
	Compression Compression `yaml:"compression"` // of ndjson
	AccessKey   *Secret     `yaml:"access_key"`
	SecretKey   *Secret     `yaml:"secret_key"`
	Session     *Secret     `yaml:"session_token"` // of temporary keys
	TLS         *TLS        `yaml:"tls"`
	Private     bool        `yaml:"private"`
	Timeout     Duration    `yaml:"timeout"`

	Egress Egress   `yaml:"-"`
	URL    *url.URL `yaml:"-"` // of Endpoint
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	keyPrefix  = regexp.MustCompile(`^([A-Za-z0-9!_.=-][A-Za-z0-9!_.=/-]{0,199})?$`)
)

func (s *S3) check(l *loading, at, format string) {
	s.URL = l.httpsURL(at, "endpoint", s.Endpoint)
	if s.URL.Host != "" && (strings.Trim(s.URL.Path, "/") != "" || s.URL.RawQuery != "") {
		l.Wrong(at+".endpoint", "endpoint is a host alone, as https://s3.eu-central-1.amazonaws.com: name the bucket with bucket")
	}
	s.Egress = l.egress(at, s.URL.Hostname(), s.Private, s.TLS)
	if s.Region == "" {
		s.Region = "us-east-1"
	}
	if !bucketName.MatchString(s.Bucket) {
		l.Wrong(at+".bucket", "bucket must be the name of a bucket: 3 to 63 lower-case letters, digits, dots and dashes")
	}
	if !keyPrefix.MatchString(s.Prefix) || strings.Contains(s.Prefix, "//") || strings.Contains(s.Prefix, "..") {
		l.Wrong(at+".prefix", "prefix is letters, digits and !_.=/- without a leading slash, as audit/")
	}
	if s.Objects == "" {
		s.Objects = "ndjson"
	}
	switch {
	case s.Objects != "ndjson" && s.Objects != "parquet":
		l.Wrong(at+".objects", "objects is ndjson or parquet")
	case s.Objects == "parquet" && format != "argus":
		l.Wrong(at+".objects", "parquet has the columns of the format argus: leave format out")
	case s.Objects == "parquet" && s.Compression != "" && s.Compression != "zstd":
		l.Wrong(at+".compression", "columns of parquet are compressed by zstd")
	}
	if s.Compression == "" {
		s.Compression = "gzip"
	}
	if s.AccessKey == nil || s.SecretKey == nil {
		l.Wrong(at, "access_key and secret_key are missing: name {file: path} or {env: NAME} for each")
	}
	l.secret(at+".access_key", s.AccessKey)
	l.secret(at+".secret_key", s.SecretKey)
	l.secret(at+".session_token", s.Session)
	l.timeout(at, &s.Timeout)
}
