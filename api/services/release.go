package services

import (
	"sync"
	"time"

	"github.com/useargus/argus"
)

// Bounds of what a service may call itself. A release is a key of the rollups, so a service that names another one in each
// answer would make as many rows there as it has calls.
const (
	maxReleases = 32        // of one service at once
	releaseIdle = time.Hour // after which a release makes room for another
)

// OtherRelease stands in the row for a release beyond the bound.
const OtherRelease = "(other)"

// releases are those that a service has named of late.
type releases struct {
	mu   sync.Mutex
	last map[string]time.Time // when it was named last
}

// name is the release as the row has it.
func (r *releases) name(release string, now time.Time) string {
	release = argus.Text(release, argus.MaxRelease)
	if release == "" {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.last[release]; !known && len(r.last) >= maxReleases {
		for old, at := range r.last {
			if now.Sub(at) >= releaseIdle {
				delete(r.last, old)
			}
		}
		if len(r.last) >= maxReleases {
			return OtherRelease
		}
	}
	if r.last == nil {
		r.last = map[string]time.Time{}
	}
	r.last[release] = now
	return release
}
