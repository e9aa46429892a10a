package whatif

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// maxLeaves is how many of the ranks that leave are named in the table.
const maxLeaves = 8

// Write prints an answer for people: what becomes of it first, then the pools, then what else is to be known.
func Write(w io.Writer, a *Answer, wide bool) error {
	var text strings.Builder
	text.WriteString(a.sentence() + "\n\n")
	table := tabwriter.NewWriter(&text, 0, 8, 3, ' ', 0)
	head := "POOL\tNOW\tTHEN\tTHERE\tTO ORDER\tPRICE/HOUR\tREADY"
	if wide {
		head += "\tMEASURED"
	}
	// A tabwriter over a strings.Builder does not fail.
	_, _ = fmt.Fprintln(table, head)
	for i := range a.Pools {
		p := &a.Pools[i]
		row := fmt.Sprintf(
			"%s\t%d\t%d\t%d\t%d\t%s\t%s", p.Name, p.Before, p.After, p.Held, p.Order, orElse(p.PricePerHour, "none declared"),
			orElse(p.ReadyIn, "-"),
		)
		if wide {
			row += fmt.Sprintf("\t%d machines", p.Measured.Machines)
		}
		_, _ = fmt.Fprintln(table, row)
	}
	_ = table.Flush()
	a.writeRefusals(&text)
	a.writePrice(&text)
	a.writeLeaves(&text)
	for _, o := range a.Others {
		fmt.Fprintf(&text, "\n%s is concerned: %s\n", o.Member, o.Message)
	}
	for i := range a.MissingRights {
		fmt.Fprintf(&text, "\nNot known, for you have %s: %s\n", &a.MissingRights[i], a.MissingRights[i].Without)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// sentence says what becomes of it, a clamp first.
func (a *Answer) sentence() string {
	var parts []string
	if a.Limited != "" {
		parts = append(parts, a.Limited)
	}
	switch a.Outcome {
	case Granted:
		parts = append(parts, fmt.Sprintf("%s would get size %d: %s", a.Member, a.Asked, a.Message))
	case Refused:
		parts = append(parts, fmt.Sprintf("%s would wait for size %d (%s): %s", a.Member, a.Asked, a.Reason, a.Message))
	case Shrinks:
		parts = append(parts, fmt.Sprintf("%s would shrink from %d to %d; the highest ranks leave", a.Member, a.Size, a.Asked))
	case Unchanged:
		parts = append(parts, fmt.Sprintf("nothing would change for %s: %s", a.Member, a.Message))
	}
	if a.Ready != "" {
		parts = append(parts, "Ready "+a.Ready)
	}
	return strings.Join(parts, "; ")
}

func (a *Answer) writeRefusals(text *strings.Builder) {
	for i := range a.Pools {
		if p := &a.Pools[i]; p.Refusal != "" {
			fmt.Fprintf(text, "\n%s alone does not grant it: %s\n", p.Name, p.Refusal)
		}
	}
}

func (a *Answer) writePrice(text *strings.Builder) {
	switch {
	case a.Outcome == Refused, a.Outcome == Unchanged:
	case len(a.Unpriced) > 0:
		fmt.Fprintf(text, "\nNo price is declared for %s (spec.pricePerHour of the NodePool).\n", strings.Join(a.Unpriced, ", "))
	case a.PricePerHour == "0":
		text.WriteString("\nIts nodes then cost as much as now.\n")
	case strings.HasPrefix(a.PricePerHour, "-"):
		fmt.Fprintf(text, "\nIts nodes then cost %s less an hour.\n", strings.TrimPrefix(a.PricePerHour, "-"))
	default:
		fmt.Fprintf(text, "\nIts nodes then cost %s more an hour.\n", a.PricePerHour)
	}
}

func (a *Answer) writeLeaves(text *strings.Builder) {
	if len(a.Leaves) == 0 {
		return
	}
	var words []string
	for _, l := range a.Leaves[:min(len(a.Leaves), maxLeaves)] {
		words = append(words, fmt.Sprintf("%d on %s", l.Rank, l.Node))
	}
	if more := len(a.Leaves) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	fmt.Fprintf(text, "\nRanks that leave: %s\n", strings.Join(words, ", "))
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
