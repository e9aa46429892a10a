package resize

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// Snapshot is the cluster at one time as a pass observes it, for a program that asks what the planner would decide and writes nothing.
type Snapshot struct{ seen *seen }

// TakeSnapshot reads the cluster once: the objects of Watched from a reader, and pods from a store that knows them. An error names the
// kind that could not be read.
func TakeSnapshot(
	ctx context.Context, kinds member.Kinds, reader client.Reader, store *pods.Store, clock clock.PassiveClock,
) (*Snapshot, error) {
	// Why Jobs make no pods is told in words alone, and is not asked here.
	seen, err := newObserver(kinds, reader, store, clock, newNotMade(nil, func(string) {})).observe(ctx)
	if err != nil {
		return nil, err
	}
	return &Snapshot{seen: seen}, nil
}

// Observed are the values that the planner is given. What is shared with the snapshot may not be changed.
func (s *Snapshot) Observed() plan.Observed { return s.seen.values() }

// Bounds are the minimum and maximum size of a member of the snapshot; known is false where there is no such member.
func (s *Snapshot) Bounds(member types.NamespacedName) (minSize, maxSize int32, known bool) {
	e := s.seen.entries[member]
	if e == nil || e.member == nil {
		return 0, 0, false
	}
	return e.member.Spec.MinSize, e.member.Spec.MaxSize, true
}

// With is what the planner would be given if an object of a kind that does not exist were created now. An error names the field that
// is wrong, its value, and what would be right.
func (s *Snapshot) With(kind member.Kind, object client.Object) (plan.Observed, error) {
	workload, err := kind.Parse(object)
	if err != nil {
		return plan.Observed{}, err
	}
	// Admission gives one without a size its minimum size.
	for i := range workload.Groups {
		group := &workload.Groups[i]
		group.Size = max(group.Size, group.MinSize)
	}
	e := &entry{
		kind: kind, workload: workload, member: newMember(workload), groups: groupsOf(workload, needsOfGroups(workload)),
		namespace: s.seen.namespaces[workload.Key.Namespace],
	}
	e.key = client.ObjectKeyFromObject(e.member)
	// There will be a Job of it, and the Job makes its pods, which wait behind the gate: none is lacking for longer than a moment.
	for i := range e.groups {
		e.groups[i].ranks = &ranks{}
	}
	observed := s.seen.values()
	observed.Members = append(observed.Members, e.values(s.seen.byName)...)
	return observed, nil
}

// newMember is the member that a managed workload is given when it is first seen.
func newMember(workload *member.Workload) *v1alpha1.EnsembleMember {
	created := &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   workload.Key.Namespace,
			Name:        member.Name(workload.Kind, workload.Key.Name),
			Labels:      poolLabels(nil, workload.NodePools, nil),
			Annotations: map[string]string{v1alpha1.AnnotationAdoptedGeneration: generation(workload)},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(
					&metav1.ObjectMeta{Name: workload.Key.Name, UID: workload.UID}, workload.Kind.GroupVersionKind(),
				),
			},
		},
		// A size below the minimum is desired by nobody.
		Spec: v1alpha1.EnsembleMemberSpec{Size: max(workload.Size(), workload.MinSize())},
	}
	mirror(&created.Spec, workload)
	return created
}
