package docs

import (
	"strings"
	"testing"
)

// TestGlossary: it has the words that the code turns on.
func TestGlossary(t *testing.T) {
	t.Parallel()
	text := string(read(t, "docs/glossary.md"))
	for _, word := range []string{
		"reserve", "claim", "grant", "hold", "occupy", "free", "release", "retire", "cancel", "give up", "warm", "floor", "target", "allotment",
		"entitled", "drain", "launch", "order",
	} {
		if strings.Count(text, "| **"+word+"** |") != 1 {
			t.Errorf("the glossary does not have %q once", word)
		}
	}
}
