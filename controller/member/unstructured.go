package member

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// NewObject returns an empty object of a kind whose Go types are not imported.
func NewObject(kind schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u
}

// NewObjectList returns an empty list for such objects.
func NewObjectList(kind schema.GroupVersionKind) *unstructured.UnstructuredList {
	u := &unstructured.UnstructuredList{}
	u.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	return u
}

// RefersTo reports whether a reference is to an object of a kind, whatever the version; nil is to none.
func RefersTo(owner *metav1.OwnerReference, kind schema.GroupVersionKind) bool {
	if owner == nil || owner.Kind != kind.Kind {
		return false
	}
	group, err := schema.ParseGroupVersion(owner.APIVersion)
	return err == nil && group.Group == kind.Group
}

// ReadField reads one of the outermost fields of an object. One that is not there leaves everything as it is.
func ReadField(u *unstructured.Unstructured, name string, into any) error {
	value, found, err := unstructured.NestedMap(u.Object, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !found {
		return nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	// As the API server reads it: a field that is written in another case is another field.
	if err := utiljson.Unmarshal(encoded, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Kept are those of some fields that are there.
func Kept(of map[string]any, keys ...string) map[string]any {
	out := map[string]any{}
	for _, key := range keys {
		if value, has := of[key]; has {
			out[key] = value
		}
	}
	return out
}
