// Package figures prints what was measured: durations in order, and tables of them.
package figures

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Table is text in columns: the first is aligned to the left, the others, which are figures, to the right.
type Table struct {
	rows [][]string
}

// NewTable is a table with the titles of its columns.
func NewTable(head ...string) *Table {
	rule := make([]string, len(head))
	for i, title := range head {
		rule[i] = strings.Repeat("-", utf8.RuneCountInString(title))
	}
	return &Table{rows: [][]string{head, rule}}
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// String is the table as text.
func (t *Table) String() string {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + padding)
			} else {
				line.WriteString("  " + padding + cell)
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return out.String()
}

// Thousands is a number with its digits in threes.
func Thousands(n int) string {
	digits := strconv.Itoa(n)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Counted is a number of things in words.
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Thousands(n) + " " + what + "s"
}

// Milliseconds is a duration in milliseconds, to the microsecond.
func Milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.3f", d.Seconds()*1000)
}

// Rate is a number in a second, or nothing where it was not measured.
func Rate(perSecond float64) string {
	if perSecond == 0 {
		return ""
	}
	return Thousands(int(perSecond + 0.5))
}

// Mebibytes is a number of bytes in MiB.
func Mebibytes(bytes int64) string { return strconv.FormatInt((bytes+1<<19)>>20, 10) }
