package ensemblefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// mapping reads the values of a YAML mapping by their keys, and adds what is wrong with them to the faults.
type mapping struct {
	path   *field.Path
	values map[string]*yaml.Node
	faults *field.ErrorList
}

// newMapping reads a mapping that may have the keys, nil when the node is something else.
func newMapping(path *field.Path, node *yaml.Node, faults *field.ErrorList, keys ...string) *mapping {
	if tagOf(node) != tagMapping {
		*faults = append(*faults, field.Invalid(path, shown(node), "must be a mapping, not "+kindOf(node)))
		return nil
	}
	var nodes map[string]yaml.Node
	if err := node.Decode(&nodes); err != nil {
		*faults = append(*faults, yamlFaults(path, err)...)
		return nil
	}
	m := &mapping{path: path, values: map[string]*yaml.Node{}, faults: faults}
	for i := 0; i < len(node.Content); i += 2 {
		// The YAML library reads over these keys.
		if tagOf(target(node.Content[i])) == tagNull {
			m.add(field.Forbidden(path.Key("null"), unknownKey(keys)))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(nodes)) {
		if !slices.Contains(keys, key) {
			m.add(field.Forbidden(m.child(key), unknownKey(keys)))
			continue
		}
		value := nodes[key]
		m.values[key] = target(&value)
	}
	return m
}

func unknownKey(keys []string) string {
	return "unknown key: the keys here are " + strings.Join(keys, ", ")
}

// target is the node that an alias stands for, or the node itself.
func target(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func (m *mapping) add(fault *field.Error) { *m.faults = append(*m.faults, fault) }

// plainKey is a key that can stand in a path as it is.
var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)

func (m *mapping) child(key string) *field.Path {
	if plainKey.MatchString(key) {
		return m.path.Child(key)
	}
	return m.path.Key(strconv.Quote(shorten(key)))
}

func (m *mapping) has(key string) bool { return m.values[key] != nil }

func (m *mapping) required(key, detail string) { m.add(field.Required(m.child(key), detail)) }

func (m *mapping) invalid(key string, node *yaml.Node, problem string) {
	m.add(field.Invalid(m.child(key), shown(node), problem))
}

func (m *mapping) wrongKind(key string, node *yaml.Node, right string) {
	problem := fmt.Sprintf("must be %s, not %s", right, kindOf(node))
	if right == "a string" && slices.Contains([]string{tagInt, tagFloat, tagBool, tagTimestamp}, tagOf(node)) {
		problem += "; put it in quotes"
	}
	m.invalid(key, node, problem)
}

// text reads a string. It is not ok when the key is missing, which is no fault, or the value is no string.
func (m *mapping) text(key string) (text string, ok bool) {
	node := m.values[key]
	if node == nil {
		return "", false
	}
	if tagOf(node) != tagString {
		m.wrongKind(key, node, "a string")
		return "", false
	}
	return node.Value, true
}

// requiredText reads a string that must be there and not be empty.
func (m *mapping) requiredText(key, detail string) (text string, ok bool) {
	text, ok = m.text(key)
	if !m.has(key) || ok && text == "" {
		m.required(key, detail)
		return "", false
	}
	return text, ok
}

// oneOf reads a string that must be there and be one of the choices.
func (m *mapping) oneOf(key string, choices []string) (text string, ok bool) {
	if !m.has(key) {
		m.required(key, "must be one of "+strings.Join(choices, ", "))
		return "", false
	}
	text, ok = m.text(key)
	if ok && !slices.Contains(choices, text) {
		m.add(field.NotSupported(m.child(key), shorten(text), choices))
		return "", false
	}
	return text, ok
}

// boolean reads true or false, or false when the key is missing.
func (m *mapping) boolean(key string) bool {
	node := m.values[key]
	if node == nil {
		return false
	}
	if tagOf(node) != tagBool {
		m.wrongKind(key, node, "true or false")
		return false
	}
	return trueScalar.MatchString(node.Value)
}

// integer reads a number that is whole and at least least, which is not negative, or the default when the key is missing.
func (m *mapping) integer(key string, least, missing int32) int32 {
	node := m.values[key]
	if node == nil {
		return missing
	}
	problem := fmt.Sprintf("must be a whole number from %d to %d", least, math.MaxInt32)
	switch tagOf(node) {
	case tagInt:
		number, err := parseInteger(node.Value)
		if err == nil && number >= 0 && number <= math.MaxInt32 && int32(number) >= least {
			return int32(number)
		}
	case tagFloat:
		problem += ", without a point"
	default:
		m.wrongKind(key, node, "a whole number")
		return missing
	}
	m.invalid(key, node, problem)
	return missing
}

// seconds reads a number that is not negative, or 0 when the key is missing.
func (m *mapping) seconds(key string) Seconds {
	node := m.values[key]
	if node == nil {
		return 0
	}
	if tag := tagOf(node); tag != tagInt && tag != tagFloat {
		m.wrongKind(key, node, "a number of seconds")
		return 0
	}
	number, problem := parseNumber(node)
	if problem == "" && number < 0 {
		problem = "must be a number of seconds, at least 0"
	}
	if problem != "" {
		m.invalid(key, node, problem)
		return 0
	}
	return Seconds(number)
}

// list reads a list that must be there; its items are nil when it is not.
func (m *mapping) list(key, detail string) []*yaml.Node {
	node := m.values[key]
	if node == nil {
		m.required(key, detail)
		return nil
	}
	if tagOf(node) != tagSequence {
		m.wrongKind(key, node, "a list")
		return nil
	}
	items := make([]*yaml.Node, 0, len(node.Content))
	for _, item := range node.Content {
		items = append(items, target(item))
	}
	return items
}

// parseInteger reads a whole number as YAML 1.1 writes it, but for those in base 60.
func parseInteger(text string) (int64, error) {
	return strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64)
}

// parseNumber reads a number that is finite. The problem says what would be right; it is empty when there is none.
func parseNumber(node *yaml.Node) (number float64, problem string) {
	if tagOf(node) == tagInt {
		if integer, err := parseInteger(node.Value); err == nil {
			return float64(integer), ""
		}
	}
	number, err := strconv.ParseFloat(strings.ReplaceAll(node.Value, "_", ""), 64)
	if err != nil || math.IsInf(number, 0) || math.IsNaN(number) {
		return 0, "must be a finite number in decimal digits"
	}
	return number, ""
}

// shown is the value of a node as an error shows it.
func shown(node *yaml.Node) any {
	if node.Kind != yaml.ScalarNode {
		return field.OmitValueType{}
	}
	switch tagOf(node) {
	case tagNull:
		return nil
	case tagBool:
		return trueScalar.MatchString(node.Value)
	case tagInt, tagFloat:
		// Shown as it was written, without quotes, also when JSON does not write a number so.
		return json.Number(shorten(node.Value))
	default:
		return shorten(node.Value)
	}
}

// shorten keeps a value that is quoted in an error readable.
func shorten(text string) string { return shortenTo(text, 60) }

func shortenTo(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
