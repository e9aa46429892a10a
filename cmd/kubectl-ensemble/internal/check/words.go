package check

import (
	"fmt"
	"io"
	"strings"
)

// Paint marks a text by a severity, as colours do on a terminal.
type Paint func(Severity, string) string

// Write prints a report for people: each finding with its remedy, then what was not looked at, then how many findings there are.
func Write(w io.Writer, r *Report, paint Paint) error {
	var text strings.Builder
	for i := range r.Findings {
		f := &r.Findings[i]
		fmt.Fprintf(&text, "%s %s: %s\n    %s\n", paint(f.Severity, strings.ToUpper(string(f.Severity))), f.Object, f.Reason, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(&text, "    Remedy: %s\n", f.Remedy)
		}
	}
	for i := range r.Unknown {
		fmt.Fprintf(&text, "UNKNOWN %s: you have %s\n", r.Unknown[i].What, r.Unknown[i].Gap)
	}
	counts := map[Severity]int{}
	for i := range r.Findings {
		counts[r.Findings[i].Severity]++
	}
	fmt.Fprintf(
		&text, "Checked %s: %s, %s", strings.Join(r.Checked, ", "), pluralize(counts[Error], "error"), pluralize(counts[Warning], "warning"),
	)
	if len(r.Unknown) > 0 {
		fmt.Fprintf(&text, ", %d unknown for want of rights", len(r.Unknown))
	}
	text.WriteString("\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// pluralize is a number with a word for what it counts.
func pluralize(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
