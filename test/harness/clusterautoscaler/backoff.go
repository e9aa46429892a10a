package main

import "time"

// backoffs remembers the groups whose scale-up failed. Each failure within the reset time doubles the
// time that the group is left alone.
type backoffs struct {
	initial, longest, reset time.Duration
	entries                 map[string]backoff
}

type backoff struct {
	until    time.Time
	lasts    time.Duration
	failedAt time.Time
	failure  failure
}

func newBackoffs(o options) *backoffs {
	return &backoffs{initial: o.initialBackoff, longest: o.maxBackoff, reset: o.backoffReset, entries: map[string]backoff{}}
}

// fail notes a failure at now and returns until when the group is left alone. A failure during a backoff
// does not make it longer.
func (b *backoffs) fail(group string, f failure, now time.Time) time.Time {
	lasts := b.initial
	if previous, found := b.entries[group]; found {
		switch {
		case previous.until.After(now):
			lasts = previous.lasts
		case previous.failedAt.Add(b.reset).After(now):
			lasts = min(2*previous.lasts, b.longest)
		}
	}
	b.entries[group] = backoff{until: now.Add(lasts), lasts: lasts, failedAt: now, failure: f}
	return now.Add(lasts)
}

// active is the backoff of a group at now, if there is one.
func (b *backoffs) active(group string, now time.Time) (backoff, bool) {
	entry, found := b.entries[group]
	return entry, found && entry.until.After(now)
}
