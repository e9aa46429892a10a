package member

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Workload is what matters of an object that may be a member, whatever its kind.
type Workload struct {
	// Kind is what it is.
	Kind Kind

	Key             types.NamespacedName
	UID             types.UID
	Generation      int64
	ResourceVersion string
	// Deleting is set when the object has a deletion timestamp.
	Deleting bool

	// Groups are its pods, in an order that stays: at least one group.
	Groups []Group
	// Life is how far the object itself says that it is, nil for one whose only Job says so.
	Life *Life

	// NodePools are those of the annotation, nil for a workload that is not managed.
	NodePools []string
	// GrowthPolicy is that of the annotation, or the default.
	GrowthPolicy v1alpha1.GrowthPolicy
	// Placement is that of the annotation, or the default.
	Placement v1alpha1.Placement
	// RequestPolicy is that of the annotation, or the default.
	RequestPolicy v1alpha1.RequestPolicy
	// PodsPerNode is that of the annotation, or 1.
	PodsPerNode intstr.IntOrString
	// GiveUpAfter is that of the annotation, nil for never.
	GiveUpAfter *int32
	// TopologyKey is that of the annotation, empty for none.
	TopologyKey string
	// Own are the sizes that the object itself has, where it does not take others: those of Groups are then the ones that its Jobs are to
	// have. It is nil where they are the same thing.
	Own Sizes
	// Applied are the sizes that the controller last wrote, nil when it has written none.
	Applied Sizes
}

// Life is how far an object is in its life.
type Life struct {
	// Suspended is set while it has no pods and is to have none, Finished when it has ended and makes no more.
	Suspended, Finished bool
}

// Managed reports whether the user has asked for it to be managed.
func (w *Workload) Managed() bool { return w.NodePools != nil }

// Managed reports whether an object has the annotation that makes it managed.
func Managed(o client.Object) bool {
	_, has := o.GetAnnotations()[v1alpha1.AnnotationNodePools]
	return has
}

// HasJob reports whether a workload has the Job that a Job says to be. Whoever may create Jobs can have one say that it is of a group that
// there is none of, or one more of a group than there are: its name is free, and its owner right.
func (w *Workload) HasJob(said *Owner) bool {
	if said.Group == "" {
		return true
	}
	for i := range w.Groups {
		g := &w.Groups[i]
		// Of one that cannot be read its member has recorded no name of an only group, and sizes alone: each Job has at least one pod.
		if g.Name == said.Group || (len(w.Groups) == 1 && g.Name == "") {
			return said.Index < max(cmp.Or(g.Unit, g.MinSize), 1)
		}
	}
	return false
}

// Unreadable is a workload of a kind that cannot be read, as it could be read last; and where nobody has, as its member has recorded it.
// Either may be nil. What does not need its fields to be read is as it is now.
func Unreadable(kind Kind, object client.Object, last *Workload, member *v1alpha1.EnsembleMember) *Workload {
	w := &Workload{}
	switch {
	case last != nil:
		*w = *last
	case member != nil:
		spec := &member.Spec
		w.Generation = object.GetGeneration()
		w.Groups = recordedGroups(member)
		w.NodePools, w.TopologyKey, w.GiveUpAfter = spec.NodePools, spec.TopologyKey, spec.GiveUpAfter
		w.GrowthPolicy, w.Placement, w.RequestPolicy = spec.GrowthPolicy, spec.Placement, spec.RequestPolicy
		if spec.PodsPerNode != nil {
			w.PodsPerNode = *spec.PodsPerNode
		}
	}
	if len(w.Groups) == 0 {
		w.Groups = []Group{{Size: 1, MinSize: 1, MaxSize: 1}}
	}
	w.Kind, w.Key, w.UID = kind, client.ObjectKeyFromObject(object), object.GetUID()
	w.ResourceVersion, w.Deleting = object.GetResourceVersion(), object.GetDeletionTimestamp() != nil
	return w
}

// recordedGroups are the groups of a workload as its member has recorded them.
func recordedGroups(member *v1alpha1.EnsembleMember) []Group {
	groups := v1alpha1.GroupsOf(member)
	out := make([]Group, len(groups))
	for i, g := range groups {
		out[i] = Group{
			Name: g.Name, Size: max(v1alpha1.RecordOf(member, g.Name).Size, 1), MinSize: g.MinSize, MaxSize: g.MaxSize,
		}
	}
	return out
}

// SizePatch changes the sizes of a workload and records that it was the controller who did, in one write.
// It fails with a conflict when somebody else has written since it was read.
func (w *Workload) SizePatch(change *Change) (object client.Object, patch client.Patch, err error) {
	// The sizes of groups may be in lists, of which a merge patch would replace the whole.
	operations := []operation{
		{"replace", "/metadata/resourceVersion", w.ResourceVersion},
		{"add", pathOf(v1alpha1.AnnotationAppliedSize), change.Sizes.String()},
	}
	if w.Own != nil {
		// From now on the object takes them.
		operations = append(operations, operation{Op: "remove", Path: pathOf(v1alpha1.AnnotationJobSizes)})
	}
	return w.patch(types.JSONPatchType, append(operations, operationsOf(w.Kind.SizeFields(w, change))...))
}

// pathOf is where an annotation is in an object. One that is managed has annotations.
func pathOf(annotation string) string {
	return "/metadata/annotations/" + strings.ReplaceAll(annotation, "/", "~1")
}

// operation is one of a JSON patch (RFC 6902). An add replaces a field that is there.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// operationsOf give fields what they are to have.
func operationsOf(fields []Field) []operation {
	operations := make([]operation, 0, len(fields))
	for _, field := range fields {
		operations = append(operations, operation{"add", field.Path, field.Value})
	}
	return operations
}

// AppliedSizePatch records that the present sizes are known to the controller.
func (w *Workload) AppliedSizePatch() (object client.Object, patch client.Patch, err error) {
	return w.patch(types.MergePatchType, map[string]any{
		"metadata": map[string]any{
			"resourceVersion": w.ResourceVersion,
			"annotations":     map[string]any{v1alpha1.AnnotationAppliedSize: w.Sizes().String()},
		},
	})
}

func (w *Workload) patch(kind types.PatchType, content any) (client.Object, client.Patch, error) {
	encoded, err := json.Marshal(content)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch of %s %s: %w", w.Kind.Words().Kind, w.Key, err)
	}
	return Reference(w.Kind, w.Key, ""), client.RawPatch(kind, encoded), nil
}
