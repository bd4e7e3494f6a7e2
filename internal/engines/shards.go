package engines

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/useargus/argus/internal/ports"
)

// StartShards starts servers of ClickHouse that share out a copy: the cluster connect.Cluster, in this order. They know each
// other by a secret, so a question asked of one runs on all as the user who asked. ctx bounds the start.
func StartShards(ctx context.Context, configs []ClickHouseConfig) (servers []*ClickHouse, err error) {
	for deadline := time.Now().Add(time.Minute); ; {
		if servers, err = startShards(ctx, slices.Clone(configs)); err == nil || !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			return servers, err
		}
	}
}

func startShards(ctx context.Context, configs []ClickHouseConfig) ([]*ClickHouse, error) {
	secret := randomPassword()
	var peers []int
	for i := range configs {
		if configs[i].TCPPort == 0 {
			port, err := ports.Free()
			if err != nil {
				return nil, err
			}
			configs[i].TCPPort = port
		}
		peers = append(peers, configs[i].TCPPort)
	}
	servers, errs := make([]*ClickHouse, len(configs)), make([]error, len(configs))
	var starting sync.WaitGroup
	for i, config := range configs {
		config.Peers, config.Secret = peers, secret
		starting.Go(func() { servers[i], errs[i] = StartClickHouse(ctx, config) })
	}
	starting.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return servers, nil
	}
	for _, s := range servers {
		if s != nil {
			err = errors.Join(err, s.Stop(ctx))
		}
	}
	return nil, err
}
