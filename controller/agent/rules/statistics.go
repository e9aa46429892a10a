package rules

import (
	"math"
	"slices"
)

// statistic is one number about a stream of numbers, of which it keeps a bounded part. These are the statistics of ensemble-python,
// which has them from river: the variance is that of a sample, quantiles are estimated by the P² algorithm of Jain and Chlamtac.
type statistic interface {
	add(x float64)
	// value is the number so far, of at least one number added.
	value() float64
}

func newStatistic(name string) statistic {
	switch name {
	case "mean":
		return &moments{}
	case "variance":
		return &variance{}
	case "max":
		return &extreme{sign: 1}
	case "min":
		return &extreme{sign: -1}
	case "iqr":
		return &interquartile{low: quantile{p: 0.25}, high: quantile{p: 0.75}}
	default: // "mad", the only other one that a file may have
		return &deviation{median: quantile{p: 0.5}, of: quantile{p: 0.5}}
	}
}

// moments are the mean and the sum of squares about it, by Welford's recurrence.
type moments struct {
	n          int64
	mean, sumS float64
}

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / float64(m.n)
	m.sumS += d * (x - m.mean)
}

func (m *moments) value() float64 { return m.mean }

type variance struct{ moments }

// value is 0 of a single number.
func (v *variance) value() float64 {
	if v.n < 2 {
		return 0
	}
	return v.sumS / float64(v.n-1)
}

// extreme is the maximum with the sign 1, the minimum with -1.
type extreme struct {
	sign, most float64
	any        bool
}

func (e *extreme) add(x float64) {
	if !e.any || x*e.sign > e.most*e.sign {
		e.any, e.most = true, x
	}
}

func (e *extreme) value() float64 { return e.most }

// interquartile is the range between the quartiles.
type interquartile struct{ low, high quantile }

func (i *interquartile) add(x float64) {
	i.low.add(x)
	i.high.add(x)
}

func (i *interquartile) value() float64 { return i.high.value() - i.low.value() }

// deviation is the median of the distances from the median, each from the median at the time of the number.
type deviation struct{ median, of quantile }

func (d *deviation) add(x float64) {
	d.median.add(x)
	d.of.add(math.Abs(x - d.median.value()))
}

func (d *deviation) value() float64 { return d.of.value() }

// quantile estimates the p-quantile with five markers. Up to five numbers it is one of them.
type quantile struct {
	p float64
	n int64
	// heights are the markers' numbers in order, first those added, places their ranks from 1.
	heights []float64
	places  [5]float64
}

func (q *quantile) add(x float64) {
	q.n++
	if q.n <= 5 {
		at, _ := slices.BinarySearch(q.heights, x)
		q.heights = slices.Insert(q.heights, at, x)
		q.places = [5]float64{1, 2, 3, 4, 5}
		return
	}
	h := q.heights
	h[0], h[4] = min(h[0], x), max(h[4], x)
	for i := 1; i < 5; i++ {
		if i == 4 || x < h[i] {
			q.places[i]++
		}
	}
	steps := float64(q.n - 1)
	for i, part := range [3]float64{q.p / 2, q.p, (1 + q.p) / 2} {
		i++
		off := 1 + steps*part - q.places[i]
		if off >= 1 && q.places[i+1]-q.places[i] > 1 || off <= -1 && q.places[i-1]-q.places[i] < -1 {
			q.move(i, math.Copysign(1, off))
		}
	}
}

// move moves a marker by one rank up or down: to the height on the parabola through it and its neighbours, or on the line where that
// would put the markers out of order.
func (q *quantile) move(i int, by float64) {
	h, n := q.heights, &q.places
	to := h[i] + by/(n[i+1]-n[i-1])*((n[i]-n[i-1]+by)*(h[i+1]-h[i])/(n[i+1]-n[i])+(n[i+1]-n[i]-by)*(h[i]-h[i-1])/(n[i]-n[i-1]))
	if to <= h[i-1] || to >= h[i+1] {
		j := i + int(by)
		to = h[i] + by*(h[j]-h[i])/(n[j]-n[i])
	}
	h[i] = to
	n[i] += by
}

func (q *quantile) value() float64 {
	if q.n <= 5 {
		return ranked(q.heights, q.p)
	}
	return q.heights[2]
}

// ranked is the p-quantile of numbers in order: one of them.
func ranked(ordered []float64, p float64) float64 {
	return ordered[min(len(ordered)-1, int(float64(len(ordered))*p))]
}
