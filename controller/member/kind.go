// Package member is the seam between workloads and the rest of the controller: what every kind of workload says of itself, and what is the
// same for all of them, such as the annotations of users. Each kind has a package below this one, and nothing but the programs, which wire
// the kinds, admission, which judges what users write of each, and what makes objects of one kind imports these.
package member

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Kind is what a kind of workload says of itself. Its pods are in groups, each with a size and a shape, and known by their labels. They are
// made by Jobs, one or several for each group, or by something else; then the label v1alpha1.LabelMember says of which member they are.
// A kind has no state.
type Kind interface {
	// GroupVersionKind is that of its objects.
	GroupVersionKind() schema.GroupVersionKind
	// Words are how it is called.
	Words() *Words
	// New returns an empty object and NewList an empty list to read objects into.
	New() client.Object
	NewList() client.ObjectList
	// Parse reads an object, as it comes from the API server or from a cache. An error names the field, its value and what would be right.
	// With an error of one of our annotations the rest is returned all the same, so that what is managed already stays so.
	Parse(object client.Object) (*Workload, error)
	// SizeFields are the fields that give the groups of an object their sizes, and make the pods leave that are named.
	SizeFields(w *Workload, change *Change) []Field
	// Leaves says which pods leave when a group is given a smaller size. Where these are the highest ranks, a pod keeps its rank for as long
	// as the sizes of its unit stay, and those of one unit have ranks next to each other.
	Leaves() plan.Leaves
	// PodLabels are the keys of the labels that Place reads. A cache keeps them.
	PodLabels() []string
	// Place is the group that a pod is in and its rank there, a number from 0 on, by its labels and its completion index, which is 0 for a
	// pod without one. The labels may be those of the template of a Job. The group of a kind with one is empty. A pod that has no rank is
	// taken for the lead, with rank 0, whose node is the last to be given back.
	Place(labels map[string]string, index int32) (group string, rank int32)
	// Selector selects the pods of an object of a name by their labels, as a text: those of a group, or of all with an empty one.
	Selector(name, group string) string
	// Owner is the object of this kind that the pods of a Job are of, as far as the Job says so; nil for none.
	Owner(job metav1.Object) *Owner
	// JobOf is the name of a Job of a group of an object of a name, of which the template is that of the group; of the only group with an
	// empty one. It is empty for a kind whose pods no Job makes.
	JobOf(name, group string) string
}

// Words are how a kind is called, in messages and by callers.
type Words struct {
	// Kind and Kinds are one and several of them, as in "the MiniCluster".
	Kind, Kinds string
	// Size, MinSize and MaxSize are what a user sets, as in "spec.size".
	Size, MinSize, MaxSize string
	// MaxFixed follows a refusal to grow above the maximum: what there is to know of that.
	MaxFixed string
	// Job is what the Job of an object is called, as in "the Job of the MiniCluster".
	Job string
	// NoJob says who makes the Job of an object that has none.
	NoJob string
	// Callers are the names by which the callers of the endpoint may call the kind.
	Callers []string
	// Prefix begins the names of the members of this kind, before the name of the object. It is empty for one kind alone; the others end
	// theirs with a dot, which no object of that one has in its name while it has pods.
	Prefix string
}

// Owner is an object of a kind, as a Job says that it makes pods of it.
type Owner struct {
	Name string
	UID  types.UID
	// Group is the group that the Job makes pods of; empty for a kind with one.
	Group string
	// Index says which of the Jobs of the group it is, from 0 on; 0 for a kind with one.
	Index int32
	// Job is the name that this Job of the object has. Whoever may create Jobs can write any owner into one; this name no other one can have
	// beside it. Whether the object has such a Job is for Workload.HasJob to say.
	Job string
}

// Reference is an object that tells which one it is, and nothing else. Events and patches are about it.
func Reference(kind Kind, key types.NamespacedName, uid types.UID) client.Object {
	object := kind.New()
	object.SetNamespace(key.Namespace)
	object.SetName(key.Name)
	object.SetUID(uid)
	return object
}

// Target says which object of a kind a member is of.
func Target(kind Kind, name string) *v1alpha1.MemberTarget {
	version, of := kind.GroupVersionKind().ToAPIVersionAndKind()
	return &v1alpha1.MemberTarget{APIVersion: version, Kind: of, Name: name}
}

// TargetOf is the object that a member is of, as far as the member says so: the object that controls it, and where none does its target.
// One from before targets that nothing controls has a name alone.
func TargetOf(member *v1alpha1.EnsembleMember) v1alpha1.MemberTarget {
	switch owner := metav1.GetControllerOfNoCopy(member); {
	case owner != nil:
		return v1alpha1.MemberTarget{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name}
	case member.Spec.Target != nil:
		return *member.Spec.Target
	default:
		return v1alpha1.MemberTarget{Name: member.Name}
	}
}

// TargetName is the name of the object that a member is of.
func TargetName(member *v1alpha1.EnsembleMember) string { return TargetOf(member).Name }

// PodLabels are the keys of the labels by which the pods of all kinds are known.
func (k Kinds) PodLabels() []string {
	var keys []string
	for _, kind := range k {
		keys = append(keys, kind.PodLabels()...)
	}
	return keys
}

// Name is the name of the member of an object of a kind.
func Name(kind Kind, name string) string { return kind.Words().Prefix + name }

// Kinds are those that are switched on.
type Kinds []Kind

// Of is the kind that a member is of; nil for one that is not switched on. The object that controls the member says so: a target that
// somebody has written before there was a policy against that is not believed, and one may have been dropped by an older definition.
func (k Kinds) Of(member *v1alpha1.EnsembleMember) Kind {
	if of := TargetOf(member); of.Kind != "" {
		return k.named(of.APIVersion, of.Kind)
	}
	return k.find(func(kind Kind) bool { return kind.Words().Prefix == "" })
}

// named is the kind of a group, whatever the version, and a name; nil for none.
func (k Kinds) named(apiVersion, name string) Kind {
	group, err := schema.ParseGroupVersion(apiVersion)
	return k.find(func(kind Kind) bool {
		of := kind.GroupVersionKind()
		return err == nil && group.Group == of.Group && name == of.Kind
	})
}

// Called is the kind that a caller of the endpoint means by a word; nil for none.
func (k Kinds) Called(word string) Kind {
	return k.find(func(kind Kind) bool { return slices.Contains(kind.Words().Callers, word) })
}

// Owner is the object that the pods of a Job are of, as far as the Job says so, and its kind; both are nil for none.
func (k Kinds) Owner(job metav1.Object) (Kind, *Owner) {
	for _, kind := range k {
		if owner := kind.Owner(job); owner != nil {
			return kind, owner
		}
	}
	return nil, nil
}

// Objects has an empty object of each kind.
func (k Kinds) Objects() []client.Object {
	out := make([]client.Object, len(k))
	for i := range k {
		out[i] = k[i].New()
	}
	return out
}

func (k Kinds) find(is func(Kind) bool) Kind {
	if at := slices.IndexFunc(k, is); at >= 0 {
		return k[at]
	}
	return nil
}
