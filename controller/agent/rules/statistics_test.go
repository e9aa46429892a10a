package rules

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestStatistics(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		numbers []float64
		// want is by statistic what comes out.
		want map[string]float64
	}{
		"one": {[]float64{3}, map[string]float64{"variance": 0, "mean": 3, "iqr": 0, "max": 3, "min": 3, "mad": 0}},
		"five": {
			[]float64{2, 4, 4, 6, 9},
			map[string]float64{"variance": 7, "mean": 5, "iqr": 2, "max": 9, "min": 2},
		},
		"negative": {[]float64{-2, -4}, map[string]float64{"variance": 2, "mean": -3, "max": -2, "min": -4}},
	} {
		for statistic, want := range row.want {
			s := newStatistic(statistic)
			for _, x := range row.numbers {
				s.add(x)
			}
			if got := s.value(); math.Abs(got-want) > 1e-9 {
				t.Errorf("%s: %s is %v, want %v", name, statistic, got, want)
			}
		}
	}
}

// TestQuantiles: the estimates come near what the numbers really have.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() float64{
		"uniform": random.Float64, "normal": func() float64 { return 5 + random.NormFloat64() }, "exponential": random.ExpFloat64,
	} {
		iqr, mad := newStatistic("iqr"), newStatistic("mad")
		var all []float64
		for range 10_000 {
			x := draw()
			all = append(all, x)
			iqr.add(x)
			mad.add(x)
		}
		slices.Sort(all)
		near := func(what string, got, want float64) {
			if math.Abs(got-want) > 0.05*want {
				t.Errorf("%s: %s is %v, want about %v", name, what, got, want)
			}
		}
		near("iqr", iqr.value(), ranked(all, 0.75)-ranked(all, 0.25))
		median := ranked(all, 0.5)
		for i := range all {
			all[i] = math.Abs(all[i] - median)
		}
		slices.Sort(all)
		near("mad", mad.value(), ranked(all, 0.5))
	}
}
