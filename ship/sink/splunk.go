package sink

import (
	"regexp"
	"strings"
)

// Splunk is an HTTP Event Collector, with indexer acknowledgement.
type Splunk struct {
	URL         string      `yaml:"url"` // https://http-inputs.example.com:8088; the path may be left out
	Token       *Secret     `yaml:"token"`
	Index       string      `yaml:"index"` // the token's own without it
	Host        string      `yaml:"host"`  // of each event; argus without it
	Compression Compression `yaml:"compression"`
	TLS         *TLS        `yaml:"tls"`
	Private     bool        `yaml:"private"`
	Timeout     Duration    `yaml:"timeout"` // of a batch, its acknowledgement included

	Egress Egress `yaml:"-"`
}

var indexName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,79}$`)

func (s *Splunk) check(l *loading, at string) {
	u := l.httpsURL(at, "url", s.URL)
	switch {
	case u.Host == "":
	case u.RawQuery != "" || strings.Trim(u.Path, "/") != "" && u.Path != "/services/collector/event":
		l.Wrong(at+".url", "url is the collector's host, as https://http-inputs.example.com:8088")
	default:
		u.Path = ""
		s.URL = strings.TrimSuffix(u.String(), "/")
	}
	s.Egress = l.egress(at, u.Hostname(), s.Private, s.TLS)
	if s.Token == nil {
		l.Wrong(at+".token", "token is missing: name {file: path} or {env: NAME}")
	}
	l.secret(at+".token", s.Token)
	if s.Index != "" && !indexName.MatchString(s.Index) {
		l.Wrong(at+".index", "index must be the name of an index")
	}
	if s.Host == "" {
		s.Host = "argus"
	}
	if s.Compression == "" {
		s.Compression = "gzip"
	}
	if s.Compression == "zstd" {
		l.Wrong(at+".compression", "a collector takes none or gzip")
	}
	l.timeout(at, &s.Timeout)
}
