package analytics

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// Several servers may share the rows of a copy. A connection to it is then one to the first server's database that asks all of
// them, and one to each server, its parts. Counts and keys are asked of each part, so each server plans a statement once. The
// first would plan it for all of them, wait for the others, and put the answers together.

// eachServer calls f with a connection to each server that has rows of the copy, at once where they are several. f's statements
// there are of that server's own rows.
func (c *clickhouseConn) eachServer(ctx context.Context, f func(ctx context.Context, server int, conn *clickhouseConn) error) error {
	if len(c.parts) == 0 {
		return f(ctx, 0, c)
	}
	g, all := errgroup.WithContext(ctx)
	for i, part := range c.parts {
		g.Go(func() error { return f(all, i, part) })
	}
	return g.Wait()
}

// dialParts gives the connection one to each server.
func (c *clickhouseConn) dialParts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*c.of.dialTimeout)
	defer cancel()
	c.parts = make([]*clickhouseConn, len(c.of.shards))
	var g errgroup.Group
	for i, shard := range c.of.shards {
		g.Go(func() error {
			part, err := shard.dial(ctx)
			if err != nil {
				return err
			}
			c.parts[i] = part
			is, err := part.servers(ctx, "")
			if err == nil {
				part.is = is[0]
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		c.parts = slices.DeleteFunc(c.parts, func(part *clickhouseConn) bool { return part == nil })
		return err
	}
	return c.checkParts(ctx)
}

// checkParts proves that the parts lead to the servers that the first one knows, to each once. Else a watermark would be of other
// servers than the rows.
func (c *clickhouseConn) checkParts(ctx context.Context) error {
	if len(c.parts) == 0 {
		return nil
	}
	known, err := c.servers(ctx, " GROUP BY _shard_num")
	if err != nil {
		return err
	}
	var own []uuid.UUID
	for _, part := range c.parts {
		own = append(own, part.is)
	}
	order := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(known, order)
	slices.SortFunc(own, order)
	if !slices.Equal(known, own) || len(slices.Compact(own)) < len(c.parts) || own[0] == uuid.Nil {
		return fmt.Errorf("the copy's %d servers are not those that the first of them knows, each once: run argusd migrate", len(c.parts))
	}
	return nil
}

// servers is what each server calls itself.
func (c *clickhouseConn) servers(ctx context.Context, by string) (is []uuid.UUID, err error) {
	var server proto.ColUUID
	q := statement{text: "SELECT argMin(server, (made_at, server)) AS server FROM replicator_identity" + by}
	err = c.query(ctx, q, bounds{time: quickTime, memory: 64 << 20}, proto.Results{{Name: "server", Data: &server}}, func(int) error {
		is = append(is, server...)
		return nil
	})
	if err == nil && len(is) == 0 {
		is = []uuid.UUID{uuid.Nil}
	}
	return is, err
}
