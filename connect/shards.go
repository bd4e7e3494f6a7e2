package connect

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Shard is one server of ClickHouse: the only one of its copy, or one of several that share its rows.
type Shard struct {
	Copy       string // empty when the setting is one plain URL
	Number, Of int    // from 1; Of is 1 when the copy is not shared out
	URL        string
}

// Servers are the servers of the copy, in their order.
func (c Copy) Servers() []Shard {
	all := make([]Shard, len(c.Shards))
	for i, url := range c.Shards {
		all[i] = Shard{c.Name, i + 1, len(c.Shards), url}
	}
	return all
}

// Servers reads ARGUS_CLICKHOUSE_URL, and gives every server of every copy.
func Servers(text string) ([]Shard, error) {
	copies, err := Copies(text)
	var all []Shard
	for _, c := range copies {
		all = append(all, c.Servers()...)
	}
	return all, err
}

// Name is how a person names the server: "east", or "east/2" where the copy has shards. It is empty for one plain URL.
func (s Shard) Name() string {
	if s.Of > 1 {
		return s.Copy + "/" + strconv.Itoa(s.Number)
	}
	return s.Copy
}

// Slot is the replication slot that feeds the server.
func (s Shard) Slot(base string) string { return slotOf(base, s.Copy, s.Number, s.Of) }

// Publication is what the server's slot is read with: "argus", which has all rows, or that of the shard.
func (s Shard) Publication() string {
	if s.Of < 2 {
		return "argus"
	}
	return s.Slot("argus")
}

// Address is host:port, without the user and the password.
func (s Shard) Address() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// The store's name in what is told to a person: "ClickHouse", or "ClickHouse east/2".
func (s Shard) String() string { return strings.TrimSpace("ClickHouse " + s.Name()) }

// FindServer reads ARGUS_CLICKHOUSE_URL and gives the server of the name. One that stands alone needs no name.
func FindServer(text, name string) (Shard, error) {
	all, err := Servers(text)
	if err != nil {
		return Shard{}, err
	}
	var names []string
	for _, s := range all {
		if s.Name() == name || name == "" && len(all) == 1 {
			return s, nil
		}
		names = append(names, s.Name())
	}
	switch {
	case len(all) == 0:
		return Shard{}, errors.New("there is no copy: ARGUS_CLICKHOUSE_URL is empty")
	case name == "":
		return Shard{}, fmt.Errorf("ARGUS_CLICKHOUSE_URL names %d servers: say which by --copy, one of %s", len(all), strings.Join(names, ", "))
	case len(all) == 1 && names[0] == "":
		return Shard{}, fmt.Errorf("there is no copy %q: ARGUS_CLICKHOUSE_URL is one plain URL, which has no name", name)
	}
	return Shard{}, fmt.Errorf("ARGUS_CLICKHOUSE_URL has no server %q: it has %s", name, strings.Join(names, ", "))
}

// FindCopy reads ARGUS_CLICKHOUSE_URL and gives the copy of the name, with all its shards. One that stands alone needs no name.
func FindCopy(text, name string) (Copy, error) {
	all, err := Copies(text)
	if err != nil {
		return Copy{}, err
	}
	var names []string
	for _, c := range all {
		if c.Name == name || name == "" && len(all) == 1 {
			return c, nil
		}
		names = append(names, c.Name)
	}
	whole, _, shard := strings.Cut(name, "/")
	switch {
	case len(all) == 0:
		return Copy{}, errors.New("there is no copy: ARGUS_CLICKHOUSE_URL is empty")
	case name == "":
		return Copy{}, fmt.Errorf("ARGUS_CLICKHOUSE_URL names %d copies: say which by --copy, one of %s", len(all), strings.Join(names, ", "))
	case len(all) == 1 && names[0] == "":
		return Copy{}, fmt.Errorf("there is no copy %q: ARGUS_CLICKHOUSE_URL is one plain URL, which has no name", name)
	case shard && slices.Contains(names, whole):
		return Copy{}, fmt.Errorf("%s is one of several servers that share the rows: name the copy, %s", name, whole)
	}
	return Copy{}, fmt.Errorf("ARGUS_CLICKHOUSE_URL has no copy %q: it has %s", name, strings.Join(names, ", "))
}
