package minicluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Template is a MiniCluster as somebody has written it into another object, of which the spec is used.
type Template struct {
	spec map[string]any
	// Size, MinSize and MaxSize are those that a MiniCluster of it begins with: 0 for a size is 1, and for a maxSize the
	// size.
	Size, MinSize, MaxSize int64
	// Cleanup is set when the Flux Operator deletes the MiniCluster at its end.
	Cleanup bool
	// Unused are the paths of fields that are there and have no effect.
	Unused []string
}

// ParseTemplate reads a template. The errors have paths below base.
func ParseTemplate(raw []byte, base *field.Path) (*Template, field.ErrorList) {
	var object map[string]any
	if len(raw) == 0 || json.Unmarshal(raw, &object) != nil {
		return nil, field.ErrorList{field.Required(base, "it must be a MiniCluster, of which spec is used")}
	}
	t := &Template{}
	at := base.Child("spec")
	var is bool
	if t.spec, is = object["spec"].(map[string]any); !is {
		return nil, field.ErrorList{field.Required(at, "it must be the spec of a MiniCluster")}
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if key != "spec" {
			t.Unused = append(t.Unused, base.Child(key).String())
		}
	}
	t.Cleanup, _ = t.spec["cleanup"].(bool)
	return t, append(t.parseSizes(at), t.parseContainers(at.Child("containers"))...)
}

func (t *Template) parseSizes(at *field.Path) (faults field.ErrorList) {
	for _, size := range []struct {
		name string
		into *int64
	}{{"size", &t.Size}, {"minSize", &t.MinSize}, {"maxSize", &t.MaxSize}} {
		value, has := t.spec[size.name]
		if !has {
			continue
		}
		number, is := value.(float64)
		if !is || number != float64(int32(number)) || number < 0 {
			faults = append(faults, field.Invalid(at.Child(size.name), value, "must be a whole number of at least 0"))
			continue
		}
		*size.into = int64(number)
	}
	if len(faults) > 0 {
		return faults
	}
	t.Size = max(t.Size, 1)
	if t.MaxSize == 0 {
		t.MaxSize = t.Size
	}
	if t.Size > t.MaxSize {
		faults = append(faults, field.Invalid(at.Child("size"), t.Size, fmt.Sprintf("must be at most maxSize, which is %d", t.MaxSize)))
	}
	if t.Size < t.MinSize {
		faults = append(faults, field.Invalid(at.Child("size"), t.Size, fmt.Sprintf("must be at least minSize, which is %d", t.MinSize)))
	}
	return faults
}

func (t *Template) parseContainers(at *field.Path) field.ErrorList {
	containers, _ := t.spec["containers"].([]any)
	if len(containers) == 0 {
		return field.ErrorList{field.Required(at, "the first container is the one that the ensemble runs in")}
	}
	first, is := containers[0].(map[string]any)
	if image, _ := first["image"].(string); !is || image == "" {
		return field.ErrorList{field.Required(at.Index(0).Child("image"), "it must be an image with Flux or one that Flux can be added to")}
	}
	if _, has := first["command"]; has {
		t.Unused = append(t.Unused, at.Index(0).Child("command").String())
	}
	if network, is := t.spec["network"].(map[string]any); is && network["headlessName"] != nil {
		t.Unused = append(t.Unused, strings.TrimSuffix(at.String(), "containers")+"network.headlessName")
	}
	return nil
}

// Entrypoint is what the first container of a MiniCluster is to do.
type Entrypoint struct {
	// Install are commands to run before all others, Command is the one that runs under Flux.
	Install, Command string
	// ConfigMap is mounted at Path, with the one file of the name.
	ConfigMap, Path, File string
	// HeadlessName is that of the Service by which the pods find each other.
	HeadlessName string
}

// Build makes a MiniCluster of a template, without a name. What the user has put beside what the entrypoint needs stays:
// volumes, environment, resources, and commands, of which those to be run first come after the installation.
func (t *Template) Build(e *Entrypoint) *unstructured.Unstructured {
	spec, _ := runtimeCopy(t.spec).(map[string]any)
	spec["size"], spec["maxSize"] = t.Size, t.MaxSize
	nested(spec, "network")["headlessName"] = e.HeadlessName
	// ParseTemplate has seen them.
	containers, _ := spec["containers"].([]any)
	first, _ := containers[0].(map[string]any)
	first["runFlux"], first["launcher"], first["command"] = true, true, e.Command
	nested(first, "volumes")[e.ConfigMap] = map[string]any{
		"configMapName": e.ConfigMap, "path": e.Path, "items": map[string]any{e.File: e.File},
	}
	commands := nested(first, "commands")
	if pre, _ := commands["pre"].(string); pre != "" {
		commands["pre"] = e.Install + pre
	} else {
		commands["pre"] = e.Install
	}
	u := New()
	u.Object["spec"] = spec
	return u
}

// Parts are the fields of a template that a MiniCluster keeps as it was created with them, each in JSON. minSize is not
// among them: the Flux Operator reads it again.
func (t *Template) Parts() (map[string][]byte, error) {
	parts := map[string][]byte{}
	for name, value := range t.spec {
		if name == "minSize" {
			continue
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		parts[name] = encoded
	}
	return parts, nil
}

// nested is the object at a key, which is made where there is none.
func nested(object map[string]any, key string) map[string]any {
	inner, is := object[key].(map[string]any)
	if !is {
		inner = map[string]any{}
		object[key] = inner
	}
	return inner
}

// runtimeCopy is a deep copy of what came from JSON, with the whole numbers that unstructured objects have.
func runtimeCopy(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(value))
		for key, inner := range value {
			out[key] = runtimeCopy(inner)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i := range value {
			out[i] = runtimeCopy(value[i])
		}
		return out
	case float64:
		if whole := int64(value); float64(whole) == value {
			return whole
		}
		return value
	default:
		return value
	}
}
