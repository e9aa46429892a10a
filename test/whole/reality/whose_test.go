package reality

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestUnreadable: a MiniCluster that cannot be read is not one that is being deleted. It keeps what it has and says what is wrong.
func TestUnreadable(t *testing.T) {
	if os.Getenv(system.FluxOperatorVariable) != "" {
		t.Skip("the real Flux Operator cannot read any MiniCluster while one has such a value")
	}
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20})
	x.atMost(p, 3, "nothing is given back and bought again")
	m := x.cluster("m", 3, cluster{}, p)
	x.atSize(m, 3)
	containers := `{"spec":{"containers":[{"image":"ubuntu:noble","runFlux":true,"resources":{"requests":{"cpu":"%s"}}}]}}`
	x.patch(clusterObject(m), containers, "1e99999999999999999999")
	x.says(m, []string{v1alpha1.ReasonInvalid}, "quantity")
	x.event(m, v1alpha1.ReasonInvalid, "quantity")
	x.scale(m, 5)
	x.until(func(s *history.State) string {
		member := s.Members[m]
		return unless(condition(member, v1alpha1.ConditionReady).ObservedGeneration == member.Generation, "the new size has not been seen")
	})
	x.says(m, []string{v1alpha1.ReasonInvalid}, "quantity")
	x.within(p, 3)
	x.size(m, 3)
	x.look(func(s *history.State) {
		if held := heldBy(s, m); len(held) != 3 {
			x.Errorf("a MiniCluster that cannot be read has the nodes %v, and had 3", held)
		}
	})
	x.atMost(p, 5, "2 when it can be read")
	x.patch(clusterObject(m), containers, "3")
	x.atSize(m, 5)
}

// TestPodOfAnotherNamespace: whoever knows the UID of a Job, which is no secret, cannot make pods that count as its own.
func TestPodOfAnotherNamespace(t *testing.T) {
	x, evil := newTenant(t), ""
	p := x.pool("p", pool{maxSize: 20, more: "minSize: 3"})
	m := x.cluster("m", 2, cluster{}, p)
	x.atSize(m, 2)
	evil = x.namespace + "-evil"
	x.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", evil)
	free := ""
	x.until(func(s *history.State) string {
		held := heldBy(s, m)
		for _, node := range s.NodesOf(p) {
			if !slices.Contains(held, node) {
				free = node
			}
		}
		return unless(free != "", "no node is free")
	})
	var job batchv1.Job
	if err := shared.Client.Get(x.Context(), m, &job); err != nil {
		t.Fatal(err)
	}
	// The garbage collector deletes a pod whose Job is in another namespace, but not one whose owner is of a kind that it cannot find.
	x.apply(`
apiVersion: v1
kind: Pod
metadata:
  name: m-1-evil
  namespace: %s
  labels: {job-name: m, app.kubernetes.io/name: m, hpa-selector: m, batch.kubernetes.io/job-completion-index: "5", autoscaling.flux-framework.org/member: m}
  annotations: {batch.kubernetes.io/job-completion-index: "5"}
  ownerReferences: [{apiVersion: evil.example.com/v1, kind: Job, name: m, uid: %s, controller: true}]
spec: {serviceAccountName: default, automountServiceAccountToken: false, nodeName: %s, tolerations: [{operator: Exists}], containers: [{name: m, image: i, resources: {requests: {cpu: "1"}}}]}
`, evil, job.UID, free)
	x.until(func(s *history.State) string {
		for _, pod := range s.PodsOn(free) {
			if pod.Namespace == evil && pod.Status.Phase == corev1.PodRunning {
				return ""
			}
		}
		return "the pod of the other namespace does not run"
	})
	x.staysUntil(time.Now().Add(5*time.Second), func(s *history.State) string {
		return unless(!slices.Contains(heldBy(s, m), free), "%s is held for %s, because of a pod in %s", free, m, evil)
	})
	x.atSize(m, 2)
}

// TestDeletedWhileWaiting: a MiniCluster is deleted whose pods wait behind the gate, and have for a while. None of them gets out.
func TestDeletedWhileWaiting(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20, kwok: "bootDelay: 10m", timeout: "20m"})
	m := x.cluster("m", 10, cluster{}, p)
	x.until(func(s *history.State) string {
		return unless(gatedOf(s, m) == 10, "%d of 10 pods are behind the gate", gatedOf(s, m))
	})
	// Pods that are younger may be those of a MiniCluster that has not been seen yet.
	x.staysUntil(time.Now().Add(15*time.Second), func(s *history.State) string {
		return unless(gatedOf(s, m) == 10, "%d of 10 pods are behind the gate", gatedOf(s, m))
	})
	x.remove(m)
	x.until(func(s *history.State) string {
		left := 0
		for _, pod := range s.Pods {
			if pod.Namespace == x.namespace {
				left++
			}
		}
		return unless(left == 0 && s.Members[m] == nil, "%d pods are still there", left)
	})
	for _, event := range shared.recorder.Events() {
		pod, is := event.Object.(*corev1.Pod)
		if before, was := event.Before.(*corev1.Pod); is && was && pod.Namespace == x.namespace && history.Gated(before) && !history.Gated(pod) {
			x.Errorf("pod %s has lost its gate while its MiniCluster was being deleted", pod.Name)
		}
	}
	x.machines(p, 0)
}

// TestAllowedNamespaces: who may name a pool is asked when a MiniCluster is created, and when more is to be granted.
func TestAllowedNamespaces(t *testing.T) {
	x := newTenant(t, "team: blue")
	p := x.pool("p", pool{maxSize: 20, more: "allowedNamespaces: {matchLabels: {team: red}}"})
	err := x.create("m", 2, cluster{}, p)
	if err == nil || !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), "allowedNamespaces") {
		t.Errorf("a MiniCluster of a namespace that may not name its pool is answered %v", err)
	}
	x.within(p, 0)
	x.label(`"team":"red"`)
	m := x.key("m")
	x.poll("the webhook has seen the label", func() (bool, error) { return x.create("m", 2, cluster{}, p) == nil, nil })
	x.atSize(m, 2)
	x.label(`"team":"blue"`)
	x.scale(m, 4)
	x.says(m, []string{v1alpha1.ReasonNamespaceNotAllowed}, p)
	x.size(m, 2)
	x.within(p, 2)
	x.look(func(s *history.State) {
		if held := heldBy(s, m); len(held) != 2 || len(s.PodsOf(m)) != 2 {
			x.Errorf("what is held does not stay: %v", held)
		}
	})
	x.label(`"team":"red"`)
	x.atSize(m, 4)
}
