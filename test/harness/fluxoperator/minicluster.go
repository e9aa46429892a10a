package main

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// miniClusterKind is the kind that the Flux Operator serves.
var miniClusterKind = schema.GroupVersionKind{Group: "flux-framework.org", Version: "v1alpha2", Kind: "MiniCluster"}

// miniCluster is the part of a MiniCluster that the stand-in understands. It is read out of the
// unstructured object and never written back, so that fields unknown here survive.
type miniCluster struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              miniClusterSpec   `json:"spec"`
	Status            miniClusterStatus `json:"status"`
}

type miniClusterSpec struct {
	Size            int32             `json:"size"`
	MinSize         int32             `json:"minSize"`
	MaxSize         int32             `json:"maxSize"`
	BackoffLimit    int32             `json:"backoffLimit"`
	DeadlineSeconds int64             `json:"deadlineSeconds"`
	Cleanup         bool              `json:"cleanup"`
	JobLabels       map[string]string `json:"jobLabels"`
	Network         network           `json:"network"`
	Pod             podSpec           `json:"pod"`
	Containers      []container       `json:"containers"`
}

type network struct {
	HeadlessName    string `json:"headlessName"`
	DisableAffinity bool   `json:"disableAffinity"`
}

type podSpec struct {
	Labels                       map[string]string   `json:"labels"`
	Annotations                  map[string]string   `json:"annotations"`
	NodeSelector                 map[string]string   `json:"nodeSelector"`
	NodeAffinity                 map[string][]string `json:"nodeAffinity"`
	Tolerations                  []toleration        `json:"tolerations"`
	SchedulerName                string              `json:"schedulerName"`
	ServiceAccountName           string              `json:"serviceAccountName"`
	AutomountServiceAccountToken bool                `json:"automountServiceAccountToken"`
	RestartPolicy                string              `json:"restartPolicy"`
}

type toleration struct {
	Key      string `json:"key"`
	Operator string `json:"operator"`
	Value    string `json:"value"`
	Effect   string `json:"effect"`
}

type container struct {
	Name            string                      `json:"name"`
	Image           string                      `json:"image"`
	Command         string                      `json:"command"`
	RunFlux         bool                        `json:"runFlux"`
	ImagePullPolicy string                      `json:"imagePullPolicy"`
	PullAlways      bool                        `json:"pullAlways"`
	Resources       corev1.ResourceRequirements `json:"resources"`
}

type miniClusterStatus struct {
	Size        int32              `json:"size"`
	MaximumSize int32              `json:"maximumSize"`
	Selector    string             `json:"selector"`
	Jobid       string             `json:"jobid"`
	Conditions  []metav1.Condition `json:"conditions"`
}

// readMiniCluster takes what the stand-in understands out of object.
func readMiniCluster(object *unstructured.Unstructured) (miniCluster, error) {
	var cluster miniCluster
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &cluster); err != nil {
		return miniCluster{}, fmt.Errorf("reading MiniCluster %s/%s: %w", object.GetNamespace(), object.GetName(), err)
	}
	if cluster.Spec.Network.HeadlessName == "" {
		cluster.Spec.Network.HeadlessName = cluster.Name
	}
	return cluster, nil
}

// ignoredBecause says why the Flux Operator does nothing at all for a MiniCluster with this spec. It
// returns "" for one that it serves. The operator gives no sign of it but a line in its log; in
// particular a size out of [minSize, maxSize] stays in the spec and changes nothing.
func ignoredBecause(spec miniClusterSpec) string {
	switch {
	case spec.Size == 0:
		return "size is 0"
	case spec.MaxSize != 0 && spec.MaxSize < spec.Size:
		return fmt.Sprintf("size %d is above maxSize %d", spec.Size, spec.MaxSize)
	case spec.BackoffLimit < 0:
		return fmt.Sprintf("backoffLimit is %d", spec.BackoffLimit)
	case spec.MinSize != 0 && spec.MaxSize != 0 && spec.MinSize > spec.MaxSize:
		return fmt.Sprintf("minSize %d is above maxSize %d", spec.MinSize, spec.MaxSize)
	case spec.MinSize != 0 && spec.MinSize > spec.Size:
		return fmt.Sprintf("size %d is below minSize %d", spec.Size, spec.MinSize)
	}
	return ""
}

// maximumSize is the size that the brokers are laid out for. It is fixed when the operator first sees
// the MiniCluster and later edits of maxSize do not move it.
func maximumSize(cluster miniCluster) int32 {
	if cluster.Status.MaximumSize != 0 {
		return cluster.Status.MaximumSize
	}
	return max(cluster.Spec.Size, cluster.Spec.MaxSize)
}

// resize says what becomes of a desired size when the Job has the size current: the size that is
// applied, and whether the desired size is written back because it was refused.
func resize(desired, current, maximum int32) (applied int32, refused bool) {
	switch {
	case desired < 1:
		return current, true
	case desired > maximum:
		return maximum, true
	}
	return desired, false
}

// selector is the label selector that a HorizontalPodAutoscaler finds the pods with.
func selector(name string) string { return labelHPA + "=" + name }

// The conditions of a MiniCluster. The operator sets all of them at creation and makes exactly one True.
const (
	conditionRequested = "JobRequested"
	conditionWaiting   = "JobWaitingForResources"
	conditionRunning   = "JobRunning"
	conditionReady     = "JobMiniClusterReady"
	conditionFinished  = "JobFinished"
)

// readyConditions is the list of conditions with which the operator says that the Job is in place. It
// stays so to the end: the operator never makes JobFinished True.
func readyConditions(existing []metav1.Condition, now time.Time) []metav1.Condition {
	for _, c := range existing {
		if c.Type == conditionReady && c.Status == metav1.ConditionTrue {
			return existing
		}
	}
	var conditions []metav1.Condition
	for _, kind := range []string{conditionRequested, conditionWaiting, conditionRunning, conditionReady, conditionFinished} {
		status := metav1.ConditionFalse
		if kind == conditionReady {
			status = metav1.ConditionTrue
		}
		conditions = append(conditions, metav1.Condition{
			Type: kind, Status: status, Reason: kind, Message: kind,
			LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		})
	}
	return conditions
}
