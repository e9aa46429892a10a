package ensemblefile

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Comparison is how a metric is compared with the number of a condition.
type Comparison string

// The comparisons of a condition.
const (
	Equal          Comparison = "=="
	Less           Comparison = "<"
	LessOrEqual    Comparison = "<="
	Greater        Comparison = ">"
	GreaterOrEqual Comparison = ">="
)

// When is the condition under which the update of a metric triggers a rule. In the file it is a number, which
// the metric has to equal, or a comparison such as "> 5".
type When struct {
	Comparison Comparison
	// Number is in seconds for times, and a count for counts.
	Number float64
}

// MarshalYAML writes the condition as it stands in a file.
func (w When) MarshalYAML() (any, error) {
	if w.Comparison == Equal {
		return numberNode(w.Number), nil
	}
	return string(w.Comparison) + " " + strconv.FormatFloat(w.Number, 'f', -1, 64), nil
}

// comparison is what ensemble-python understands of a comparison, and nothing around it: it would search for
// one in any text. A fraction of zero is let pass.
var comparison = regexp.MustCompile(`^\s*([<>]=?)\s*([0-9]+)(\.[0-9]*)?\s*$`)

// parseComparison reads a condition that is a string. The problem says what would be right; it is empty when
// there is none.
func parseComparison(runner Runner, text string) (when When, problem string) {
	parts := comparison.FindStringSubmatch(text)
	if parts == nil {
		return When{}, `must be a number, or a comparison with one: "> 5", ">= 5", "< 5", "<= 5"`
	}
	if runner == EnsemblePython && strings.Trim(parts[3], ".0") != "" {
		return When{}, "must compare with a whole number: ensemble-python reads it up to the point"
	}
	number, err := strconv.ParseFloat(parts[2]+parts[3], 64)
	if err != nil {
		return When{}, "must compare with a smaller number"
	}
	return When{Comparison: Comparison(parts[1]), Number: number}, ""
}

// when reads the condition of a rule, nil if it has none.
func (m *mapping) when(runner Runner, key string) *When {
	node, has := m.values[key]
	if !has {
		return nil
	}
	switch tagOf(node) {
	case tagInt, tagFloat:
		number, problem := parseNumber(node)
		if problem == "" && number < 0 {
			problem = "must be at least 0: no metric is less"
		}
		if problem != "" {
			m.invalid(key, node, problem)
			return nil
		}
		return &When{Comparison: Equal, Number: number}
	case tagString:
		when, problem := parseComparison(runner, node.Value)
		if problem != "" {
			m.invalid(key, node, problem)
			return nil
		}
		return &when
	default:
		m.wrongKind(key, node, "a number or a comparison")
		return nil
	}
}

var _, _ yaml.Marshaler = When{}, Seconds(0)
