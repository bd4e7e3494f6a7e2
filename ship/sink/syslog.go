package sink

import "regexp"

// Syslog is a receiver of RFC 5424 messages over TLS (RFC 5425).
type Syslog struct {
	Address    string   `yaml:"address"`     // host:port
	Hostname   string   `yaml:"hostname"`    // of each message; argus without it
	Facility   *int     `yaml:"facility"`    // 13, log audit, without it
	MaxMessage Size     `yaml:"max_message"` // what the receiver takes; 8KiB without it
	Close      string   `yaml:"close"`       // how the receiver acknowledges a batch: notify or any
	TLS        *TLS     `yaml:"tls"`
	Private    bool     `yaml:"private"`
	Timeout    Duration `yaml:"timeout"`

	Egress   Egress `yaml:"-"`
	AnyClose bool   `yaml:"-"` // of Close
}

var syslogName = regexp.MustCompile(`^[!-~]{1,255}$`) // PRINTUSASCII

func (s *Syslog) check(l *loading, at string) {
	s.Egress = l.egress(at, l.hostPort(at, "address", s.Address), s.Private, s.TLS)
	if s.Hostname == "" {
		s.Hostname = "argus"
	}
	if !syslogName.MatchString(s.Hostname) {
		l.Wrong(at+".hostname", "hostname is 255 printable ASCII characters at most, without spaces")
	}
	if s.Facility == nil {
		audit := 13
		s.Facility = &audit
	}
	if *s.Facility < 0 || *s.Facility > 23 {
		l.Wrong(at+".facility", "facility is from 0 to 23")
	}
	if s.MaxMessage == 0 && !l.Has(at+".max_message") {
		s.MaxMessage = 8 << 10
	}
	if s.MaxMessage < 2<<10 || s.MaxMessage > 1<<20 {
		l.Wrong(at+".max_message", "max_message is from 2KiB to 1MiB")
	}
	if s.Close == "" {
		s.Close = "notify"
	}
	if s.AnyClose = s.Close == "any"; !s.AnyClose && s.Close != "notify" {
		l.Wrong(at+".close", "close is notify or any")
	}
	l.timeout(at, &s.Timeout)
}
