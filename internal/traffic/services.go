package traffic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/sample"
)

// fleet are the services of a made-up fleet, which the routes behind "/v1/events" and the like are spread over.
var fleet = []string{"billing", "deploys", "devices", "flags", "oncall"}

// sampleService is the one that make dev runs.
const sampleService = "sample"

// serviceOf is the service of a route of the ops API, or of one of its own behind it.
func serviceOf(path string) string {
	if rest, ok := strings.CutPrefix(path, "/svc/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	return argus.OwnService
}

// release is the version of a service at a moment: a new one each fortnight, the present one at the end.
func (g *Generator) release(service string, at time.Time) string {
	const fortnight = 14 * 24 * time.Hour
	age := int(g.config.Until.Sub(at) / fortnight)
	switch {
	case age == 0 && service == argus.OwnService:
		return argus.Version
	case age == 0 && service == sampleService:
		return sample.Release
	case service == sampleService:
		return fmt.Sprintf("sample-1.%d.%d", 3-age/9, 9-age%9)
	}
	return fmt.Sprintf("0.%d.0", 26-age)
}

var reasons = []string{
	"Customer reported stock drift, ticket %d", "Ride-along with support, ticket %d", "Rollback of the last release, INC-%d",
	"Cost: idle since the weekend, OPS-%d", "Audit of the quarter, AUD-%d", "Kiosk stuck after the update, ticket %d",
	"Duplicate entry, ticket %d", "On-call: latency alarm, INC-%d", "Requested by the shop's owner, ticket %d",
}

// reason is why an operator makes a call with effects; those about tokens ask for none.
func reason(rng *rand.Rand, rt *route) string {
	if !rt.mutates || strings.Contains(rt.name, "tokens") {
		return ""
	}
	return fmt.Sprintf(reasons[rng.IntN(len(reasons))], 1000+rng.IntN(9000))
}

// failure is the code of an answer's error. What a service itself denies or breaks has none.
func failure(rng *rand.Rand, rt *route, status int16) argus.Code {
	own := rt.service == argus.OwnService
	switch status {
	case 400:
		if !own && rt.mutates {
			return "reason_required"
		}
		return argus.CodeInvalidParameter
	case 403:
		if strings.HasSuffix(rt.name, "/arm") && rng.IntN(2) == 0 {
			return argus.CodeConsentRequired
		}
		return argus.CodeForbidden
	case 429:
		return argus.CodeRateLimited
	case 502:
		if own {
			return argus.CodeProviderFailed
		}
		return "service_unavailable"
	case 503:
		if own {
			return argus.CodeUnavailable
		}
		return "service_busy"
	case 504:
		return "service_timeout"
	}
	if !own {
		return ""
	}
	return map[int16]argus.Code{404: argus.CodeNotFound, 409: argus.CodeConflict, 422: argus.CodeUnprocessable, 500: argus.CodeInternal}[status]
}

// failingStatuses are what a route answers when it fails. A gateway's own come from what is behind it.
func failingStatuses(rt *route) []int16 {
	switch {
	case rt.service != argus.OwnService:
		return []int16{500, 502, 503, 504}
	case strings.Contains(rt.name, "/compute/ops/") && rt.mutates:
		return []int16{500, 502, 502, 503}
	}
	return []int16{500, 503}
}

// workloadClaims are those of a pipeline's token.
func workloadClaims(rng *rand.Rand) []argus.Claim {
	repository := []string{"acme/ops", "acme/shop", "acme/terraform"}[rng.IntN(3)]
	return slices.Clone([]argus.Claim{{Name: "ref", Value: "refs/heads/main"}, {Name: "repository", Value: repository}})
}
