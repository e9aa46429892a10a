package resize

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// strayAfter is how old a gated pod that seems to belong to no member has to be before it is let go: its Job and MiniCluster
// may be known a little later than the pod.
const strayAfter = 10 * time.Second

// await remembers a pod that waits.
func (e *entry) await(rank int32, pod *corev1.Pod) {
	if e.waiting == nil {
		e.waiting = map[int32]*corev1.Pod{}
	}
	e.waiting[rank] = pod
}

// unmanageable reports whether nobody plans for the pods of a MiniCluster: it has no member and will not get one.
func (e *entry) unmanageable() bool {
	return e.member == nil && (e.cluster == nil || e.invalid != nil || !e.cluster.Managed())
}

// release takes the gates of pods away, each with the node that it may go to. The lead broker comes first: the others look for
// it. What is cut off here goes on in the next pass.
func (r *Reconciler) release(ctx context.Context, e *entry, hosts map[string]string, assignments []plan.Assignment) error {
	if len(assignments) == 0 {
		return nil
	}
	one := func(a plan.Assignment) error {
		err := r.ungate(ctx, e.waiting[a.Index], a.Node, hosts[a.Node])
		if apierrors.IsNotFound(err) {
			// It was deleted; the cache has yet to hear of that, and of the one that its Job makes in its place.
			return nil
		}
		if err != nil {
			return err
		}
		log.FromContext(ctx).V(1).Info("Released a pod", "namespace", e.key.Namespace, "member", e.key.Name, "pod", e.waiting[a.Index].Name, "rank", a.Index, "node", a.Node)
		return nil
	}
	if assignments[0].Index == 0 {
		if err := one(assignments[0]); err != nil {
			return err
		}
		assignments = assignments[1:]
	}
	failures := atOnce(len(assignments), func(i int) error { return one(assignments[i]) })
	if len(failures) > 0 {
		// One tells for all: the next pass tries each of them again.
		return failures[0]
	}
	return nil
}

// ungate takes our gate away from a pod, and no other gate. With a node the pod can go there alone: a node selector can be
// added to for as long as a pod is gated.
func (r *Reconciler) ungate(ctx context.Context, pod *corev1.Pod, node, host string) error {
	spec := map[string]any{"schedulingGates": []any{map[string]any{"$patch": "delete", "name": v1alpha1.SchedulingGate}}}
	metadata := map[string]any{"uid": pod.UID}
	if node != "" && host != "" && pod.Spec.NodeSelector[corev1.LabelHostname] == "" {
		spec["nodeSelector"] = map[string]any{corev1.LabelHostname: host}
		metadata["annotations"] = map[string]any{
			v1alpha1.AnnotationNode: node, v1alpha1.AnnotationReleasedAt: r.Clock.Now().UTC().Format(time.RFC3339),
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
	r.writes.note(kindPod, object)
	return nil
}

// recreate deletes pods that cannot get to the nodes that they were released for, so that their Job makes them anew.
func (r *Reconciler) recreate(ctx context.Context, e *entry, stranded []plan.Stranded) error {
	var told []string
	var failure error
	for _, s := range stranded {
		pod := e.waiting[s.Index]
		if pod == nil {
			continue
		}
		// A pod that was bound in the meantime stays.
		preconditions := client.Preconditions{UID: &pod.UID, ResourceVersion: &pod.ResourceVersion}
		switch err := r.Client.Delete(ctx, pod, preconditions); {
		case apierrors.IsNotFound(err):
			// It was told when the pod was deleted; the cache has yet to hear of that.
			continue
		case err != nil:
			failure = cmp.Or(failure, fmt.Errorf("delete pod %s/%s, which is to be made anew: %w", pod.Namespace, pod.Name, err))
			continue
		}
		r.Metrics.steps.WithLabelValues(v1alpha1.ReasonPodStranded).Inc()
		told = append(told, fmt.Sprintf("pod %s is made anew: %s", pod.Name, s.Why))
	}
	if len(told) > 0 {
		// In one event: of several that differ in their note alone the first would be kept.
		r.tell(ctx, e, corev1.EventTypeWarning, v1alpha1.ReasonPodStranded, strings.Join(told, "; "))
	}
	return failure
}

// letGo takes the gates of pods away that belong to no member, as when the annotation of their MiniCluster was removed: nobody
// would ever do so otherwise. next is when the first of those that are too young is due; zero for none.
func (r *Reconciler) letGo(ctx context.Context, strays []*corev1.Pod, now time.Time) (failures []error, next time.Time) {
	due := slices.DeleteFunc(slices.Clone(strays), func(pod *corev1.Pod) bool {
		at := pod.CreationTimestamp.Add(strayAfter)
		young := now.Before(at)
		if young && (next.IsZero() || at.Before(next)) {
			next = at
		}
		// Without our label it is somebody else's pod with our gate: only its owner can know why.
		return young || pod.Labels[v1alpha1.LabelMember] == ""
	})
	return atOnce(len(due), func(i int) error {
		pod := due[i]
		if err := r.ungate(ctx, pod, "", ""); err != nil {
			return err
		}
		log.FromContext(ctx).Info("Let go of a pod that was gated for a member and belongs to none", "namespace", pod.Namespace, "pod", pod.Name)
		return nil
	}), next
}
