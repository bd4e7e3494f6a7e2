package api

import (
	"context"
	"time"
)

// demoTenant is a tenant of argusd dev.
type demoTenant struct {
	id, name string
	document string // of its consent; "" when it has given none
	agents   int
	idle     time.Duration // since its last activity
}

var demoTenants = []demoTenant{
	{"UTD_7ELEVEN_001", "7-Eleven, Store 001", "DOC-2026-0117", 12, 3 * time.Minute},
	{"UTD_7ELEVEN_002", "7-Eleven, Store 002", "DOC-2026-0118", 9, 41 * time.Minute},
	{"UTD_NORTHMART_014", "Northmart, Store 014", "", 7, 2 * time.Hour},
	{"UTD_QUICKSTOP_003", "Quickstop, Store 003", "DOC-2026-0204", 15, 12 * time.Minute},
	{"UTD_HARBOR_021", "Harbor Fuel, Station 021", "", 4, 26 * time.Hour},
	{"UTD_LAKESIDE_008", "Lakeside Grocers, Store 008", "DOC-2026-0233", 21, 90 * time.Second},
}

// SeedTenants adds the demonstration's tenants where they are missing, some with a consent on record and some
// without. pool is the owner's: the API's own role may not make tenants.
func SeedTenants(ctx context.Context, pool *Pool) error {
	for _, t := range demoTenants {
		if err := seedTenant(ctx, pool, t); err != nil {
			return err
		}
	}
	return nil
}
