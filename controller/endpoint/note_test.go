package endpoint

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestNoteOf: what an event says is as long as the API server takes, and no character is cut in two.
func TestNoteOf(t *testing.T) {
	t.Parallel()
	if got := noteOf("%s by %s", "grow", "pod ns/p"); got != "grow by pod ns/p" {
		t.Error(got)
	}
	for length := 1000; length < 1030; length++ {
		text := strings.Repeat("a", length%7) + strings.Repeat("é", length/2)
		got := noteOf("%s", text)
		if len(got) > 1024 || !utf8.ValidString(got) || (len(text) <= 1024) != (got == text) || (got != text && !strings.HasSuffix(got, "…")) {
			t.Errorf("of %d bytes %d are left: %q", len(text), len(got), got[max(0, len(got)-10):])
		}
	}
}
