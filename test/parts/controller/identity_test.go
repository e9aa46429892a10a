package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/peer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// from is a request from an address.
func from(ctx context.Context, ip string) context.Context {
	return peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 40000}})
}

// withAddress makes a pod that nobody schedules and gives it an address and a phase. One whose owner does not exist may
// be gone by then: the garbage collector looks for such.
func withAddress(t *testing.T, name, ip string, phase corev1.PodPhase, change func(*corev1.Pod)) {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: name},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody", Containers: []corev1.Container{{Name: "c", Image: "i"}},
		},
	}
	change(p)
	if err := cluster.Client.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	// A patch, which the Job controller and the garbage collector cannot get in the way of.
	before := p.DeepCopy()
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = phase, ip, []corev1.PodIP{{IP: ip}}
	if err := cluster.Client.Status().Patch(t.Context(), p, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
}

// TestWhoMayAsk: a request is taken for that of the pod whose address it comes from, and of no other.
// It is not parallel: two controllers would do each other's work.
func TestWhoMayAsk(t *testing.T) {
	x := newScene(t, "asks", 1)
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 1) }, nil)
	same := func(*corev1.Pod) {}
	withAddress(t, "ended", "203.0.113.1", corev1.PodSucceeded, same)
	withAddress(t, "on-the-host", "203.0.113.2", corev1.PodRunning, func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	withAddress(t, "one-of-two", "203.0.113.3", corev1.PodRunning, same)
	withAddress(t, "two-of-two", "203.0.113.3", corev1.PodRunning, same)
	withAddress(t, "of-a-false-job", "203.0.113.4", corev1.PodRunning, func(p *corev1.Pod) {
		// Anybody who may create pods can write such an owner; its uid gives it away.
		p.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "batch/v1", Kind: "Job", Name: "asks", UID: "not-that-of-the-job", Controller: new(true)},
		}
	})
	for ip, says := range map[string]string{
		"203.0.113.1": "belongs to no running pod",
		"203.0.113.2": "belongs to no running pod",
		"203.0.113.3": "belongs to 2 pods",
		// The garbage collector may have removed the pod already.
		"203.0.113.4": "belongs to no",
		"203.0.113.9": "belongs to no running pod",
	} {
		x.until(func(*seen) string {
			response, err := p.server.RequestAction(
				from(t.Context(), ip), &ensemble.ActionRequest{Member: "minicluster", Name: "asks", Action: "grow"},
			)
			if err != nil {
				return err.Error()
			}
			if response.GetStatus() != ensemble.Response_DENIED || !strings.Contains(response.GetPayload(), says) {
				return fmt.Sprintf("the answer to %s is %s, not DENIED with %q", ip, response, says)
			}
			return ""
		}, nil)
	}
	x.until(func(s *seen) string {
		if s.member.Spec.Size != 1 || s.member.Spec.Request != nil {
			t.Errorf("a request that was denied has changed the desired size to %d", s.member.Spec.Size)
		}
		return ""
	}, nil)
}

// TestRequestsAtOnce: of requests at the same time none is lost, and the status tells what became of them.
// It is not parallel: two controllers would do each other's work.
func TestRequestsAtOnce(t *testing.T) {
	x := newScene(t, "at-once", 1)
	p := start(t, -1)
	defer p.Stop()
	ip := ""
	x.until(func(s *seen) string {
		if missing := notAtSize(s, 1); missing != "" {
			return missing
		}
		var pods corev1.PodList
		if err := cluster.Client.List(t.Context(), &pods); err != nil {
			return err.Error()
		}
		for i := range pods.Items {
			if strings.HasPrefix(pods.Items[i].Name, "at-once-") {
				ip = pods.Items[i].Status.PodIP
			}
		}
		response, err := p.server.RequestStatus(from(t.Context(), ip), &ensemble.StatusRequest{Member: "minicluster", Name: "at-once"})
		if err != nil || response.GetStatus() != ensemble.Response_SUCCESS {
			return fmt.Sprintf("the status is %v, %v", response, err)
		}
		return ""
	}, nil)

	var asking sync.WaitGroup
	granted := make(chan ensemble.Response_ResultType, 3)
	for range 3 {
		asking.Go(func() {
			response, err := p.server.RequestAction(
				from(t.Context(), ip), &ensemble.ActionRequest{Member: "minicluster", Name: "at-once", Action: "grow", Payload: `{"grow":"1"}`},
			)
			if err != nil {
				t.Error(err)
			}
			granted <- response.GetStatus()
		})
	}
	asking.Wait()
	close(granted)
	size := 1
	for status := range granted {
		if status == ensemble.Response_SUCCESS {
			size++
		} else {
			t.Errorf("a request was answered %s", status)
		}
	}
	x.until(func(s *seen) string { return notAtSize(s, size) }, nil)

	x.until(func(*seen) string {
		response, err := p.server.RequestStatus(from(t.Context(), ip), &ensemble.StatusRequest{Member: "minicluster", Name: "at-once"})
		if err != nil {
			return err.Error()
		}
		var status struct {
			Nodes struct {
				Up int `json:"node_up_count"`
			}
			Resize struct {
				Wants, Has, Reserved int
				State                string
			}
		}
		if err := json.Unmarshal([]byte(response.GetPayload()), &status); err != nil {
			return err.Error()
		}
		if status.Nodes.Up != size || status.Resize.Wants != size || status.Resize.Has != size || status.Resize.State != v1alpha1.ConditionReady {
			return fmt.Sprintf("the status is %s, and the size %d", response.GetPayload(), size)
		}
		return ""
	}, nil)
}
