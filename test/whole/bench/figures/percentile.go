package figures

import (
	"slices"
	"time"
)

// Percentile is the least duration that p percent of all do not exceed: one that was measured, with nothing
// interpolated. It is 0 where there is none.
func Percentile(durations []time.Duration, p int) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	rank := (len(sorted)*p + 99) / 100
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median is the 50th percentile.
func Median(durations []time.Duration) time.Duration { return Percentile(durations, 50) }
