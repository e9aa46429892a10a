package ensemblefile

import (
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
)

// pythonText is the text that defines the functions of custom actions. Which it really defines only Python knows;
// a function whose name is nowhere in the text is not among them.
type pythonText struct {
	// readable is not set when the text could not be read: then nothing is known of it.
	readable bool
	empty    bool
	// words are all the names in the text, in code, comments and strings alike.
	words sets.Set[string]
	// importsAll is set when the text has an import that may define any name.
	importsAll bool
}

var (
	pythonName = regexp.MustCompile(`[\p{L}_][\p{L}\p{N}_]*`)
	importAll  = regexp.MustCompile(`\bimport\s*\*`)
)

func newPythonText(text string, readable bool) pythonText {
	return pythonText{
		readable:   readable,
		empty:      strings.TrimSpace(text) == "",
		words:      sets.New(pythonName.FindAllString(text, -1)...),
		importsAll: importAll.MatchString(text),
	}
}

// checkFunction says what is wrong with the name of a function, or nothing.
func (p *pythonText) checkFunction(name string) (problem string) {
	switch {
	case pythonName.FindString(name) != name:
		return "must be the name of a Python function"
	case !p.readable || p.importsAll || p.words.Has(name):
		return ""
	case p.empty:
		return "must name a function that custom defines, and this file has no custom"
	default:
		return "must name a function that custom defines, and custom does not have this one"
	}
}
