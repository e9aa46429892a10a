package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// table is text in columns: the first is aligned to the left, the others, which are figures, to the right.
type table struct {
	rows [][]string
}

func newTable(head ...string) *table {
	rule := make([]string, len(head))
	for i, title := range head {
		rule[i] = strings.Repeat("-", utf8.RuneCountInString(title))
	}
	return &table{rows: [][]string{head, rule}}
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
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

// thousands is a number with its digits in threes.
func thousands(n int) string {
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

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// milliseconds is a duration in milliseconds, to the microsecond.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.3f", d.Seconds()*1000)
}

// rate is a number in a second, or nothing where it was not measured.
func rate(perSecond float64) string {
	if perSecond == 0 {
		return ""
	}
	return thousands(int(perSecond + 0.5))
}

// mebibytes is a number of bytes in MiB.
func mebibytes(bytes int64) string { return strconv.FormatInt((bytes+1<<19)>>20, 10) }
