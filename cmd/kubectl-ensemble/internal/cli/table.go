package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Cell is one cell of a table.
type Cell struct {
	// Text is what it says, in one line.
	Text string
	// Colour is empty for none.
	Colour Colour
}

// Table writes a table as kubectl does: three spaces between columns, which are as wide as what is in them.
func (e *Environment) Table(w io.Writer, head []string, rows [][]Cell) error {
	widths := make([]int, len(head))
	for i, title := range head {
		widths[i] = utf8.RuneCountInString(title)
	}
	for _, row := range rows {
		for i := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	var text strings.Builder
	line := func(row []Cell) {
		for i, cell := range row {
			colour := cell.Text
			if cell.Colour != "" {
				colour = e.Paint(cell.Colour, cell.Text)
			}
			text.WriteString(colour)
			if i < len(row)-1 {
				text.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.Text)+3))
			}
		}
		text.WriteString("\n")
	}
	titles := make([]Cell, len(head))
	for i, title := range head {
		titles[i] = Cell{Text: title}
	}
	line(titles)
	for _, row := range rows {
		line(row)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
