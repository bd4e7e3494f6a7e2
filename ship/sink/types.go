package sink

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

type typed struct {
	name   string
	set    bool
	check  func(l *loading, at string)
	target func() string // where it leads, for people; no secret
}

// types are the types of sinks. A new one is a line here, and in open.go of package ship.
func (d *Declaration) types() []typed {
	return []typed{
		{"folder", d.Folder != nil, func(l *loading, at string) { d.Folder.check(l, at) }, func() string { return d.Folder.Path }},
		{"https", d.HTTPS != nil, func(l *loading, at string) { d.HTTPS.check(l, at) }, func() string { return hostOf(d.HTTPS.URL) }},
		{"s3", d.S3 != nil, func(l *loading, at string) { d.S3.check(l, at, d.Format) }, func() string { return hostOf(d.S3.Endpoint) + "/" + d.S3.Bucket }},
		{"kafka", d.Kafka != nil, func(l *loading, at string) { d.Kafka.check(l, at) }, func() string { return d.Kafka.Brokers[0] + "/" + d.Kafka.Topic }},
		{"otlp", d.OTLP != nil, func(l *loading, at string) { d.OTLP.check(l, at) }, func() string { return hostOf(d.OTLP.URL) }},
		{"splunk", d.Splunk != nil, func(l *loading, at string) { d.Splunk.check(l, at) }, func() string { return hostOf(d.Splunk.URL) }},
		{"syslog", d.Syslog != nil, func(l *loading, at string) { d.Syslog.check(l, at) }, func() string { return d.Syslog.Address }},
	}
}

// Target says where the sink leads, for people.
func (d *Declaration) Target() string {
	for _, t := range d.types() {
		if t.set {
			return t.target()
		}
	}
	return ""
}

// hostOf is a URL without its query, which may hold a secret.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.RawQuery, u.User = "", nil
	return u.String()
}

// typed checks the part of a declaration that is of its type.
func (l *loading) typed(at string, d *Declaration) {
	var names []string
	set := 0
	for _, t := range d.types() {
		names = append(names, t.name)
		if t.set {
			set++
			t.check(l, at+"."+t.name)
		}
	}
	if set != 1 {
		l.Wrong(at, "a sink has exactly one of %s", strings.Join(names, ", "))
	}
}

func (f *Folder) check(l *loading, at string) {
	if f.Path == "" {
		l.Wrong(at+".path", "path is missing: which folder takes the files?")
	}
	f.Path = l.file(f.Path)
	if f.Compression == "" {
		f.Compression = "none"
	}
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

// reservedHeaders are set by the sink, or belong to the connection.
var reservedHeaders = []string{"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "user-agent",
	"webhook-id", "webhook-timestamp", "webhook-signature"}

func (h *HTTPS) check(l *loading, at string) {
	u := l.httpsURL(at, "url", h.URL)
	h.Egress = l.egress(at, u.Hostname(), h.Private, h.TLS)
	if h.Secret == nil {
		l.Wrong(at+".secret", "secret is missing: it signs each batch. Name {file: path} or {env: NAME}")
	}
	l.secret(at+".secret", h.Secret)
	l.headers(at, h.Headers)
	if h.Compression == "" {
		h.Compression = "gzip"
	}
	l.timeout(at, &h.Timeout)
}

// headers checks further headers of requests.
func (l *loading) headers(at string, headers []Header) {
	for i, h := range headers {
		where := fmt.Sprintf("%s.headers[%d]", at, i)
		switch {
		case !headerName.MatchString(h.Name):
			l.Wrong(where+".name", "name is no name of a header")
		case slices.Contains(reservedHeaders, strings.ToLower(h.Name)):
			l.Wrong(where+".name", "the header %s is set by the sink itself", h.Name)
		case h.Value == nil:
			l.Wrong(where+".value", "value is missing: name {file: path} or {env: NAME}")
		}
		l.secret(where+".value", h.Value)
	}
}
