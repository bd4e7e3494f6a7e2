package connect

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Copy is one complete copy of the log in ClickHouse: one server, or several that share its rows.
type Copy struct {
	Name   string   // empty when the setting is one plain URL
	Shards []string // a URL each, in their order; one when the copy is not shared out
}

// ErrCopies says how ARGUS_CLICKHOUSE_URL is written. It repeats nothing of the text, which may hold passwords.
var ErrCopies = errors.New("want one URL, or name=url for each copy, separated by blanks; the shards of a copy are joined by |")

// copyName becomes part of a slot's name and of a label of metrics. A number at the end would read as a shard.
var copyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,23}$`)
var endsAsShard = regexp.MustCompile(`_[0-9]+$`)

// Copies reads ARGUS_CLICKHOUSE_URL: `clickhouse://…`, or `east=clickhouse://… west=clickhouse://…|clickhouse://…`. Each URL
// names one host. An empty text is no copy.
func Copies(text string) ([]Copy, error) {
	fields := strings.Fields(text)
	copies := make([]Copy, 0, len(fields))
	names := map[string]bool{}
	for _, field := range fields {
		name, urls, named := strings.Cut(field, "=")
		if strings.Contains(name, "://") { // the = belongs to a parameter of a plain URL
			name, urls, named = "", field, false
		}
		switch {
		case !named && len(fields) > 1:
			return nil, fmt.Errorf("%w; with several copies each needs a name", ErrCopies)
		case named && (!copyName.MatchString(name) || endsAsShard.MatchString(name)):
			return nil, fmt.Errorf("%w; a name is up to 24 of a-z, 0-9 and _, starts with a letter and does not end with _ and digits", ErrCopies)
		case names[name]:
			return nil, fmt.Errorf("the copy %q stands twice", name)
		}
		names[name] = true
		c := Copy{Name: name, Shards: strings.Split(urls, "|")}
		if !named && len(c.Shards) > 1 {
			return nil, fmt.Errorf("%w; a copy with shards needs a name", ErrCopies)
		}
		for _, of := range c.Shards {
			if strings.Contains(hosts(of), ",") {
				return nil, errors.New("a URL of ClickHouse names several hosts: name one server in each, name=url for each copy")
			}
			u, err := url.Parse(of)
			if err != nil || u.Scheme == "" || u.Host == "" {
				return nil, ErrCopies
			}
		}
		copies = append(copies, c)
	}
	return copies, nil
}

// hosts are what stands between the user and the path of a URL.
func hosts(of string) string {
	_, of, _ = strings.Cut(of, "://")
	of, _, _ = strings.Cut(of, "/")
	return of[strings.LastIndexByte(of, '@')+1:]
}

// Slot is the replication slot that feeds a server of the copy. The base is ARGUS_REPLICATION_SLOT; shards are counted from 1.
func (c Copy) Slot(base string, shard int) string { return slotOf(base, c.Name, shard, len(c.Shards)) }

func slotOf(base, name string, shard, of int) string {
	if name != "" {
		base += "_" + name
	}
	if of > 1 {
		base += "_" + strconv.Itoa(shard)
	}
	return base
}

// Cluster is the name that a ClickHouse server knows the servers of its copy by, in its configuration (remote_servers): a
// shard each, in the order of the setting.
const Cluster = "argus"

// Whole is the URL by which all rows of the copy are read: of its first server, and where it has several, of the database
// beside the tables that asks all of them (see migrations.Distributed).
func (c Copy) Whole() (string, error) {
	if len(c.Shards) < 2 {
		return c.Shards[0], nil
	}
	u, err := url.Parse(c.Shards[0])
	if err != nil {
		return "", ErrClickHouseURL
	}
	u.Path = "/" + WholeDatabase(cmp.Or(strings.TrimPrefix(u.Path, "/"), "default"))
	return u.String(), nil
}

// WholeDatabase is the database that asks all shards, beside a database that has the rows of one.
func WholeDatabase(database string) string { return database + "_all" }
