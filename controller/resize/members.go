package resize

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// syncMembers creates, updates and deletes members so that they match their workloads. What fails for
// one does not hold up the others.
func (r *Reconciler) syncMembers(ctx context.Context, seen *seen) []error {
	r.faults.Range(func(key, _ any) bool {
		name, is := key.(types.NamespacedName)
		if e := seen.entries[name]; !is || e == nil || (e.invalid == nil && !r.toldOlder(e)) {
			r.faults.Delete(key)
		}
		return true
	})
	entries := slices.Collect(maps.Values(seen.entries))
	return inParallel(len(entries), func(i int) error {
		err := r.syncMember(ctx, entries[i])
		if err != nil {
			entries[i].skip = true
		}
		return err
	})
}

func (r *Reconciler) syncMember(ctx context.Context, e *entry) error {
	switch {
	case e.workload == nil:
		// The workload is gone; its member is deleted with it by the garbage collector.
		return nil
	case e.invalid != nil:
		if before, _ := r.faults.Swap(e.key, e.invalid.Error()); before != e.invalid.Error() {
			r.tell(ctx, e, corev1.EventTypeWarning, v1alpha1.ReasonInvalid, e.invalid.Error())
		}
		return nil
	case e.member != nil && ownerOf(e.member) == "":
		return r.deleteOrphan(ctx, e)
	case e.member != nil && e.uid() != ownerOf(e.member):
		// The workload was deleted and made again under its name. The old member's end is near.
		e.skip = true
		return nil
	case !e.lives():
		return nil
	case e.member == nil && e.workload.Managed():
		return r.createMember(ctx, e)
	case e.member == nil:
		return nil
	case !e.workload.Managed():
		return r.deleteMember(ctx, e)
	}
	if keeps, err := r.keepsGroups(ctx, e); err != nil || !keeps {
		return err
	}
	if err := r.updateMember(ctx, e); err != nil || e.skip {
		return err
	}
	return r.recordAppliedSize(ctx, e)
}

func ownerOf(member *v1alpha1.EnsembleMember) types.UID {
	if owner := metav1.GetControllerOf(member); owner != nil {
		return owner.UID
	}
	return ""
}

func (r *Reconciler) createMember(ctx context.Context, e *entry) error {
	member := newMember(e.workload)
	if keeps, err := r.keepsTarget(ctx, e, member); err != nil || !keeps {
		return err
	}
	if err := r.Client.Create(ctx, member); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return fmt.Errorf("create EnsembleMember %s: %w", e.key, err)
	}
	r.writes.note(memberWritten(member), member)
	r.tell(ctx, e, corev1.EventTypeNormal, "Managed", fmt.Sprintf("managed from now on, with size %d of %d to %d and nodes from %v",
		member.Spec.Size, member.Spec.MinSize, member.Spec.MaxSize, member.Spec.NodePools))
	return nil
}

// keepsTarget reports whether the member of a workload can be made: without its target one of a kind with a prefix would be taken for that
// of a MiniCluster, without its groups the claims of one with several would be lost, and the definition in the cluster may be an older one,
// which drops the fields. That is tried, and written nowhere.
func (r *Reconciler) keepsTarget(ctx context.Context, e *entry, member *v1alpha1.EnsembleMember) (bool, error) {
	several := len(member.Spec.Groups) > 0
	if e.kind.Words().Prefix == "" || (r.targets.Load() && (!several || r.grouped.Load())) {
		return true, nil
	}
	if r.dropped(several) == "" {
		trial := member.DeepCopy()
		if err := r.Client.Create(ctx, trial, client.DryRunAll); err != nil {
			if apierrors.IsAlreadyExists(err) {
				return false, nil
			}
			return false, fmt.Errorf("try to create EnsembleMember %s: %w", e.key, err)
		}
		note(trial.Spec.Target != nil, &r.targets, &r.untargeted)
		if several {
			note(len(trial.Spec.Groups) == len(member.Spec.Groups), &r.grouped, &r.ungrouped)
		}
	}
	if field := r.dropped(several); field != "" {
		r.tellOlder(ctx, e, field)
		return false, nil
	}
	return true, nil
}

// keepsGroups does the same for a member that is there: without its groups, which an older definition has dropped, nothing of it is known.
func (r *Reconciler) keepsGroups(ctx context.Context, e *entry) (bool, error) {
	if len(e.workload.Groups) == 1 || len(e.member.Spec.Groups) > 0 {
		return true, nil
	}
	if !r.ungrouped.Load() {
		trial := e.member.DeepCopy()
		mirror(&trial.Spec, e.workload)
		if err := r.Client.Patch(ctx, trial, client.MergeFrom(e.member), client.DryRunAll); err != nil {
			return false, fmt.Errorf("try to update EnsembleMember %s: %w", e.key, err)
		}
		note(len(trial.Spec.Groups) == len(e.workload.Groups), &r.grouped, &r.ungrouped)
	}
	if r.ungrouped.Load() {
		r.tellOlder(ctx, e, "spec.groups")
		return false, nil
	}
	return true, nil
}

// note notes whether a field was kept.
func note(kept bool, yes, no *atomic.Bool) {
	if kept {
		yes.Store(true)
	} else {
		no.Store(true)
	}
}

// dropped is the field that the definition in the cluster is known to drop, of those that a member needs; empty for none.
func (r *Reconciler) dropped(several bool) string {
	switch {
	case r.untargeted.Load():
		return "spec.target"
	case several && r.ungrouped.Load():
		return "spec.groups"
	default:
		return ""
	}
}

// toldOlder reports whether it was said of a workload that the definition is an older one.
func (r *Reconciler) toldOlder(e *entry) bool {
	several := e.workload != nil && len(e.workload.Groups) > 1
	return (e.member == nil && r.untargeted.Load()) || (several && r.ungrouped.Load())
}

// tellOlder says once that a workload is left alone because of the definition in the cluster.
func (r *Reconciler) tellOlder(ctx context.Context, e *entry, field string) {
	e.skip = true
	why := fmt.Sprintf("not managed: the definition of EnsembleMember in the cluster is an older one without %s, which one of a %s "+
		"needs; apply manifests/crd, and restart the controller", field, e.kind.Words().Kind)
	if before, _ := r.faults.Swap(e.key, why); before != why {
		r.tell(ctx, e, corev1.EventTypeWarning, v1alpha1.ReasonInvalid, why)
	}
}

// deleteMember ends the management of a workload that is to be managed no more.
func (r *Reconciler) deleteMember(ctx context.Context, e *entry) error {
	return r.deleteBecause(ctx, e, fmt.Sprintf("no longer managed: the annotation %s was removed", v1alpha1.AnnotationNodePools))
}

// deleteOrphan deletes a member whose workload was deleted without what it owned, and made again under its name. Nobody else
// would, and the name is needed.
func (r *Reconciler) deleteOrphan(ctx context.Context, e *entry) error {
	return r.deleteBecause(
		ctx, e,
		fmt.Sprintf(
			"the EnsembleMember of this name has no owner, as after kubectl delete --cascade=orphan; it is deleted, and one of this %s made",
			e.kind.Words().Kind,
		),
	)
}

func (r *Reconciler) deleteBecause(ctx context.Context, e *entry, why string) error {
	e.skip = true
	if e.member.DeletionTimestamp != nil {
		return nil
	}
	if err := r.Client.Delete(ctx, e.member, client.Preconditions{UID: &e.member.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete EnsembleMember %s: %w", e.key, err)
	}
	r.tell(ctx, e, corev1.EventTypeNormal, "Unmanaged", why)
	return nil
}

// mirror copies into the spec what the workload decides.
func mirror(spec *v1alpha1.EnsembleMemberSpec, workload *member.Workload) {
	spec.MinSize, spec.MaxSize = workload.MinSize(), workload.MaxSize()
	spec.NodePools, spec.GrowthPolicy = slices.Clone(workload.NodePools), workload.GrowthPolicy
	spec.Placement, spec.RequestPolicy = workload.Placement, workload.RequestPolicy
	spec.PodsPerNode, spec.GiveUpAfter = &workload.PodsPerNode, workload.GiveUpAfter
	spec.TopologyKey = workload.TopologyKey
	mirrorGroups(spec, workload)
	if spec.Target == nil {
		// Members from before targets have none, nor have those that a controller from then has written since.
		spec.Target = member.Target(workload.Kind, workload.Key.Name)
	}
}

// mirrorGroups copies the groups of a workload with several, each with the size that is wanted of it. One that is new is wanted as it is.
// The desired size of the member is their sum.
func mirrorGroups(spec *v1alpha1.EnsembleMemberSpec, workload *member.Workload) {
	if len(workload.Groups) == 1 {
		spec.Groups, spec.Unit = nil, 0
		if unit := workload.Only().Unit; unit > 1 {
			spec.Unit = unit
		}
		return
	}
	wanted := make(map[string]int32, len(spec.Groups))
	for i := range spec.Groups {
		wanted[spec.Groups[i].Name] = spec.Groups[i].Size
	}
	spec.Unit, spec.Size, spec.Groups = 0, 0, make([]v1alpha1.MemberGroup, len(workload.Groups))
	for i := range workload.Groups {
		of := &workload.Groups[i]
		size, has := wanted[of.Name]
		if !has {
			// A size below the minimum is desired by nobody.
			size = max(of.Size, of.MinSize)
		}
		spec.Groups[i] = v1alpha1.MemberGroup{Name: of.Name, Size: size, MinSize: of.MinSize, MaxSize: of.MaxSize, Unit: max(of.Unit, 1)}
		spec.Size += size
	}
}

// updateMember brings the member's spec in line with its workload, and adopts a size that somebody
// wrote into the workload directly. Both are one write, which also records which edit was adopted: an
// adoption that is repeated after a kill does not overwrite a desired size that came in between.
func (r *Reconciler) updateMember(ctx context.Context, e *entry) error {
	member := e.member.DeepCopy()
	mirror(&member.Spec, e.workload)
	if r.untargeted.Load() {
		member.Spec.Target = e.member.Spec.Target
	}
	said := r.adoptEdit(e, member)
	if bounds := r.keepWithinBounds(e, member); bounds != "" {
		said = bounds
	}
	member.Labels = poolLabels(e.member.Labels, member.Spec.NodePools, e.member.Status.Reservations)
	if equality.Semantic.DeepEqual(e.member.Spec, member.Spec) && equality.Semantic.DeepEqual(e.member.Annotations, member.Annotations) &&
		maps.Equal(e.member.Labels, member.Labels) {
		return nil
	}
	e.skip = true
	// A patch, so that what a newer version has written stays.
	if err := r.Client.Patch(ctx, member, client.MergeFromWithOptions(e.member, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("update EnsembleMember %s: %w", e.key, err)
	}
	r.writes.note(memberWritten(member), member)
	if member.ResourceVersion == e.member.ResourceVersion {
		// Nothing of it was stored, as where the definition in the cluster does not know the field: no event comes of the write.
		e.skip = false
	}
	if member.Spec.Target == nil && !r.untargeted.Swap(true) {
		log.FromContext(ctx).Info("Members do not say which workload they are of: the definition of EnsembleMember in the cluster is an older " +
			"one. Apply manifests/crd, and restart the controller")
	}
	if said != "" {
		r.tell(ctx, e, corev1.EventTypeNormal, v1alpha1.ReasonAdopted, said)
	}
	return nil
}

// poolLabels marks a member with the pools in which it may have reservations, beside the labels that it has: the pools that it names,
// and those in which it has some still. They are written before a claim is: nothing is decided for the member in this pass.
func poolLabels(labels map[string]string, pools []string, reservations []v1alpha1.Reservation) map[string]string {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, v1alpha1.LabelMemberPoolPrefix) })
	if out == nil {
		out = map[string]string{}
	}
	for _, pool := range pools {
		out[v1alpha1.MemberPoolLabel(pool)] = ""
	}
	for i := range reservations {
		out[v1alpha1.MemberPoolLabel(reservations[i].NodePool)] = ""
	}
	return out
}

// adoptEdit makes sizes that somebody has written into the workload the desired ones, and says so; it is empty where nobody has.
func (r *Reconciler) adoptEdit(e *entry, m *v1alpha1.EnsembleMember) (said string) {
	words, groups := e.kind.Words(), e.workload.Groups
	if !edited(e) || slices.ContainsFunc(groups, func(g member.Group) bool { return g.Size < g.MinSize }) {
		return ""
	}
	before := m.Spec.Size
	for i := range groups {
		// The size of a group that nobody has edited says nothing of what is desired of it: a request may have come since.
		if known, has := e.workload.Applied[groups[i].Name]; !has || known != groups[i].Size {
			v1alpha1.SetGroupSize(m, nameInSpec(e.workload, i), groups[i].Size)
		}
	}
	sizes, now := e.workload.Sizes(), "that is the desired size"
	if desires := desired(m); !desires.Same(sizes) {
		now = fmt.Sprintf("the desired size is %s", desires)
	}
	said = fmt.Sprintf("a user set the size of the %s to %s; %s now, in place of %s", words.Kind, sizes, now, desired(e.member))
	r.adopt(m, before, fmt.Sprintf("an edit of %s of the %s", words.Size, words.Kind))
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Annotations[v1alpha1.AnnotationAdoptedGeneration] = generation(e.workload)
	return said
}

// keepWithinBounds sets desired sizes that the workload does not take to the nearest that it does, and says so; it is empty where it takes
// all of them.
func (r *Reconciler) keepWithinBounds(e *entry, m *v1alpha1.EnsembleMember) string {
	var said []string
	words, before := e.kind.Words(), m.Spec.Size
	for _, g := range slices.Clone(v1alpha1.GroupsOf(m)) {
		bound := min(max(g.Size, g.MinSize), g.MaxSize)
		if bound == g.Size {
			continue
		}
		of := words.Kind
		if g.Name != "" {
			of = fmt.Sprintf("group %s of the %s", g.Name, words.Kind)
		}
		said = append(said, fmt.Sprintf(
			"the %s takes sizes from %d to %d now; the desired size is %d, in place of %d", of, g.MinSize, g.MaxSize, bound, g.Size,
		))
		v1alpha1.SetGroupSize(m, g.Name, bound)
	}
	if len(said) > 0 {
		r.adopt(m, before, fmt.Sprintf("an edit of the bounds of the %s", words.Kind))
	}
	return strings.Join(said, "; ")
}

// nameInSpec is the name that a group of a workload has in the spec of its member: none where it is the only one.
func nameInSpec(workload *member.Workload, i int) string {
	if len(workload.Groups) == 1 {
		return ""
	}
	return workload.Groups[i].Name
}

// desired are the sizes that a member wants.
func desired(m *v1alpha1.EnsembleMember) member.Sizes {
	sizes := member.Sizes{}
	for _, g := range v1alpha1.GroupsOf(m) {
		sizes[g.Name] = g.Size
	}
	return sizes
}

// adopt notes who is behind the desired size of a member, after another one.
func (r *Reconciler) adopt(member *v1alpha1.EnsembleMember, before int32, by string) {
	amount := member.Spec.Size - before
	member.Spec.Request = &v1alpha1.Request{
		Action: v1alpha1.RequestAdopt, Amount: max(amount, -amount), Size: member.Spec.Size, By: by, At: metav1.NewMicroTime(r.Clock.Now()),
	}
}

// edited reports whether somebody other than the controller has set the size, and that has not been adopted.
func edited(e *entry) bool {
	return !applied(e) && e.member.Annotations[v1alpha1.AnnotationAdoptedGeneration] != generation(e.workload)
}

// applied reports whether the workload's size is the one that the controller knows.
func applied(e *entry) bool {
	return e.workload.Applied.Same(e.workload.Sizes())
}

// recordAppliedSize makes an adopted size one that the controller knows.
func (r *Reconciler) recordAppliedSize(ctx context.Context, e *entry) error {
	if applied(e) || edited(e) {
		return nil
	}
	e.skip = true
	object, patch, err := e.workload.AppliedSizePatch()
	if err != nil {
		return err
	}
	if err := r.Client.Patch(ctx, object, patch); err != nil {
		return fmt.Errorf("record the size of %s %s: %w", e.kind.Words().Kind, e.workload.Key, err)
	}
	r.writes.note(e.workloadWritten(), object)
	return nil
}

func generation(workload *member.Workload) string {
	return strconv.FormatInt(workload.Generation, 10)
}
