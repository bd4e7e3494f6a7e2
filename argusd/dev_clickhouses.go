package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// The one ClickHouse of argusd dev, or more: with ARGUS_DEV_COPIES several copies, and with ARGUS_DEV_SHARDS several servers that
// share out each copy. All servers stand in one list, the copies one after the other.

// devCopies are the names of several copies. One copy has none, or with shards the name "dev".
var devCopies = []string{"east", "west", "north"}

// servers reads ARGUS_DEV_COPIES and ARGUS_DEV_SHARDS. A folder keeps what it was made with; to several more may be added.
func (s *devState) servers(copies, shards string) error {
	for _, of := range []struct {
		setting, text, what string
		most                int
		kept                *int
	}{
		{"ARGUS_DEV_COPIES", copies, "copies", len(devCopies), &s.Copies},
		{"ARGUS_DEV_SHARDS", shards, "servers of a copy", 8, &s.Shards},
	} {
		if *of.kept == 0 && s.Seeded {
			*of.kept = 1
		}
		n, err := strconv.Atoi(of.text)
		if of.text == "" {
			n, err = max(*of.kept, 1), nil
		}
		if err != nil || n < 1 || n > of.most {
			return fmt.Errorf("%s=%q must be 1 to %d", of.setting, of.text, of.most)
		}
		if *of.kept > n || *of.kept == 1 && n > 1 {
			return fmt.Errorf("it was made with %d %s; set %s to that, or begin with an empty folder", *of.kept, of.what, of.setting)
		}
		*of.kept = n
	}
	return s.save()
}

// copyName is the name of the copy that the server is one of, and "" for the only one.
func (s *devState) copyName(server int) string {
	switch {
	case s.Copies > 1:
		return devCopies[server/s.Shards]
	case s.Shards > 1:
		return "dev"
	}
	return ""
}

// copyOf is what argusd replicator --copy takes.
func (s *devState) copyOf(server int) string {
	if s.Shards == 1 {
		return s.copyName(server)
	}
	return fmt.Sprint(s.copyName(server), "/", server%s.Shards+1)
}

// serverName names a folder or a log of a server. What is of the first one has the name alone.
func (s *devState) serverName(name string, server int) string {
	if server >= s.Shards {
		name += "-" + s.copyName(server)
	}
	if shard := server % s.Shards; shard > 0 {
		name += fmt.Sprint(shard + 1)
	}
	return name
}

// startClickHouses starts all servers. Those of one copy must know each other's ports, so they start together.
func (d *dev) startClickHouses(ctx context.Context) error {
	if d.state.Shards == 1 {
		for _, unit := range d.clickhouses {
			if err := unit.begin(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	for first := 0; first < len(d.clickhouses); first += d.state.Shards {
		var configs []engines.ClickHouseConfig
		for i := range d.state.Shards {
			configs = append(configs, d.clickhouseConfig(first+i))
		}
		servers, err := engines.StartShards(ctx, configs)
		for i, server := range servers {
			d.clickhouses[first+i].adopt(server)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *dev) clickhouseConfig(i int) engines.ClickHouseConfig {
	config := engines.ClickHouseConfig{Dir: filepath.Join(d.dir, d.state.serverName("clickhouse", i)), Databases: []string{devDatabase}}
	for _, user := range migrations.ClickHouseUsers() {
		config.Users = append(config.Users, engines.ClickHouseLogin{ClickHouseUser: user,
			Password: d.state.Passwords["clickhouse/"+user.Name]})
	}
	return config
}

func (d *dev) startClickHouse(ctx context.Context, i int) (process, error) {
	config := d.clickhouseConfig(i)
	if before, ok := d.clickhouses[i].process().(*engines.ClickHouse); ok {
		config = before.Config() // the same ports
	}
	ch, err := engines.StartClickHouse(ctx, config)
	if err != nil {
		return nil, err
	}
	return ch, nil
}

// ch is the only server, or the first.
func (d *dev) ch() *engines.ClickHouse { return d.clickhouses[0].process().(*engines.ClickHouse) }

// clickhouseURL is ARGUS_CLICKHOUSE_URL with the URLs that of gives.
func (d *dev) clickhouseURL(of func(*engines.ClickHouse) string) string {
	var copies, urls []string
	for i, u := range d.clickhouses {
		urls = append(urls, of(u.process().(*engines.ClickHouse)))
		if len(urls) == d.state.Shards {
			copies, urls = append(copies, copyURL(d.state.copyName(i), strings.Join(urls, "|"))), nil
		}
	}
	return strings.Join(copies, " ")
}

func copyURL(name, url string) string {
	if name == "" {
		return url
	}
	return name + "=" + url
}

// firstURL names the first server of each copy, which has the steps and the leaves of the ledger.
func (d *dev) firstURL(user string) string {
	var copies []string
	for i := 0; i < len(d.clickhouses); i += d.state.Shards {
		ch := d.clickhouses[i].process().(*engines.ClickHouse)
		name := d.state.copyName(i)
		if d.state.Copies == 1 {
			name = ""
		}
		copies = append(copies, copyURL(name, ch.NativeURL(user, d.state.Passwords["clickhouse/"+user], devDatabase)))
	}
	return strings.Join(copies, " ")
}

// userURL is how a user of ClickHouse logs in to all servers.
func (d *dev) userURL(user string) string {
	return d.clickhouseURL(func(ch *engines.ClickHouse) string {
		return ch.NativeURL(user, d.state.Passwords["clickhouse/"+user], devDatabase)
	})
}

// wholeDatabase is the one in which SQL finds all rows.
func (d *dev) wholeDatabase() string {
	if d.state.Shards == 1 {
		return devDatabase
	}
	return connect.WholeDatabase(devDatabase)
}

func (d *dev) migrateClickHouses(ctx context.Context, superURL string) error {
	copies, err := connect.Copies(d.clickhouseURL(func(ch *engines.ClickHouse) string { return ch.AdminURL(devDatabase) }))
	if err != nil {
		return err
	}
	waiting, err := migrations.Shards(ctx, superURL, copies)
	if err != nil {
		return err
	}
	for _, c := range copies {
		for _, server := range c.Servers() {
			if _, err := migrations.ClickHouse(ctx, server.URL, superURL); err != nil {
				return err
			}
		}
		if len(c.Shards) > 1 {
			if err := migrations.JoinShards(ctx, c); err != nil {
				return err
			}
		}
	}
	if len(waiting) > 0 {
		fmt.Println("A new server takes rows from the next start on: its replicator has no slot yet.")
	}
	return nil
}
