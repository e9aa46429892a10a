package ensemblefile

import "strings"

// Words are the words of a command. They are split as Python's shlex does it, by the rules of a POSIX shell; nothing is expanded, and
// what Parse has accepted is split without a remainder.
func Words(command string) []string {
	words, _ := splitCommand(command)
	return words
}

// checkCommand says what is wrong with a command, or nothing. ensemble-python ends when a quote is not closed.
func checkCommand(command string) (problem string) {
	words, problem := splitCommand(command)
	if problem == "" && len(words) == 0 {
		return "must have at least one word"
	}
	return problem
}

func splitCommand(command string) (words []string, problem string) {
	var (
		word    strings.Builder
		in      bool // a word has begun, which may be empty, as '' is
		quote   rune
		escaped bool
	)
	for _, c := range command {
		switch {
		case escaped:
			// Between double quotes a backslash stands for itself, but before itself and the quote.
			if quote == '"' && c != '"' && c != '\\' {
				word.WriteRune('\\')
			}
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case strings.ContainsRune(" \t\r\n", c):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(c)
			in = true
		}
	}
	switch {
	case escaped:
		return words, `must not end with a single \`
	case quote != 0:
		return words, "must close the quote that it opens with " + string(quote)
	case in:
		words = append(words, word.String())
	}
	return words, ""
}
