package reality

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestQuotaOfPods: a growth ends where the quota of the namespace does. The member is not Ready, says so in the words of its Job, gives
// the nodes back that no pod comes to, and goes on wanting what it wants.
func TestQuotaOfPods(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, timeout: "30s"})
	x.atMost(p, 2+4+4+1, "2 for the creation, 3 for each of two attempts, and 1 in the place of one of no use for both")
	m := x.cluster("m", 2, cluster{}, p)
	x.atSize(m, 2)
	x.quota("2")
	x.scale(m, 5)
	x.size(m, 5)
	x.says(m, notMade(), "3 of 5 pods", "exceeded quota: pods")
	x.says(m, append(notMade(), v1alpha1.ReasonBackingOff), "exceeded quota: pods")
	x.machines(p, 2)
	x.size(m, 2)
	x.within(p, 6)
	x.look(func(s *history.State) {
		if wants := s.Members[m].Spec.Size; wants != 5 {
			x.Errorf("the member wants %d, and was told to want 5", wants)
		}
		if ready := condition(s.Members[m], v1alpha1.ConditionReady); ready.Status != "False" {
			x.Errorf("the member says %s", words(s.Members[m]))
		}
	})
	x.quota("20")
	x.atSize(m, 5)
	x.machines(p, 5)
}

// TestQuotaAtCreation: of a size that a user has written, some pods are made. The size is the user's and stays.
func TestQuotaAtCreation(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, timeout: "30s"})
	x.quota("2")
	x.atMost(p, 3+1+5+1, "4 nodes for each attempt and 1 replacement in all")
	m := x.cluster("m", 4, cluster{}, p)
	x.says(m, notMade(), "2 of 4 pods", "exceeded quota: pods")
	x.until(func(s *history.State) string {
		return unless(len(machinesOf(s, p)) <= 2, "%s has the machines %v, and 2 pods exist", p, machinesOf(s, p))
	})
	x.size(m, 4)
	x.quota("20")
	x.atSize(m, 4)
	x.machines(p, 4)
}

// TestPodsNotMade: whatever keeps a Job from making pods, the nodes for them are given back, and the member says why. No machine is
// bought until there are pods; the size that the user wrote stays.
func TestPodsNotMade(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		labels []string
		pod    string
		says   string
		repair func(x *tenant)
	}{
		"Pod Security": {
			labels: []string{"pod-security.kubernetes.io/enforce: restricted"}, says: `violates PodSecurity "restricted:latest"`,
			repair: func(x *tenant) { x.label(`"pod-security.kubernetes.io/enforce":null`) },
		},
		"a policy that refuses": {
			labels: []string{"reality.example.com/refuse: pods"}, says: "the auditors want no pods here",
			repair: func(x *tenant) { x.label(`"reality.example.com/refuse":null`) },
		},
		"no ServiceAccount": {
			pod: "serviceAccountName: nobody", says: `serviceaccount "nobody" not found`,
			repair: func(x *tenant) {
				x.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody, namespace: %s}}", x.namespace)
			},
		},
		"an overhead without a RuntimeClass": {
			labels: []string{"reality.example.com/inject: bare-overhead"}, says: "RuntimeClass",
			repair: func(x *tenant) { x.label(`"reality.example.com/inject":null`) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTenant(t, row.labels...)
			p := x.pool("p", pool{maxSize: 30, timeout: "30s"})
			m := x.cluster("m", 3, cluster{pod: row.pod}, p)
			x.atMost(p, 3+1+3, "3 for the claim and 1 in the place of one of no use, and 3 when there are pods")
			x.says(m, append(notMade(), v1alpha1.ReasonBackingOff), "3 of 3 pods", row.says)
			x.until(func(s *history.State) string {
				return unless(s.Members[m].Status.Reserved == 0, "%d nodes are reserved for pods that nobody makes", s.Members[m].Status.Reserved)
			})
			x.machines(p, 0)
			x.within(p, 4)
			x.says(m, append(notMade(), v1alpha1.ReasonBackingOff), row.says)
			x.size(m, 3)
			row.repair(x)
			x.atSize(m, 3)
			x.machines(p, 3)
		})
	}
}

// TestCrashLoop: a pod that runs stops to. Its node stays the member's, which says what the kubelet says.
func TestCrashLoop(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, timeout: "20s"})
	x.atMost(p, 2, "a pod that crashes needs no other node")
	m := x.cluster("m", 2, cluster{}, p)
	x.atSize(m, 2)
	pods := x.pods(m, 2)
	x.patchStatus(podObject(pods[1]), `{"status":{"conditions":[{"type":"Ready","status":"False"},{"type":"ContainersReady","status":"False"}],
		"containerStatuses":[{"name":"m","image":"ubuntu:noble","imageID":"","ready":false,"restartCount":7,"started":false,
		"state":{"running":null,"waiting":{"reason":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container=m"}}}]}}`)
	x.says(m, []string{v1alpha1.ReasonPodsNotStarted}, "1 of 2 pods", "CrashLoopBackOff")
	x.keepsNodes(m, p, 2)
	x.patchStatus(podObject(pods[1]), `{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"ContainersReady","status":"True"}],
		"containerStatuses":[{"name":"m","image":"ubuntu:noble","imageID":"","ready":true,"restartCount":8,"started":true,"state":{"waiting":null,"running":{}}}]}}`)
	x.atSize(m, 2)
}

// TestImagePull: pods are bound and their image cannot be had.
func TestImagePull(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, timeout: "20s"})
	x.atMost(p, 2, "a pod without its image needs no other node")
	m := x.cluster("m", 2, cluster{pod: `annotations: {test.ensemble-autoscaler/does-not-start: "true"}`}, p)
	var pods []*corev1.Pod
	x.until(func(s *history.State) string {
		bound := 0
		pods = s.PodsOf(m)
		for _, pod := range pods {
			if pod.Spec.NodeName != "" {
				bound++
			}
		}
		return unless(bound == 2, "%d of 2 pods are bound", bound)
	})
	for _, pod := range pods {
		x.patchStatus(podObject(pod), `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"ContainersNotReady"}],
			"containerStatuses":[{"name":"m","image":"ubuntu:noble","imageID":"","ready":false,"restartCount":0,"started":false,
			"state":{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image \"ubuntu:noble\""}}}]}}`)
	}
	x.says(m, []string{v1alpha1.ReasonPodsNotStarted}, "0 of 2 pods run", "ImagePullBackOff")
	x.keepsNodes(m, p, 2)
	for _, pod := range pods {
		x.patch(podObject(pod), `{"metadata":{"annotations":{"test.ensemble-autoscaler/does-not-start":null}}}`)
	}
	x.atSize(m, 2)
}

// notMade are the reasons that a member may give while pods are lacking.
func notMade() []string { return []string{v1alpha1.ReasonPodsNotMade} }

// quota lets a namespace have that many pods. It waits until the quota is counted: before that it stops nobody.
func (x *tenant) quota(pods string) {
	x.Helper()
	x.apply("{apiVersion: v1, kind: ResourceQuota, metadata: {name: pods, namespace: %s}, spec: {hard: {pods: %q}}}", x.namespace, pods)
	x.poll("the quota counts", func() (bool, error) {
		var quota corev1.ResourceQuota
		if err := shared.Client.Get(x.Context(), x.key("pods"), &quota); err != nil {
			return false, err
		}
		hard := quota.Status.Hard[corev1.ResourcePods]
		return hard.String() == pods, nil
	})
}

// size waits until a MiniCluster has a size, whatever its pods do.
func (x *tenant) size(cluster types.NamespacedName, size int) {
	x.Helper()
	x.until(func(s *history.State) string {
		return unless(s.Size(cluster) == int64(size), "%s has size %d, not %d: %s", cluster, s.Size(cluster), size, words(s.Members[cluster]))
	})
}

// keepsNodes checks that the nodes of a member stay, beyond its provisionTimeout of 20 s.
func (x *tenant) keepsNodes(m types.NamespacedName, pool string, nodes int) {
	x.Helper()
	x.staysUntil(time.Now().Add(25*time.Second), func(s *history.State) string {
		if held := heldBy(s, m); len(held) != nodes || len(machinesOf(s, pool)) != nodes {
			return fmt.Sprintf("%v are held, of the machines %v, and pods are on %d nodes", held, machinesOf(s, pool), nodes)
		}
		return ""
	})
}
