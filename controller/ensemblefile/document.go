package ensemblefile

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxMappingKeys bounds the keys of one mapping. The YAML library compares each with every other one.
const maxMappingKeys = 1000

// document parses the text as one YAML document and returns its root, nil when there is a fault. The line of a
// fault is that of the text.
func document(text string, path *field.Path) (*yaml.Node, field.ErrorList) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, field.ErrorList{field.Required(path, "must be a mapping with jobs and rules")}
	} else if err != nil {
		return nil, yamlFaults(path, err)
	}
	switch err := decoder.Decode(new(yaml.Node)); {
	case err == nil:
		return nil, field.ErrorList{field.Invalid(path, field.OmitValueType{}, "must be one YAML document; there are more")}
	case !errors.Is(err, io.EOF):
		return nil, yamlFaults(path, err)
	}
	if line := wideMapping(&document); line > 0 {
		return nil, field.ErrorList{field.Invalid(path, field.OmitValueType{},
			fmt.Sprintf("line %d: a mapping must have at most %d keys", line, maxMappingKeys))}
	}
	// Decoding it all once finds keys that are there twice and aliases that contain themselves, and bounds what the
	// aliases of a small text may grow to.
	var all any
	if err := document.Decode(&all); err != nil {
		return nil, yamlFaults(path, err)
	}
	return document.Content[0], nil
}

// wideMapping returns the line of a mapping with too many keys, 0 when there is none.
func wideMapping(node *yaml.Node) (line int) {
	if node.Kind == yaml.MappingNode && len(node.Content)/2 > maxMappingKeys {
		return node.Line
	}
	for _, child := range node.Content {
		if line := wideMapping(child); line > 0 {
			return line
		}
	}
	return 0
}

// yamlFaults are the faults that the YAML library has found.
func yamlFaults(path *field.Path, err error) field.ErrorList {
	found := []string{countFromOne(strings.TrimPrefix(err.Error(), "yaml: "))}
	if several := (*yaml.TypeError)(nil); errors.As(err, &several) {
		found = several.Errors
	}
	var faults field.ErrorList
	for _, fault := range found {
		faults = append(faults, field.Invalid(path, field.OmitValueType{}, "must be YAML: "+shortenTo(fault, 200)))
	}
	return faults
}

// grammarFault is a fault that the YAML library finds above the level of tokens: it counts the lines of those, and
// only of those, from 0.
var grammarFault = regexp.MustCompile(`^line ([0-9]+): (did not find expected (?:key|node content|'-' indicator|',' or '.'|<).*)$`)

// countFromOne puts the line of a fault right.
func countFromOne(fault string) string {
	parts := grammarFault.FindStringSubmatch(fault)
	if parts == nil {
		return fault
	}
	line, err := strconv.Atoi(parts[1])
	if err != nil {
		return fault
	}
	return fmt.Sprintf("line %d: %s", line+1, parts[2])
}

// The tags of YAML's types.
const (
	tagString    = "!!str"
	tagInt       = "!!int"
	tagFloat     = "!!float"
	tagBool      = "!!bool"
	tagNull      = "!!null"
	tagTimestamp = "!!timestamp"
	tagMapping   = "!!map"
	tagSequence  = "!!seq"
)

// The scalars that PyYAML does not take for strings when they stand without quotes: the types of YAML 1.1
// (https://yaml.org/type/), but a float has a point, and its exponent a sign.
var (
	nullScalar  = regexp.MustCompile(`^(~|null|Null|NULL|)$`)
	boolScalar  = regexp.MustCompile(`^(yes|Yes|YES|true|True|TRUE|on|On|ON|no|No|NO|false|False|FALSE|off|Off|OFF)$`)
	trueScalar  = regexp.MustCompile(`^(?i:yes|true|on)$`)
	intScalar   = regexp.MustCompile(`^[-+]?(0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*(:[0-5]?[0-9])*)$`)
	floatScalar = regexp.MustCompile(`^([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|` +
		`[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
	timestampScalar = regexp.MustCompile(`^[0-9]{4}(-[0-9]{2}-[0-9]{2}|` +
		`-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}` +
		`(\.[0-9]*)?([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?)$`)
)

// tagOf returns the tag that PyYAML gives a node.
func tagOf(node *yaml.Node) string {
	plain := node.Style&(yaml.TaggedStyle|yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if node.Kind != yaml.ScalarNode || !plain {
		return node.ShortTag()
	}
	switch text := node.Value; {
	case nullScalar.MatchString(text):
		return tagNull
	case boolScalar.MatchString(text):
		return tagBool
	case intScalar.MatchString(text):
		return tagInt
	case floatScalar.MatchString(text):
		return tagFloat
	case timestampScalar.MatchString(text):
		return tagTimestamp
	default:
		return tagString
	}
}

// kindOf names what a node is in an error.
func kindOf(node *yaml.Node) string {
	switch tag := tagOf(node); tag {
	case tagString:
		return "a string"
	case tagInt, tagFloat:
		return "a number"
	case tagBool:
		return "a boolean"
	case tagNull:
		return "null"
	case tagTimestamp:
		return "a date"
	case tagMapping:
		return "a mapping"
	case tagSequence:
		return "a list"
	default:
		return shorten(tag)
	}
}
