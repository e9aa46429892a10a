package upgrade

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// schema is what a definition says of a value.
type schema = apiextensionsv1.JSONSchemaProps

// open is true where anything may be: what it has is nobody's business here.
func open(s *schema) bool {
	return s == nil || s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields
}

// items is the schema of the items of a list, or of the values of a map, and nil for other values.
func items(s *schema) *schema {
	switch {
	case s.Items != nil:
		return s.Items.Schema
	case s.AdditionalProperties != nil:
		return s.AdditionalProperties.Schema
	}
	return nil
}

// unset are the fields of a schema that a value does not have; of a list it is enough that one item has them.
func unset(s *schema, value any, path string) []string {
	if open(s) {
		return nil
	}
	var missing []string
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			inner := s.Properties[name]
			if got, has := value[name]; has {
				missing = append(missing, unset(&inner, got, path+"."+name)...)
			} else {
				missing = append(missing, path+"."+name)
			}
		}
	case []any:
		// What all of them lack.
		for i, item := range value {
			lacks := unset(items(s), item, path+"[]")
			if i == 0 {
				missing = lacks
			}
			missing = slices.DeleteFunc(missing, func(name string) bool { return !slices.Contains(lacks, name) })
		}
	}
	return missing
}

// prune leaves of a value what a schema knows, as a program does that was built when there was no more.
func prune(s *schema, value any) any {
	if open(s) {
		return value
	}
	switch value := value.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name, inner := range value {
			if property, has := s.Properties[name]; has {
				kept[name] = prune(&property, inner)
			} else if values := items(s); values != nil {
				kept[name] = prune(values, inner)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(value))
		for i := range value {
			kept[i] = prune(items(s), value[i])
		}
		return kept
	}
	return value
}

// differences compares a value with what it was: nothing may be gone or changed, and what has been added has to be a default
// of a field that was not there in the schema before.
func differences(was, is any, before, now *schema, path string) []string {
	var found []string
	switch was := was.(type) {
	case map[string]any:
		is, same := is.(map[string]any)
		if !same {
			return []string{fmt.Sprintf("%s is %v", path, is)}
		}
		for _, name := range slices.Sorted(maps.Keys(was)) {
			if got, has := is[name]; has {
				found = append(found, differences(was[name], got, property(before, name), property(now, name), path+"."+name)...)
			} else {
				found = append(found, fmt.Sprintf("%s.%s is gone: it was %v", path, name, was[name]))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(is)) {
			if _, had := was[name]; had {
				continue
			}
			added := property(now, name)
			switch {
			case property(before, name) != nil:
				found = append(found, fmt.Sprintf("%s.%s was not set and is %v", path, name, is[name]))
			case added == nil || added.Default == nil:
				found = append(found, fmt.Sprintf("%s.%s is new and no default: %v", path, name, is[name]))
			}
		}
	case []any:
		is, same := is.([]any)
		if !same || len(is) != len(was) {
			return []string{fmt.Sprintf("%s was %v and is %v", path, was, is)}
		}
		for i := range was {
			found = append(found, differences(was[i], is[i], property(before, ""), property(now, ""), fmt.Sprintf("%s[%d]", path, i))...)
		}
	default:
		if !reflect.DeepEqual(was, is) {
			found = append(found, fmt.Sprintf("%s was %v and is %v", path, was, is))
		}
	}
	return found
}

// property is the schema of a field, or of the items; nil where there is none.
func property(s *schema, name string) *schema {
	if s == nil {
		return nil
	}
	if inner, has := s.Properties[name]; has {
		return &inner
	}
	return items(s)
}

// addition is a field that a definition did not have before, in a place that an object has.
type addition struct {
	path  string
	field *schema
	set   func(any)
}

// additions are those in a value.
func additions(before, now *schema, value any, path string) []addition {
	if open(before) || open(now) {
		return nil
	}
	var found []addition
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(now.Properties)) {
			if _, had := before.Properties[name]; !had {
				field := now.Properties[name]
				found = append(found, addition{path + "." + name, &field, func(v any) { value[name] = v }})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if inner := property(before, name); inner != nil {
				found = append(found, additions(inner, property(now, name), value[name], path+"."+name)...)
			}
		}
	case []any:
		for i := range value {
			found = append(found, additions(items(before), items(now), value[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return found
}

// sample is a value that a schema allows. Where rules want more than it knows of, TestUpgrade says so.
func sample(s *schema) any {
	switch {
	case len(s.Enum) > 0:
		return decoded(s.Enum[len(s.Enum)-1].Raw)
	case s.Format == "date-time":
		return "2026-11-25T10:00:00.000000Z"
	case s.Type == "string" && slices.ContainsFunc(
		s.XValidations, func(r apiextensionsv1.ValidationRule) bool { return strings.Contains(r.Rule, "(ns|us|ms|s|m|h)") },
	):
		return "90s"
	case s.Type == "string":
		return "example"
	case s.Type == "integer":
		if s.Minimum != nil {
			return int64(*s.Minimum) + 1
		}
		return int64(1)
	case s.Type == "boolean":
		return true
	case s.Type == "array":
		return []any{sample(s.Items.Schema)}
	case s.Type == "object" && len(s.Properties) == 0:
		if values := items(s); values != nil {
			return map[string]any{"example": sample(values)}
		}
	}
	fields := map[string]any{}
	for name, field := range s.Properties {
		fields[name] = sample(&field)
	}
	return fields
}
