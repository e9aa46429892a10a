package resize

import (
	"maps"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// identity is what tells an object apart and says whose it is.
func identity(o *metav1.ObjectMeta) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Generation: o.Generation,
		CreationTimestamp: o.CreationTimestamp, DeletionTimestamp: o.DeletionTimestamp,
	}
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil {
		out.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return out
}

// StripNode keeps of a node in the cache what a pass and the ensemble endpoint read: of one that is in no pool little more than that it
// is there.
func StripNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	stripped := &corev1.Node{ObjectMeta: identity(&node.ObjectMeta)}
	stripped.Spec.Unschedulable, stripped.Spec.ProviderID = node.Spec.Unschedulable, node.Spec.ProviderID
	if node.Labels[v1alpha1.LabelNodePool] == "" {
		return stripped, nil
	}
	stripped.Labels, stripped.Spec.Taints, stripped.Status.Allocatable = node.Labels, node.Spec.Taints, node.Status.Allocatable
	for _, key := range []string{v1alpha1.AnnotationReserved, v1alpha1.AnnotationReleasing} {
		if value, has := node.Annotations[key]; has {
			metav1.SetMetaDataAnnotation(&stripped.ObjectMeta, key, value)
		}
	}
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			stripped.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return stripped, nil
}

// nodeChanged lets those events of nodes through by which a pass would see something else. A kubelet writes its node every few minutes,
// and of many thousand nodes that is some hundred a second.
var nodeChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, isBefore := e.ObjectOld.(*corev1.Node)
	after, isAfter := e.ObjectNew.(*corev1.Node)
	if !isBefore || !isAfter || before.UID != after.UID {
		return true
	}
	return !maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Annotations, after.Annotations) ||
		before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
		!equality.Semantic.DeepEqual(before.Spec, after.Spec) ||
		!equality.Semantic.DeepEqual(before.Status.Allocatable, after.Status.Allocatable) ||
		readiness(before) != readiness(after)
}}

// readiness is what the condition Ready of a node says, empty where there is none.
func readiness(node *corev1.Node) corev1.ConditionStatus {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// StripJob keeps of a Job in the cache whose it is, and of that of a member what a pass and the ensemble endpoint read: what a pod
// of it needs, and how far it is.
func StripJob(kinds member.Kinds) toolscache.TransformFunc {
	return func(object any) (any, error) {
		job, ok := object.(*batchv1.Job)
		if !ok {
			return object, nil
		}
		return stripJob(kinds, job), nil
	}
}

func stripJob(kinds member.Kinds, job *batchv1.Job) *batchv1.Job {
	stripped := &batchv1.Job{ObjectMeta: identity(&job.ObjectMeta)}
	if _, owner := kinds.Owner(job); owner == nil {
		return stripped
	}
	for key, value := range job.Annotations {
		// A Job may be a workload by itself, which is read from here too.
		if strings.HasPrefix(key, v1alpha1.Group+"/") {
			metav1.SetMetaDataAnnotation(&stripped.ObjectMeta, key, value)
		}
	}
	stripped.Spec.Suspend, stripped.Spec.Completions = job.Spec.Suspend, job.Spec.Completions
	stripped.Spec.Parallelism, stripped.Spec.CompletionMode = job.Spec.Parallelism, job.Spec.CompletionMode
	stripped.Spec.Template.Spec = member.PodShape(&job.Spec.Template.Spec)
	for _, key := range kinds.PodLabels() {
		// By them a kind knows which pods it makes.
		if value, has := job.Spec.Template.Labels[key]; has {
			metav1.SetMetaDataLabel(&stripped.Spec.Template.ObjectMeta, key, value)
		}
	}
	stripped.Status.CompletedIndexes = job.Status.CompletedIndexes
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		stripped.Status.Conditions = append(stripped.Status.Conditions, batchv1.JobCondition{Type: c.Type, Status: c.Status, Reason: c.Reason})
	}
	return stripped
}

// jobChanged keeps events of Jobs that are no member's from leading to a pass.
func jobChanged(kinds member.Kinds) predicate.Funcs {
	is := func(object client.Object) bool {
		_, owner := kinds.Owner(object)
		return owner != nil
	}
	funcs := predicate.NewPredicateFuncs(is)
	funcs.UpdateFunc = func(e event.UpdateEvent) bool { return is(e.ObjectOld) || is(e.ObjectNew) }
	return funcs
}

// StripNamespace keeps of a namespace in the cache its labels, and whether it is being deleted.
func StripNamespace(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	stripped := &corev1.Namespace{ObjectMeta: identity(&namespace.ObjectMeta)}
	stripped.Labels = namespace.Labels
	return stripped, nil
}
