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

// The one ClickHouse of argusd dev, or with ARGUS_DEV_SHARDS the servers that share out the copy "dev".

// shards reads ARGUS_DEV_SHARDS. A folder keeps what it was made with; servers may be added to several.
func (s *devState) shards(text string) (int, error) {
	if s.Shards == 0 && s.Seeded {
		s.Shards = 1
	}
	n, err := strconv.Atoi(text)
	if text == "" {
		n, err = max(s.Shards, 1), nil
	}
	if err != nil || n < 1 || n > 8 {
		return 0, fmt.Errorf("ARGUS_DEV_SHARDS=%q must be 1 to 8", text)
	}
	if s.Shards > n || s.Shards == 1 && n > 1 {
		return 0, fmt.Errorf("it was made with %d servers of ClickHouse; set ARGUS_DEV_SHARDS to that, or begin with an empty folder", s.Shards)
	}
	s.Shards = n
	return n, s.save()
}

func shardName(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprint(name, i+1)
}

// startClickHouses starts all servers. They must know each other's ports, so several start together.
func (d *dev) startClickHouses(ctx context.Context) error {
	if len(d.clickhouses) == 1 {
		return d.clickhouses[0].begin(ctx)
	}
	var configs []engines.ClickHouseConfig
	for i := range d.clickhouses {
		configs = append(configs, d.clickhouseConfig(i))
	}
	servers, err := engines.StartShards(ctx, configs)
	for i, server := range servers {
		d.clickhouses[i].adopt(server)
	}
	return err
}

func (d *dev) clickhouseConfig(i int) engines.ClickHouseConfig {
	config := engines.ClickHouseConfig{Dir: filepath.Join(d.dir, shardName("clickhouse", i)), Databases: []string{devDatabase}}
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
	var urls []string
	for _, u := range d.clickhouses {
		urls = append(urls, of(u.process().(*engines.ClickHouse)))
	}
	if len(urls) == 1 {
		return urls[0]
	}
	return "dev=" + strings.Join(urls, "|")
}

// userURL is how a user of ClickHouse logs in to all servers.
func (d *dev) userURL(user string) string {
	return d.clickhouseURL(func(ch *engines.ClickHouse) string {
		return ch.NativeURL(user, d.state.Passwords["clickhouse/"+user], devDatabase)
	})
}

// wholeDatabase is the one in which SQL finds all rows.
func (d *dev) wholeDatabase() string {
	if len(d.clickhouses) == 1 {
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
	for _, server := range copies[0].Servers() {
		if _, err := migrations.ClickHouse(ctx, server.URL, superURL); err != nil {
			return err
		}
	}
	if len(waiting) > 0 {
		fmt.Println("A new server takes rows from the next start on: its replicator has no slot yet.")
	}
	if len(copies[0].Shards) == 1 {
		return nil
	}
	return migrations.JoinShards(ctx, copies[0])
}
