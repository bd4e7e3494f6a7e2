package connect_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestOneServerWhileItIsMigrated: a server that gets its identity between two looks is one. One that loses it is another's.
func TestOneServerWhileItIsMigrated(t *testing.T) {
	ch := enginetest.NewClickHouse(t)
	admin := ch.Conn(t, ch.MigrateURL)
	to, err := url.Parse(ch.MigrateURL)
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Exec(t.Context(), "CREATE DATABASE argus_new"); err != nil {
		t.Fatal(err)
	}
	defer admin.Exec(context.Background(), "DROP DATABASE argus_new SYNC")
	for _, c := range []struct {
		name  string
		steps map[int]string // before that connection
		one   bool
	}{
		{"migrated meanwhile", map[int]string{3: "CREATE TABLE %.replicator_identity (server UUID, made_at DateTime64(6)) ENGINE = Memory",
			5: "INSERT INTO %.replicator_identity SELECT generateUUIDv4(), now64(6)"}, true},
		{"without it again", map[int]string{2: "TRUNCATE TABLE %.replicator_identity"}, false},
		{"another's", map[int]string{1: "INSERT INTO %.replicator_identity SELECT generateUUIDv4(), now64(6)", 4: "TRUNCATE TABLE %.replicator_identity",
			5: "INSERT INTO %.replicator_identity SELECT generateUUIDv4(), now64(6)"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for n := 1; ; n++ {
					from, err := listener.Accept()
					if err != nil {
						return
					}
					if step := c.steps[n]; step != "" {
						if err := admin.Exec(t.Context(), strings.ReplaceAll(step, "%", "argus_new")); err != nil {
							t.Error(err)
						}
					}
					server, err := net.Dial("tcp", to.Host)
					if err != nil {
						t.Error(err)
						return
					}
					go func() { defer server.Close(); io.Copy(server, from) }()
					go func() { defer from.Close(); io.Copy(from, server) }()
				}
			}()
			through := *to
			through.Host, through.Path = listener.Addr().String(), "/argus_new"
			options, err := connect.ClickHouse(through.String())
			if err != nil {
				t.Fatal(err)
			}
			if err := connect.OneServer(t.Context(), options); c.one != (err == nil) || !c.one && !errors.Is(err, connect.ErrNotOne) {
				t.Errorf("said: %v", err)
			}
		})
	}
}
