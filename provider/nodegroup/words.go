package nodegroup

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Pluralize chooses the words for a count; a %d in them is the count.
func Pluralize(count int, one, many string) string {
	words := many
	if count == 1 {
		words = one
	}
	return strings.ReplaceAll(words, "%d", strconv.Itoa(count))
}

// Listed names the first few of a list and counts the rest: a message has to stay readable.
func Listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// formatTime is a moment as messages have it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
