package sink

import "strings"

// OTLP is a receiver of OpenTelemetry logs over HTTP, such as a Collector.
type OTLP struct {
	URL         string      `yaml:"url"` // https://collector.example.com:4318/v1/logs; the path may be left out
	Headers     []Header    `yaml:"headers"`
	Compression Compression `yaml:"compression"`
	TLS         *TLS        `yaml:"tls"`
	Private     bool        `yaml:"private"`
	Timeout     Duration    `yaml:"timeout"`

	Egress Egress `yaml:"-"`
}

func (o *OTLP) check(l *loading, at string) {
	u := l.httpsURL(at, "url", o.URL)
	if u.Host != "" && strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/logs"
		o.URL = u.String()
	}
	o.Egress = l.egress(at, u.Hostname(), o.Private, o.TLS)
	l.headers(at, o.Headers)
	if o.Compression == "" {
		o.Compression = "gzip"
	}
	l.timeout(at, &o.Timeout)
}
