package resize

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

const (
	// strayAfter is how old a gated pod that seems to belong to no member has to be before anything is asked about it: its Job and
	// workload may be known a little later than the pod.
	strayAfter = 10 * time.Second
	// askOwnerAgain is how long the answer for the pods of a Job that were not let go stands.
	askOwnerAgain = 10 * time.Second
)

// unmanageable reports whether nobody plans for the pods of a workload: it has no member and will not get one.
func (e *entry) unmanageable() bool {
	return e.member == nil && (e.workload == nil || e.invalid != nil || !e.workload.Managed())
}

// release takes the gates of pods away, each with the node that it may go to. The lead broker comes first: the others look for
// it. What is cut off here goes on in the next pass.
func (r *Reconciler) release(ctx context.Context, v *memberDecision, seen *seen) error {
	for i := range v.groups {
		d := &v.groups[i]
		if err := r.releaseGroup(ctx, v.e, v.e.group(d.Group), seen, d.Release); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) releaseGroup(ctx context.Context, e *entry, g *group, seen *seen, assignments []plan.Assignment) error {
	if len(assignments) == 0 {
		return nil
	}
	one := func(a plan.Assignment) error {
		pod, to := g.ranks.behindGate(a.Index), seen.hosts[a.Node]
		if pod == nil {
			return nil
		}
		place := &place{node: a.Node, host: to.name}
		if pool := seen.byName[to.pool]; pool != nil {
			place.tolerations = lackingTolerations(pod.Spec.Tolerations, pool.Taints)
		}
		err := r.ungate(ctx, pod, place)
		if apierrors.IsNotFound(err) {
			// It was deleted; the cache has yet to hear of that, and of the one that its Job makes in its place.
			return nil
		}
		if err != nil {
			return err
		}
		log.FromContext(ctx).V(1).Info(
			"Released a pod", "namespace", e.key.Namespace, "member", e.key.Name, "pod", pod.Name, "rank", a.Index, "node", a.Node,
		)
		return nil
	}
	if assignments[0].Index == 0 {
		if err := one(assignments[0]); err != nil {
			return err
		}
		assignments = assignments[1:]
	}
	failures := inParallelUpTo(releasesAtOnce, len(assignments), func(i int) error { return one(assignments[i]) })
	if len(failures) > 0 {
		// One tells for all: the next pass tries each of them again.
		return failures[0]
	}
	return nil
}

// place is where a pod may go.
type place struct {
	node, host string
	// tolerations are those that it needs to stay there and does not have.
	tolerations []corev1.Toleration
}

// tolerationOf is what a pod needs for one taint, and no other.
func tolerationOf(taint *corev1.Taint) corev1.Toleration {
	return corev1.Toleration{Key: taint.Key, Operator: corev1.TolerationOpEqual, Value: taint.Value, Effect: taint.Effect}
}

// lackingTolerations are those that a pod does not have for the taints of a template.
func lackingTolerations(tolerations []corev1.Toleration, taints []corev1.Taint) []corev1.Toleration {
	var out []corev1.Toleration
	for i := range taints {
		if taints[i].Effect != corev1.TaintEffectPreferNoSchedule && !v1alpha1.Tolerates(tolerations, &taints[i]) {
			out = append(out, tolerationOf(&taints[i]))
		}
	}
	return out
}

// withoutAdded leaves those tolerations of pods out that their release has added: they have them for one pool, and what comes of the
// same template may go to another. Which taints the templates of pools have is known without them.
func withoutAdded(
	tolerations, template []corev1.Toleration, member *v1alpha1.EnsembleMember, pools map[string]*plan.Pool,
) []corev1.Toleration {
	var added []corev1.Toleration
	add := func(name string) {
		if pool := pools[name]; pool != nil {
			added = append(added, lackingTolerations(template, pool.Taints)...)
		}
	}
	for _, name := range member.Spec.NodePools {
		add(name)
	}
	for i := range member.Status.Reservations {
		add(member.Status.Reservations[i].NodePool)
	}
	return slices.DeleteFunc(slices.Clone(tolerations), func(t corev1.Toleration) bool {
		return slices.ContainsFunc(added, func(a corev1.Toleration) bool { return a.MatchToleration(&t) })
	})
}

// ungate takes our gate away from a pod, and no other gate. With a place the pod can go there alone, and tolerates what is on all nodes
// there: a node selector and tolerations can be added to for as long as a pod is gated.
func (r *Reconciler) ungate(ctx context.Context, pod *corev1.Pod, to *place) error {
	spec := map[string]any{"schedulingGates": []any{map[string]any{"$patch": "delete", "name": v1alpha1.SchedulingGate}}}
	metadata := map[string]any{"uid": pod.UID}
	if to != nil && len(to.tolerations) > 0 {
		// The list is replaced as a whole. One that was added to meanwhile must not lose anything, and the API server sees to that.
		spec["tolerations"] = slices.Concat(pod.Spec.Tolerations, to.tolerations)
	}
	if to != nil && to.node != "" && to.host != "" && pod.Spec.NodeSelector[corev1.LabelHostname] == "" {
		spec["nodeSelector"] = map[string]any{corev1.LabelHostname: to.host}
		metadata["annotations"] = map[string]any{
			v1alpha1.AnnotationNode: to.node, v1alpha1.AnnotationReleasedAt: r.Clock.Now().UTC().Format(time.RFC3339),
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata, "spec": spec})
	if err != nil {
		return fmt.Errorf("encode the release of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := r.Client.Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return fmt.Errorf("release pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	r.writes.note(podWritten(object), object)
	return nil
}

// strandedPod is a pod that cannot get to the node that it was released for, and why.
type strandedPod struct {
	pod *corev1.Pod
	why string
}

// stranded are the pods of all groups that are to be recreated.
func stranded(v *memberDecision) []strandedPod {
	var out []strandedPod
	for i := range v.groups {
		g := v.e.group(v.groups[i].Group)
		for _, s := range v.groups[i].Recreate {
			if pod := g.ranks.onItsWay(s.Index); pod != nil {
				out = append(out, strandedPod{pod, s.Why})
			}
		}
	}
	return out
}

// recreate deletes pods that cannot get to the nodes that they were released for, so that their Job recreates them.
func (r *Reconciler) recreate(ctx context.Context, v *memberDecision) error {
	var told []string
	var failure error
	for _, s := range stranded(v) {
		pod := s.pod
		// A pod that was bound in the meantime stays.
		preconditions := client.Preconditions{UID: &pod.UID, ResourceVersion: &pod.ResourceVersion}
		switch err := r.Client.Delete(ctx, pod, preconditions); {
		case apierrors.IsNotFound(err):
			// It was told when the pod was deleted; the cache has yet to hear of that.
			continue
		case err != nil:
			failure = cmp.Or(failure, fmt.Errorf("delete pod %s/%s, which is to be recreated: %w", pod.Namespace, pod.Name, err))
			continue
		}
		r.Metrics.steps.WithLabelValues(v1alpha1.ReasonPodStranded).Inc()
		told = append(told, fmt.Sprintf("pod %s is recreated: %s", pod.Name, s.why))
	}
	if len(told) > 0 {
		// In one event: of several that differ in their note alone the first would be kept.
		r.tell(ctx, v.e, corev1.EventTypeWarning, v1alpha1.ReasonPodStranded, strings.Join(told, "; "))
	}
	return failure
}

// ungateStrays takes the gates of pods away that belong to no member, as when the annotation of their workload was removed: nobody would
// ever do so otherwise. That is so only if the API server itself says so: caches that are behind show the pods of a new workload
// just so, and those of one that is being deleted.
//
// next is when to come again because of pods that are too young, or that were not let go; zero for not at all.
func (r *Reconciler) ungateStrays(ctx context.Context, strays []*pods.Pod, now time.Time) (failures []error, next time.Time) {
	due := map[pods.JobKey][]*corev1.Pod{}
	present := map[pods.JobKey]bool{}
	for _, stray := range strays {
		pod := stray.Detail()
		// Without our label it is somebody else's pod with our gate: only its owner can know why. So is one that no Job has made.
		job, of := stray.Job()
		if !of || pod.Labels[v1alpha1.LabelMember] == "" {
			continue
		}
		present[job] = true
		if at := pod.CreationTimestamp.Add(strayAfter); now.Before(at) {
			next = soonest(next, at)
			continue
		}
		due[job] = append(due[job], pod)
	}
	var let []*corev1.Pod
	for job, of := range due {
		may, _, again := r.owners.allow(job.Namespace, job, now)
		if !may {
			next = soonest(next, again)
			continue
		}
		switch belongs, err := r.belongs(ctx, of[0]); {
		case err != nil:
			failures = append(failures, err)
		case belongs:
			next = soonest(next, again)
		default:
			let = append(let, of...)
			// Those that cannot be patched are tried again at once.
			delete(r.owners.asked, job)
		}
	}
	r.owners.keep(present)
	return append(failures, inParallel(len(let), func(i int) error {
		pod := let[i]
		if err := r.ungate(ctx, pod, nil); client.IgnoreNotFound(err) != nil {
			return err
		}
		log.FromContext(ctx).Info("Let go of a pod that was gated for a member and belongs to none", "namespace", pod.Namespace, "pod", pod.Name)
		return nil
	})...), next
}

// ofForeign reports whether a pod says that it is of a member that is there and of a kind that this controller was not told to manage: who
// manages it releases its pods.
func (r *Reconciler) ofForeign(ctx context.Context, pod *corev1.Pod) (bool, error) {
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Labels[v1alpha1.LabelMember]}
	var of v1alpha1.EnsembleMember
	if err := r.Live.Get(ctx, key, &of); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return true, fmt.Errorf("read EnsembleMember %s of a pod that waits: %w", key, err)
	}
	return r.Kinds.Of(&of) == nil, nil
}

// belongs reports whether the pods of a Job are to go on waiting, as the API server itself says. They are let go where their Job is
// there and is of no workload, and where the workload that it is of is there and is not managed. What is being deleted, or is
// gone, takes its pods with it.
func (r *Reconciler) belongs(ctx context.Context, pod *corev1.Pod) (bool, error) {
	of := metav1.GetControllerOfNoCopy(pod)
	var job batchv1.Job
	switch err := r.Live.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: of.Name}, &job); {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return true, fmt.Errorf("read Job %s/%s of a pod that waits: %w", pod.Namespace, of.Name, err)
	case job.UID != of.UID || job.DeletionTimestamp != nil:
		return true, nil
	}
	kind, owner := r.Kinds.Owner(&job)
	if owner == nil {
		return r.ofForeign(ctx, pod)
	}
	workload := kind.New()
	switch err := r.Live.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}, workload); {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return true, fmt.Errorf("read %s %s/%s of a pod that waits: %w", kind.Words().Kind, pod.Namespace, owner.Name, err)
	default:
		return workload.GetUID() != owner.UID || workload.GetDeletionTimestamp() != nil || member.Managed(workload), nil
	}
}
