package ensemblefile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// TestHostileTextsAreAnswered has texts that grow when they are read, or that are cheap to write and dear to read.
// Those without a bound would take hours, or all memory.
func TestHostileTextsAreAnswered(t *testing.T) {
	t.Parallel()
	// laughs has levels of anchors, each with ten times what the one before has.
	laughs := func(first, alias, format string) string {
		var text strings.Builder
		fmt.Fprintf(&text, "l0: &l0 %s\n", first)
		for level := 1; level < 12; level++ {
			aliases := strings.Repeat(fmt.Sprintf(alias, level-1)+", ", 10)
			fmt.Fprintf(&text, "l%d: &l%d "+format+"\n", level, level, strings.TrimSuffix(aliases, ", "))
		}
		return text.String()
	}
	wide := strings.Builder{}
	for i := range 60_000 {
		fmt.Fprintf(&wide, "k%d:\n", i)
	}
	some := ""
	for i := range 1000 {
		some += fmt.Sprintf("k%d: 1, ", i)
	}
	var words strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&words, "w%d ", i)
	}
	for name, row := range map[string]struct {
		text string
		// want is in the first fault.
		want string
	}{
		"aliases of aliases": {laughs("[lol]", "*l%d", "[%s]") + jobs + noRules, "must be YAML: document contains excessive aliasing"},
		"merges of merges": {
			laughs("{a: b}", "*l%d", "{<<: [%s]}") + jobs + noRules, "must be YAML: document contains excessive aliasing",
		},
		"jobs by aliases": {
			repeated("jobs:\n- &a {name: a, command: run, x: [1,1,1,1,1,1,1,1,1]}\n", "- *a\n", noRules), ".jobs[0].x: Forbidden: unknown key",
		},
		"merges of a wide mapping": {repeated("jobs:\n- &w {"+strings.TrimSuffix(some, ", ")+"}\n", "- <<: *w\n", noRules), "excessive aliasing"},
		"deep lists":               {repeated("jobs: ", "[", ""), "must be YAML"},
		"deep mappings":            {repeated("jobs: ", "{a: ", ""), "must be YAML"},
		"a wide mapping":           {wide.String(), "line 1: a mapping must have at most 1000 keys"},
		"faulty jobs":              {repeated("jobs:\n", "- {}\n", noRules), ".jobs[0].name: Required value"},
		"faulty rules":             {repeated(jobs+"rules:\n", "- \n", ""), ".rules[0]: Invalid value: null"},
		"many unknown labels": {
			repeated(jobs+"rules:\n", "- {trigger: start, action: {name: submit, label: c}}\n", ""),
			".rules[0].action.label: Invalid value: \"c\"",
		},
		"many unknown functions": {
			repeated(jobs+"custom: "+words.String()+"\nrules:\n", "- {trigger: start, action: {name: custom, label: f}}\n", ""),
			".rules[0].action.label: Invalid value: \"f\"",
		},
		"a long key": {"jobs: []\nrules: []\n" + strings.Repeat("k", 1000) + ": 1\n", `["` + strings.Repeat("k", 60) + `..."]: Forbidden`},
		"a long value": {
			rule("trigger: " + strings.Repeat("t", 100_000) + ", " + terminal), strings.Repeat("t", 60) + `...": supported values`,
		},
		"a long command": {repeated("jobs: [{name: a, command: \"x", "'", "'\"}]\n"+noRules), "must close the quote"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			answer := make(chan field.ErrorList, 1)
			go func() {
				_, faults := ensemblefile.Parse(row.text, base)
				answer <- faults
			}()
			var faults field.ErrorList
			select {
			case faults = <-answer:
			case <-ctx.Done():
				t.Fatalf("%d bytes are not read within a minute", len(row.text))
			}
			if len(faults) == 0 || !strings.Contains(faults[0].Error(), row.want) {
				t.Fatalf("there are %d faults, the first %.500v; want %q in it", len(faults), faults[:min(1, len(faults))], row.want)
			}
			if len(faults) > 101 {
				t.Errorf("there are %d faults", len(faults))
			}
			for _, fault := range faults {
				if len(fault.Error()) > 1000 {
					t.Errorf("a fault has %d bytes: %.200s...", len(fault.Error()), fault.Error())
				}
			}
		})
	}
}

// repeated is a text with so many of an item that it is long.
func repeated(before, item, after string) string {
	return before + strings.Repeat(item, (64<<10)/len(item)) + after
}

func TestManyFaultsStopTheSearch(t *testing.T) {
	t.Parallel()
	_, faults := parse("jobs: [" + strings.Repeat("a, ", 150) + "]\n" + noRules)
	if len(faults) != 101 {
		t.Fatalf("there are %d faults, want 101", len(faults))
	}
	if want := ": Invalid value: has more than these 100 faults"; faults[100] != want {
		t.Errorf("the last is %q, want %q", faults[100], want)
	}
}

func TestTheLongestTextIsRead(t *testing.T) {
	t.Parallel()
	text := jobs + noRules
	accepted(t, text+strings.Repeat("#", ensemblefile.MaxBytes-len(text)))
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{
		"example": read(b, "grow.yaml"),
		"longest": jobs + "rules:\n" + strings.Repeat("- {trigger: start, action: {name: submit, label: a}}\n", 9_800),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, faults := ensemblefile.Parse(text, base); len(faults) > 0 {
					b.Fatal(faults)
				}
			}
		})
	}
}
