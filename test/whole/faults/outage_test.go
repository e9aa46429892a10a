package faults

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

const (
	// outage is how long the API server is down.
	outage = time.Minute
	// maxStaleness is the provider's default for --max-staleness. It asks the API server three times in it, so the
	// answers end between two thirds of it and all of it after the start of the outage.
	maxStaleness = 30 * time.Second
	// slack is how late a busy machine may notice that it is cut off, and catchUp how late that it is not any more.
	slack, catchUp = 10 * time.Second, 30 * time.Second
	// recovery is how long the machines may take to come when the API server is back. After a minute of failures
	// client-go tries a watch again every 30 to 60 seconds, in the provider and in kwok.
	recovery = 3 * time.Minute
	// loop is the time between two loops of Cluster Autoscaler.
	loop = 500 * time.Millisecond
)

// loops is what Cluster Autoscaler has seen in its loops during an outage.
type loops struct {
	// answered is when the last loop began that was answered, refused how many were refused.
	answered time.Time
	refused  int
}

// TestAPIServerDownForAMinute: a minute without API server, while machines boot, takes no restart. Cluster Autoscaler is
// answered from memory up to --max-staleness, is refused with Unavailable from then on, and is never told that there
// are no groups; what it asks to change in that time fails and changes nothing. Afterwards everything goes on by itself,
// and no machine was lost or ordered twice.
//
// The minute costs waiting and no work, so the test runs beside the others.
func TestAPIServerDownForAMinute(t *testing.T) {
	t.Parallel()
	const name = "outage"
	s := startSystem(t, system.Options{})
	via := asks{t, s, s.ProviderAddress}
	pool := nodePool(name)
	if err := s.Client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	via.target(name, 0)
	if err := via.increaseTo(name, 2); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, s.Client, name, 2)

	// Two more machines are on order when the API server goes, and are to register while it is down.
	if err := edit(t.Context(), s.Client, name, func(p *v1alpha1.NodePool) {
		p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: 10 * time.Second}
	}); err != nil {
		t.Fatal(err)
	}
	if err := via.increaseTo(name, 4); err != nil {
		t.Fatal(err)
	}
	var before *sight
	inprocess.Until(t, func(ctx context.Context) (missing string, err error) {
		if before, err = look(ctx, s.Client, name); err != nil || len(before.machines) == 4 {
			return "", err
		}
		return "the machines are not on order yet", nil
	})
	pid := s.Provider.Pid()
	down := time.Now()
	if err := s.Plane.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := via.increase(name, 1); err == nil {
		t.Error("IncreaseSize was granted and could not be recorded")
	}
	if err := via.deleteNodes(name, before.ready[0]); err == nil {
		t.Error("DeleteNodes was granted and could not be recorded")
	}
	seen := loopUntil(t, via, down.Add(outage))
	if lasted := seen.answered.Sub(down); lasted < maxStaleness/2 || lasted > maxStaleness+slack {
		t.Errorf("Cluster Autoscaler was answered from memory for %s, which should be %s to %s", lasted, maxStaleness*2/3, maxStaleness)
	}
	if seen.refused == 0 {
		t.Error("no loop was refused")
	}
	t.Logf("%d loops were refused", seen.refused)
	if err := s.Plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}

	// An edit that every cache has yet to hear of.
	if err := edit(t.Context(), s.Client, name, func(p *v1alpha1.NodePool) { p.Spec.MaxSize++ }); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	var stale time.Duration
	var after *sight
	inprocess.UntilWithin(t, recovery, loop, func(ctx context.Context) (missing string, err error) {
		if after, err = look(ctx, s.Client, name); err != nil {
			return "", err
		}
		if maxSize, err := via.maxSize(name); err == nil && maxSize != after.pool.Spec.MaxSize {
			stale = time.Since(up)
		}
		return after.lacksNodes(4), nil
	})
	t.Logf("the machines that were to come in the meantime are Ready %s after the end of the outage", time.Since(up).Round(time.Second))
	inprocess.Until(t, func(context.Context) (string, error) {
		_, err := via.maxSize(name)
		return refusal(err), nil
	})
	// The API server can be reached, and the watches are tried again only after half a minute or more.
	if stale > catchUp {
		t.Errorf("Cluster Autoscaler was answered from before the outage up to %s after its end", stale.Round(time.Second))
	}
	if err := via.increaseTo(name, 5); err != nil {
		t.Errorf("IncreaseSize after the outage: %v", err)
	}
	if err := insist(func() error { return via.deleteNodes(name, before.ready[0]) }); err != nil {
		t.Errorf("DeleteNodes after the outage: %v", err)
	}
	end := hasNodes(t, s.Client, name, 4)
	if before, after := identities(before), identities(after); !maps.Equal(before, after) {
		t.Errorf("the machines were %v, and are %v", before, after)
	}
	if slices.Contains(end.ready, before.ready[0]) || end.pool.Status.MachinesOrdered != 5 {
		t.Errorf("%d machines were ordered, not 5, and Ready are %v without %s", end.pool.Status.MachinesOrdered, end.ready, before.ready[0])
	}
	metrics, err := s.Metrics(t.Context(), s.ProviderMetrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range []string{
		`machines{nodepool="outage",state="running"} 4`, `machine_time_to_ready_seconds_count 5`,
		`machines_released_total{decided_by="cluster_autoscaler",nodepool="outage"} 1`,
	} {
		if !strings.Contains(metrics, "ensemble_autoscaler_nodepool_"+metric+"\n") {
			t.Errorf("the metrics lack %s", metric)
		}
	}
	if !s.Provider.Running() || s.Provider.Pid() != pid {
		t.Errorf("the provider was process %d and is %d", pid, s.Provider.Pid())
	}
}

// maxSize is what Cluster Autoscaler is told in a loop, with the error of Refresh where that fails.
func (a asks) maxSize(name string) (maxSize int32, err error) {
	err = a.call(func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
		if _, err := c.Refresh(ctx, &externalgrpc.RefreshRequest{}); err != nil {
			return err
		}
		groups, err := c.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
		for _, group := range groups.GetNodeGroups() {
			if group.GetId() == name {
				maxSize = group.GetMaxSize()
			}
		}
		return err
	})
	return maxSize, err
}

// refusal is an error in words, empty for none.
func refusal(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func identities(s *sight) map[string]types.UID {
	uids := map[string]types.UID{}
	for name, machine := range s.machines {
		uids[name] = machine.UID
	}
	return uids
}

// loopUntil goes through loops of Cluster Autoscaler until that time.
func loopUntil(t *testing.T, via asks, end time.Time) loops {
	t.Helper()
	var seen loops
	ctx, cancel := context.WithDeadline(t.Context(), end)
	defer cancel()
	_ = wait.PollUntilContextCancel(ctx, loop, true, func(context.Context) (bool, error) { // It ends with the time.
		asked := time.Now()
		switch err := via.call(aLoop(t)); {
		case err == nil:
			seen.answered = asked
			if seen.refused > 0 {
				t.Error("a loop was answered after others had been refused")
			}
		case status.Code(err) == codes.DeadlineExceeded: // It took too long on a busy machine.
		case status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the API server has not been reached for"):
			t.Errorf("a loop was refused with %v", err)
		default:
			seen.refused++
		}
		return false, nil
	})
	return seen
}

// aLoop is the begin of one, while the API server is down. NodeGroups fails when Refresh does, and never loses a group.
func aLoop(t *testing.T) func(context.Context, externalgrpc.CloudProviderClient) error {
	t.Helper()
	return func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
		_, refresh := c.Refresh(ctx, &externalgrpc.RefreshRequest{})
		groups, err := c.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
		if err == nil && len(groups.GetNodeGroups()) != 1 {
			t.Errorf("there are %d groups, not 1", len(groups.GetNodeGroups()))
		}
		if refresh != nil && err == nil {
			t.Errorf("NodeGroups answered where Refresh had refused, and nothing can have changed: %v", refresh)
		}
		if refresh != nil {
			return refresh
		}
		return err
	}
}
