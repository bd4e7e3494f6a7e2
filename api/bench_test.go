package api

import (
	"net/http"
	"sync"
	"testing"

	"github.com/useargus/argus"
)

// BenchmarkGoodBesideBad: good calls alone, and beside 64 connections that try bad tokens as fast as they are
// answered. The second is to be within a tenth of the first.
func BenchmarkGoodBesideBad(b *testing.B) {
	for name, connections := range map[string]int{"alone": 0, "beside-64-bad": 64} {
		b.Run(name, func(b *testing.B) {
			h := newHarness(b, func(c *Config) { c.Limits.PerSecond = -1 })
			h.listening()
			good := h.token("user_2ada")
			h.answers(good, 200)
			stop := make(chan struct{})
			var bad sync.WaitGroup
			for range connections {
				bad.Go(func() {
					client := &http.Client{Transport: &http.Transport{}}
					defer client.CloseIdleConnections()
					for {
						select {
						case <-stop:
							return
						default:
						}
						req, _ := http.NewRequest(http.MethodGet, h.url+"/v1/operators/me", nil)
						req.Header.Set("Authorization", "Bearer "+argus.NewSecret(argus.PATPrefix))
						if resp, err := client.Do(req); err == nil {
							resp.Body.Close()
						}
					}
				})
			}
			for b.Loop() {
				h.answers(good, 200)
			}
			b.StopTimer()
			close(stop)
			bad.Wait()
		})
	}
}
