package faults

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// startSystem starts the real binary beside a control plane of its own.
func startSystem(t *testing.T, options system.Options) *system.System {
	t.Helper()
	options.Progress, options.LogDir, options.ProviderOnly = os.Stderr, t.ArtifactDir(), true
	s, err := system.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// asks is a connection to one replica, as Cluster Autoscaler has it.
type asks struct {
	t       *testing.T
	s       *system.System
	address string
}

func (a asks) call(ask func(context.Context, externalgrpc.CloudProviderClient) error) error {
	ctx, cancel := context.WithTimeout(a.t.Context(), callTimeout)
	defer cancel()
	return a.s.AsAutoscalerAt(ctx, a.address, ask)
}

// callTimeout is how long Cluster Autoscaler waits for an answer by default.
const callTimeout = 5 * time.Second

func (a asks) increase(name string, delta int32) error {
	return a.call(func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
		_, err := c.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: delta})
		return err
	})
}

// increaseTo asks for what is missing to a target. What took too long may have been recorded all the same, so the target is
// read before it is asked for again.
func (a asks) increaseTo(name string, target int32) error {
	return insist(func() error {
		var pool v1alpha1.NodePool
		if err := a.s.Client.Get(a.t.Context(), client.ObjectKey{Name: name}, &pool); err != nil || pool.Spec.Replicas == target {
			return err
		}
		return a.increase(name, target-pool.Spec.Replicas)
	})
}

// insist makes a call again that took too long on a busy machine.
func insist(call func() error) (err error) {
	const tries = 6
	for range tries {
		if err = call(); status.Code(err) != codes.DeadlineExceeded {
			break
		}
	}
	return err
}

func (a asks) deleteNodes(name string, nodes ...string) error {
	return a.call(func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
		_, err := c.NodeGroupDeleteNodes(ctx, deletionOf(name, nodes...))
		return err
	})
}

// target waits until the replica knows a target.
func (a asks) target(name string, want int32) {
	a.t.Helper()
	inprocess.Until(a.t, func(context.Context) (missing string, err error) {
		err = a.call(func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			answer, err := c.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: name})
			if err == nil && answer.GetTargetSize() != want {
				missing = fmt.Sprintf("the target is %d, not %d", answer.GetTargetSize(), want)
			}
			return err
		})
		if err != nil {
			missing = err.Error()
		}
		return missing, nil
	})
}

// leaderOf is who holds the lease of the providers.
func leaderOf(ctx context.Context, s *system.System) (string, error) {
	var lease coordinationv1.Lease
	if err := s.Client.Get(ctx, client.ObjectKey{Namespace: system.Namespace, Name: "ensemble-autoscaler-provider"}, &lease); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return "", nil
	}
	return *lease.Spec.HolderIdentity, nil
}

// anotherLeads waits until somebody else holds the lease.
func anotherLeads(t *testing.T, s *system.System, than string) (leader string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var err error
		if leader, err = leaderOf(ctx, s); err != nil || (leader != "" && leader != than) {
			return "", err
		}
		return fmt.Sprintf("the lease is held by %q", leader), nil
	})
	return leader
}

// TestLostLeader: the replica that leads is cut off from the API server, and ends, and another one leads; that one is
// killed in the middle of a deletion, and the first goes on when it is back. Cluster Autoscaler is answered by either
// all the time, and its requests survive.
func TestLostLeader(t *testing.T) {
	t.Parallel()
	const name = "leaders"
	s := startSystem(t, system.Options{LeaderElection: true})
	record(t, s.Client, name)
	apiServer, err := url.Parse(s.Plane.URL())
	if err != nil {
		t.Fatal(err)
	}
	network := newGate(t, apiServer.Host)
	// The first replica gives its lease up when it is asked to end, so that the one behind the gate leads next.
	nobody := anotherLeads(t, s, "")
	if err := s.Provider.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	a, err := s.AddReplica(t.Context(), "provider-a", "https://"+network.address())
	if err != nil {
		t.Fatal(err)
	}
	leaderA := anotherLeads(t, s, nobody)
	b, err := s.AddReplica(t.Context(), "provider-b", "")
	if err != nil {
		t.Fatal(err)
	}
	pool := nodePool(name)
	pool.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: 500 * time.Millisecond}
	if err := s.Client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	viaA, viaB := asks{t, s, a.Address}, asks{t, s, b.Address}

	// Either answers, and the one that leads acts.
	viaA.target(name, 0)
	viaB.target(name, 0)
	if err := viaB.increaseTo(name, 1); err != nil {
		t.Fatal(err)
	}
	viaA.target(name, 1)
	if err := viaA.increaseTo(name, 2); err != nil {
		t.Fatal(err)
	}
	viaB.target(name, 2)
	hasNodes(t, s.Client, name, 2)

	// The leader is cut off. It records nothing, and says so; the other one records, and acts when it leads.
	network.close()
	cut := time.Now()
	ended := make(chan time.Duration, 1)
	go func(done <-chan struct{}) {
		<-done
		ended <- time.Since(cut)
	}(a.Done())
	if err := viaA.increase(name, 1); err == nil {
		t.Error("a replica that is cut off has granted an IncreaseSize")
	}
	if err := viaB.increaseTo(name, 3); err != nil {
		t.Errorf("IncreaseSize by the replica that does not lead yet: %v", err)
	}
	viaB.target(name, 3)
	leaderB := anotherLeads(t, s, leaderA)
	// Where it leaves no time between the two is a busy machine, not a wrong setting: the figures are told below.
	took := time.Since(cut)
	waiting, cancel := context.WithTimeout(t.Context(), inprocess.Patience)
	defer cancel()
	var exit *exec.ExitError
	if err := a.Wait(waiting); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("the replica that has lost its lease ended with %v, not with exit status 1", err)
	}
	if log, err := os.ReadFile(a.LogFile()); err != nil || !strings.Contains(string(log), "leader election lost") {
		t.Errorf("its log does not say that it lost the election (%v)", err)
	}
	t.Logf(
		"the replica that was cut off ended after %s, the other one led after %s", (<-ended).Round(10*time.Millisecond),
		took.Round(10*time.Millisecond),
	)
	nodes := hasNodes(t, s.Client, name, 3).ready

	// It is started again, as a kubelet does, and does not lead. The leader is killed after its answer.
	network.open()
	if err := errors.Join(a.Start(), a.Ready(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := insist(func() error { return viaB.deleteNodes(name, nodes[0]) }); err != nil {
		t.Fatal(err)
	}
	if err := b.Kill(); err != nil {
		t.Fatal(err)
	}
	viaA.target(name, 2)
	if err := insist(func() error { return viaA.deleteNodes(name, nodes[0]) }); err != nil {
		t.Errorf("DeleteNodes repeated at the other replica: %v", err)
	}
	if err := viaA.increaseTo(name, 4); err != nil {
		t.Errorf("IncreaseSize while nobody leads: %v", err)
	}
	viaA.target(name, 4)
	anotherLeads(t, s, leaderB)
	seen := hasNodes(t, s.Client, name, 4)
	if slices.Contains(seen.ready, nodes[0]) {
		t.Errorf("%s was deleted and is among %v", nodes[0], seen.ready)
	}
	if ordered := seen.pool.Status.MachinesOrdered; ordered != 5 {
		t.Errorf("%d machines were ordered in all, not 5", ordered)
	}
}
