package docs

import (
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// instead has the words that are not used, and what is said in their place: one thing has one name.
var instead = map[string]string{
	`wish(es)?`:               "desired size",
	`gangs?`:                  "growth",
	`(least|greatest) sizes?`: "minimum or maximum size",
	`ma(de|ke|kes) anew`:      "recreate",
	`mend(s|ed|ing)?`:         "repair, or correct",
	`of (ours|yours)`:         "our, or your",
	`verdicts?|hopeless`:      "refusal, or permanent",
	`OtherDomain`:             "TopologyMismatch",
	`when-it-does-not-run`:    "troubleshooting",
}

// actors are words for nobody in particular. Pages, manifests and messages name who does something.
const actors, actorsByName = `somebody|whoever`, "who it is: the controller, a user, an administrator, another program"

// TestWords: pages use the words of the field, those of code apart.
func TestWords(t *testing.T) {
	t.Parallel()
	quoted := regexp.MustCompile("`[^`\n]*`")
	for _, page := range pages(t) {
		if filepath.Base(page) == "CHANGELOG.md" {
			continue // It says what is called otherwise now.
		}
		text := quoted.ReplaceAllString(prose(t, page), "``")
		for word, better := range withActors() {
			for _, at := range regexp.MustCompile(`(?i)\b(?:`+word+`)\b`).FindAllStringIndex(text, -1) {
				line := strings.Count(text[:at[0]], "\n")
				t.Errorf("%s, below %q: %q; say %s", page, lastHeading(text[:at[0]]), strings.Split(text, "\n")[line], better)
			}
		}
	}
}

func withActors() map[string]string {
	all := maps.Clone(instead)
	all[actors] = actorsByName
	return all
}

// lastHeading is the heading below which a text ends.
func lastHeading(text string) string {
	all := heading.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}
