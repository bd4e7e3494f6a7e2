package argus

import (
	"slices"
	"time"
)

// Baseline says what the calls of a region are set beside.
type Baseline string

const (
	BaselineRest   Baseline = "rest"   // the other calls of the window
	BaselineBefore Baseline = "before" // the calls of as long a time before the region
)

// Baselines lists them.
func Baselines() []Baseline { return []Baseline{BaselineRest, BaselineBefore} }

// RegionKind names the calls of a region by how they went.
type RegionKind string

const (
	RegionSlow        RegionKind = "slow"        // at least as long as the p95 of the calls outside the region's time
	RegionFailed      RegionKind = "failed"      // answered 5xx
	RegionInterrupted RegionKind = "interrupted" // without an answer, by a crash
)

// RegionKinds lists them.
func RegionKinds() []RegionKind { return []RegionKind{RegionSlow, RegionFailed, RegionInterrupted} }

// Region is some of a window's calls. All that is given must hold.
type Region struct {
	Since, Until time.Time     // zero: from the window's beginning, to its end
	Kind         RegionKind    // "": however they went
	LatencyMin   time.Duration // took at least this; 0: any
	LatencyMax   time.Duration // took less than this; 0: any
}

// DifferDimension is what calls are told apart by.
type DifferDimension string

// DifferDimensions lists them, in the order of their columns. All but status are names of filters; of status, the value
// "interrupted" is that of the filter outcome.
func DifferDimensions() []DifferDimension {
	return []DifferDimension{"actor", "actor_kind", "client", "agent", "tenant", "route", "status", "error_code", "service", "release"}
}

// Limits of the values a dimension.
const (
	DefaultDifferValues = 10
	MaxDifferValues     = 100
)

// DiffersRequest asks how the calls of a region differ from others of the same filter. The filter's Since must be set.
type DiffersRequest struct {
	Filter   Filter
	Region   Region
	Baseline Baseline // "": the rest; the time before when the region is the whole window
	Limit    int      // values a dimension; 0 means DefaultDifferValues, at most MaxDifferValues
}

// DiffersResult answers a DiffersRequest.
type DiffersResult struct {
	Since, Until                 time.Time // the window
	Region                       Region    // as resolved: its times are set, and LatencyMin of RegionSlow
	Baseline                     Baseline
	BaselineSince, BaselineUntil time.Time
	Calls                        DifferFigures // all of them
	Dimensions                   []DifferValues
	Source                       Source
	ReplicatedThrough            time.Time
}

// DifferValues are the values of a dimension: those that depart most first, and then the most frequent.
type DifferValues struct {
	Dimension DifferDimension
	Values    []DifferValue
	Others    int           // how many values were left out
	Other     DifferFigures // their calls
}

// DifferFigures sets the calls of the region beside those of the baseline. Latencies are in milliseconds, within 1 %, of
// completed calls, and NaN when none completed.
type DifferFigures struct {
	Calls, BaselineCalls int64   // interrupted ones included
	Share, BaselineShare float64 // of all calls of the region, and of the baseline; 0 when it has none
	P50, BaselineP50     float64
	P99, BaselineP99     float64
}

// Departure says how a value departs.
type Departure string

const (
	DepartsMore   Departure = "more" // its share is larger in the region
	DepartsLess   Departure = "less"
	DepartsSlower Departure = "slower" // its latency grew more than that of the other calls
	DepartsFaster Departure = "faster"
)

// DifferValue is a value of a dimension. "" is calls that have none.
type DifferValue struct {
	Value string
	DifferFigures
	// Score is between 0 and 1, and 0 when the value departs by no more than chance. Of a share it is the least
	// difference that the counts bear out. Of a latency it is 1-1/f, f being the least factor that they bear out.
	Score   float64
	Departs Departure // "" with a score of 0
}

// Departing reports whether any value departs.
func (r *DiffersResult) Departing() bool {
	return slices.ContainsFunc(r.Dimensions, func(d DifferValues) bool { return len(d.Values) > 0 && d.Values[0].Score > 0 })
}
