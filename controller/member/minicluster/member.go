package minicluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Template is a MiniCluster as somebody has written it into another object, of which the spec is used.
type Template struct {
	spec map[string]any
	// Size, MinSize and MaxSize are those of the spec: 0 for a size is 1, and for a maxSize the size. A minSize can be
	// above the size: it may be raised while a MiniCluster is there, and the size, with which one begins, may not.
	Size, MinSize, MaxSize int64
	// HeadlessName is that of the Service by which the pods are to find each other, empty where the spec names none.
	HeadlessName string
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
	return t, slices.Concat(t.parseSizes(at), t.parseNetwork(at.Child("network")), t.parseContainers(at.Child("containers")))
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
	if t.MinSize > t.MaxSize {
		faults = append(faults, field.Invalid(at.Child("minSize"), t.MinSize, fmt.Sprintf("must be at most maxSize, which is %d", t.MaxSize)))
	}
	return faults
}

// FirstSize is the size that a MiniCluster begins with. The Flux Operator ignores one below its minSize without a sign.
func (t *Template) FirstSize() int64 { return max(t.Size, t.MinSize) }

func (t *Template) parseNetwork(at *field.Path) field.ErrorList {
	network, _ := t.spec["network"].(map[string]any)
	value := network["headlessName"]
	if value == nil || value == "" {
		return nil
	}
	name, is := value.(string)
	if !is || len(validation.IsDNS1123Label(name)) > 0 {
		return field.ErrorList{field.Invalid(at.Child("headlessName"), value, "must be the name of a Service")}
	}
	t.HeadlessName = name
	return nil
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
	return cancelled(containers, at)
}

// cancelled finds what makes the Flux Operator cancel a MiniCluster whose first container runs a command under Flux, with
// nothing but a line in its log.
func cancelled(containers []any, at *field.Path) (faults field.ErrorList) {
	first, _ := containers[0].(map[string]any)
	if commands, is := first["commands"].(map[string]any); is && commands["script"] != nil && commands["script"] != "" {
		faults = append(
			faults,
			field.Forbidden(
				at.Index(0).Child("commands", "script"),
				"the first container runs the ensemble, and the Flux Operator takes no script beside that command",
			),
		)
	}
	if first["batch"] == true {
		faults = append(
			faults, field.Forbidden(at.Index(0).Child("batch"), "the first container runs the ensemble, which submits the jobs itself"),
		)
	}
	for i, container := range containers[1:] {
		beside, _ := container.(map[string]any)
		if beside["runFlux"] == true {
			faults = append(
				faults, field.Forbidden(at.Index(i+1).Child("runFlux"), "the first container is the one that runs Flux, and there can be one only"),
			)
		}
		if name, _ := beside["name"].(string); name == "" {
			faults = append(
				faults, field.Required(at.Index(i+1).Child("name"), "the Flux Operator needs the name of a container that does not run Flux"),
			)
		}
	}
	return faults
}

// Entrypoint is what the first container of a MiniCluster is to do.
type Entrypoint struct {
	// Install are commands to run before all others, Command is the one that runs under Flux.
	Install, Command string
	// ConfigMap is mounted at Path, with the one file of the name.
	ConfigMap, Path, File string
	// HeadlessName is that of the Service by which the pods find each other, where the template names none. No other
	// MiniCluster may have it: the Flux Operator makes the Service for the pods of the first one, and leaves it so.
	HeadlessName string
}

// Build makes a MiniCluster of a template, without a name. What the user has put beside what the entrypoint needs stays:
// volumes, environment, resources, and commands, of which those to be run first come after the installation.
func (t *Template) Build(e *Entrypoint) *unstructured.Unstructured {
	spec, _ := runtimeCopy(t.spec).(map[string]any)
	spec["size"], spec["maxSize"] = t.FirstSize(), t.MaxSize
	nested(spec, "network")["headlessName"] = cmp.Or(t.HeadlessName, e.HeadlessName)
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
