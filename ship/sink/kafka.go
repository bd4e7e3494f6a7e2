package sink

import (
	"fmt"
	"net"
	"regexp"
)

// Kafka is a topic.
type Kafka struct {
	Brokers     []string    `yaml:"brokers"` // host:port of some of the brokers; they name the others
	Topic       string      `yaml:"topic"`
	Compression Compression `yaml:"compression"`
	SASL        *SASL       `yaml:"sasl"`
	TLS         *TLS        `yaml:"tls"`
	Private     bool        `yaml:"private"`
	Timeout     Duration    `yaml:"timeout"`

	Egress Egress `yaml:"-"`
}

// SASL is how a client of Kafka says who it is.
type SASL struct {
	Mechanism string  `yaml:"mechanism"` // plain, scram-sha-256 or scram-sha-512
	User      string  `yaml:"user"`
	Password  *Secret `yaml:"password"`
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

func (k *Kafka) check(l *loading, at string) {
	if len(k.Brokers) == 0 {
		l.Wrong(at+".brokers", "brokers is missing: where does Kafka answer?")
	}
	host := ""
	for i, b := range k.Brokers {
		key := fmt.Sprintf("brokers[%d]", i)
		// The check of private addresses looks at each. The way to all of them is the same.
		host = l.hostPort(at, key, b)
		l.egress(at+"."+key, host, k.Private, nil)
	}
	k.Egress = l.egress(at, net.IPv4(1, 1, 1, 1).String(), k.Private, k.TLS)
	if !topicName.MatchString(k.Topic) {
		l.Wrong(at+".topic", "topic must be the name of a topic")
	}
	if k.Compression == "" {
		k.Compression = "zstd"
	}
	if s := k.SASL; s != nil {
		if s.Mechanism != "plain" && s.Mechanism != "scram-sha-256" && s.Mechanism != "scram-sha-512" {
			l.Wrong(at+".sasl.mechanism", "mechanism is plain, scram-sha-256 or scram-sha-512")
		}
		if s.User == "" || s.Password == nil {
			l.Wrong(at+".sasl", "sasl has a user and a password: {file: path} or {env: NAME}")
		}
		l.secret(at+".sasl.password", s.Password)
	}
	l.timeout(at, &k.Timeout)
}
