package endpoint

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestParseQueue(t *testing.T) {
	t.Parallel()
	many := make([]string, 0, maxCounts+1)
	for i := range maxCounts + 1 {
		many = append(many, fmt.Sprintf(`"%d": 1`, i))
	}
	for name, row := range map[string]struct{ payload, want string }{
		"what the first ensemble-operator knows": {`{"queue": {"new": 1, "depend": 2, "priority": 3, "sched": 4, "run": 5, "cleanup": 6, "inactive": 7}}`,
			"{1 2 3 4 5 6 7} waiting map[], counts map[], stored [queue]"},
		"waiting and counts": {
			`{"waiting": {"4": 2}, "counts": {"sleep": "3"}}`, "{0 0 0 0 0 0 0} waiting map[4:2], counts map[sleep:3], stored [counts waiting]",
		},
		"what is not used": {
			`{"queue": {"run": 1}, "nodes": {}, "nextJobs": []}`,
			"{0 0 0 0 1 0 0} waiting map[], counts map[], stored [queue], not used [nextJobs nodes]",
		},
		"a number with a zero": {`{"queue": {"run": 2.0}}`, "{0 0 0 0 2 0 0} waiting map[], counts map[], stored [queue]"},
		"nothing":              {``, `payload is not a JSON object such as {"queue": {"run": 1}}`},
		"no object":            {`[]`, `payload is not a JSON object`},
		"two objects":          {`{"queue": {}}{}`, `payload has text after its JSON object`},
		"nothing of use":       {`{"nodes": {}}`, `payload has none of the fields "queue", "waiting" and "counts"`},
		"an unknown state": {
			`{"queue": {"running": 1}}`,
			`payload field "queue" has the state "running"; the states are cleanup, depend, inactive, new, priority, run, sched`,
		},
		"a negative count": {
			`{"queue": {"run": -1}}`, `payload field "queue" has -1 for "run"; it has to be a whole number from 0 to 2147483647`,
		},
		"a fraction":              {`{"waiting": {"4": 1.5}}`, `payload field "waiting" has 1.5 for "4"; it has to be`},
		"a huge count":            {`{"counts": {"a": 1e300}}`, `payload field "counts" has 1e300 for "a"; it has to be`},
		"not a number":            {`{"counts": {"a": "NaN"}}`, `payload field "counts" has "NaN" for "a"; it has to be`},
		"a list":                  {`{"queue": [1]}`, `payload field "queue" is [1]; it has to be an object of counts`},
		"a count without a name":  {`{"counts": {"": 1}}`, `payload field "counts" has a count called ""; a name has 1 to 63 characters`},
		"a count with a long one": {`{"counts": {"` + strings.Repeat("x", 64) + `": 1}}`, `payload field "counts" has a count called "xxxx`},
		"too many":                {`{"counts": {` + strings.Join(many, ",") + `}}`, `payload field "counts" has 65 counts; at most 64 are kept`},
		"a huge payload": {
			`{"counts": {"x": "` + strings.Repeat(" ", maxPayloadBytes) + `1"}}`, `payload has 16406 bytes; at most 16384 are read`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			if queue, update, err := parseQueue(row.payload); err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprintf("%v waiting %v, counts %v, stored %v", queue.Jobs, queue.Waiting, queue.Counts, update.Stored)
				if len(update.NotUsed) > 0 {
					got += fmt.Sprintf(", not used %v", update.NotUsed)
				}
			}
			if got != row.want && (!strings.HasPrefix(row.want, "payload") || !strings.HasPrefix(got, row.want)) {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

func FuzzParseQueue(f *testing.F) {
	f.Add(`{"queue": {"run": 1}, "waiting": {"4": "2"}, "counts": {"a": 3.0}}`)
	f.Add(`{"queue": null}`)
	f.Fuzz(func(t *testing.T, payload string) {
		queue, update, err := parseQueue(payload)
		if err != nil {
			return
		}
		if len(update.Stored) == 0 {
			t.Errorf("%q: nothing is stored and nothing is wrong", payload)
		}
		for _, counts := range []map[string]int64{queue.Waiting, queue.Counts} {
			for name, count := range counts {
				if name == "" || count < 0 {
					t.Errorf("%q: a count %q of %d", payload, name, count)
				}
			}
		}
	})
}

// TestLimit: a member that asks too often is told so, and another one is not affected.
func TestLimit(t *testing.T) {
	t.Parallel()
	l := newLimiter(Rate{PerSecond: 0.001, Burst: 3})
	flood, other := types.NamespacedName{Namespace: "ns", Name: "flood"}, types.NamespacedName{Namespace: "ns", Name: "other"}
	refused := 0
	for range 1000 {
		if err := l.allow(flood, "Job ns/flood"); err != nil {
			refused++
			if want := "Job ns/flood asks more often than 0.001 times a second, 3 at once"; !strings.HasPrefix(err.Error(), want) {
				t.Fatalf("refused with %q, not %q", err, want)
			}
		}
	}
	if refused != 997 {
		t.Errorf("%d of 1000 requests were refused, not 997", refused)
	}
	if err := l.allow(other, "Job ns/other"); err != nil {
		t.Errorf("another member is refused: %v", err)
	}
	if err := newLimiter(Rate{}).allow(flood, "Job ns/flood"); err != nil {
		t.Errorf("refused without a limit: %v", err)
	}
}
