package ensemblefile

import "strings"

// checkCommand says what is wrong with a command, or nothing. ensemble-python splits it as Python's shlex does,
// by the rules of a POSIX shell, and ends when a quote is not closed.
func checkCommand(command string) (problem string) {
	if strings.Trim(command, " \t\r\n") == "" {
		return "must have at least one word"
	}
	var quote rune
	escaped := false
	for _, c := range command {
		switch {
		case escaped:
			escaped = false
		case c == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		}
	}
	switch {
	case escaped:
		return `must not end with a single \`
	case quote != 0:
		return "must close the quote that it opens with " + string(quote)
	}
	return ""
}
