package simulation

import (
	"container/heap"
	"time"
)

// noon is when every world begins.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clock is the virtual time of a world and what is due in it. Nothing ever waits: time jumps from one event to the next.
type clock struct {
	now    time.Time
	events events
	// sequence orders events that are due at the same time by the order in which they were planned.
	sequence int64
}

// event is something that happens at a time.
type event struct {
	at       time.Time
	sequence int64
	happen   func()
}

// after plans an event. Times are whole milliseconds: API objects keep microseconds, and a time that they cannot keep would
// differ from the one that is read back.
func (c *clock) after(delay time.Duration, happen func()) {
	c.sequence++
	heap.Push(&c.events, event{at: c.now.Add(max(0, delay.Truncate(time.Millisecond))), sequence: c.sequence, happen: happen})
}

// step lets the next event happen, and reports whether there was one before the end.
func (c *clock) step(end time.Time) bool {
	if len(c.events) == 0 || c.events[0].at.After(end) {
		c.now = end
		return false
	}
	next, _ := heap.Pop(&c.events).(event)
	c.now = next.at
	next.happen()
	return true
}

// events is a heap, the earliest on top.
type events []event

func (e *events) Len() int { return len(*e) }

func (e *events) Less(i, j int) bool {
	a, b := &(*e)[i], &(*e)[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.sequence < b.sequence
}

func (e *events) Swap(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }

func (e *events) Push(x any) {
	added, _ := x.(event)
	*e = append(*e, added)
}

func (e *events) Pop() any {
	last := len(*e) - 1
	out := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return out
}

// alarm wakes one process: of several calls the earliest counts, and those that came before it is due are one.
type alarm struct {
	clock *clock
	due   time.Time
	token int
	ring  func()
}

// in rings after a delay, unless it rings before that anyway.
func (a *alarm) in(delay time.Duration) {
	at := a.clock.now.Add(max(0, delay.Truncate(time.Millisecond)))
	if !a.due.IsZero() && !at.Before(a.due) {
		return
	}
	a.due = at
	a.token++
	token := a.token
	a.clock.after(delay, func() {
		if token != a.token {
			return
		}
		a.due = time.Time{}
		a.ring()
	})
}

// stop forgets what it was set to.
func (a *alarm) stop() {
	a.due = time.Time{}
	a.token++
}
