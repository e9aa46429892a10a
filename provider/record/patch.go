package record

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// NodePatch is a patch of the annotations, labels and taints of a node, from what it was to what it is to be; nil when nothing
// differs. It carries no version, and so conflicts with nobody who writes something else of the node meanwhile, as kubelets do all
// the time; the taints that it takes away are tested in it, and where there was none it is tested that the node is the same: then the
// API server answers Invalid, and the node is to be looked at again.
func NodePatch(before, after *corev1.Node) (client.Patch, error) {
	operations := slices.Concat(
		entries("/metadata/labels", before.ResourceVersion, before.Labels, after.Labels),
		entries("/metadata/annotations", before.ResourceVersion, before.Annotations, after.Annotations),
		taints(before, after),
	)
	if len(operations) == 0 {
		return nil, nil
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return nil, fmt.Errorf("encode the patch of node %s: %w", before.Name, err)
	}
	return client.RawPatch(types.JSONPatchType, patch), nil
}

// WithPool are labels of a node with that of its pool.
func WithPool(labels map[string]string, pool string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[v1alpha1.LabelNodePool] = pool
	return out
}

// same tests that a node is the one that was looked at.
func same(version string) operation { return operation{"test", "/metadata/resourceVersion", version} }

// entries are the operations between two maps.
func entries(path, version string, before, after map[string]string) []operation {
	if len(before) == 0 {
		if len(after) == 0 {
			return nil
		}
		// Somebody else's first one must not be replaced.
		return []operation{same(version), {"add", path, after}}
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var out []operation
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if value, is := before[key]; !is || value != after[key] {
			out = append(out, operation{"add", path + "/" + escape.Replace(key), after[key]})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, is := after[key]; !is {
			out = append(out, operation{Op: "remove", Path: path + "/" + escape.Replace(key)})
		}
	}
	return out
}

// taints are the operations between two lists of taints.
func taints(before, after *corev1.Node) []operation {
	has := func(list []corev1.Taint, t *corev1.Taint) bool {
		return slices.ContainsFunc(list, func(o corev1.Taint) bool { return o.MatchTaint(t) && o.Value == t.Value })
	}
	var out []operation
	left := len(before.Spec.Taints)
	// From the last one on, so that the places of the others stay.
	for i := len(before.Spec.Taints) - 1; i >= 0; i-- {
		taint := &before.Spec.Taints[i]
		if has(after.Spec.Taints, taint) {
			continue
		}
		path := fmt.Sprintf("/spec/taints/%d", i)
		out = append(out, operation{"test", path + "/key", taint.Key}, operation{Op: "remove", Path: path})
		left--
	}
	for i := range after.Spec.Taints {
		taint := &after.Spec.Taints[i]
		switch {
		case has(before.Spec.Taints, taint):
		case left == 0 && len(before.Spec.Taints) == 0:
			// Somebody else's first taint must not be replaced.
			out = append(out, same(before.ResourceVersion), operation{"add", "/spec/taints", []corev1.Taint{*taint}})
			left++
		default:
			out = append(out, operation{"add", "/spec/taints/-", taint})
			left++
		}
	}
	return out
}
