package explain

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

// clock is a point in time as all messages of the product have it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ago is how long before now something was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return duration.HumanDuration(max(0, now.Sub(t))) + " ago"
}

// plural is a number with the word for one or for many.
func plural(n int32, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// listed names the first few of a list and counts the rest.
func listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
