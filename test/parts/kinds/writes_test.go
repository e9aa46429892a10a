package kinds

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	providermachine "github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/kills"
)

// TestKillsAtWrites lets a Job, whose pods its real controller makes, grow, shrink, be edited and go, with the controller or the provider
// killed before another of its writes each time. Another one goes on from there and always comes to the same end, with as many machines as
// were wanted. test/parts/controller tells such a story of MiniClusters.
func TestKillsAtWrites(t *testing.T) {
	t.Parallel()
	cluster := inprocess.On(t, controlplanetest.Start(t, controlplane.Options{Parts: controlplane.All}))
	recorder, err := history.Start(t.Context(), cluster.Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		program      string
		first, every int64
	}{{"controller", 4, 11}, {"provider", 11, 47}} {
		// One after the other: two of them would do each other's work.
		kills.Sample(t, row.first, row.every, func(most int64) bool { return survives(t, cluster, row.program, most) })
	}
	if err := recorder.Stop(); err != nil {
		t.Fatal(err)
	}
	events := recorder.Events()
	for _, line := range slices.Concat(broken(events), history.Broken(events), history.Lost(events)) {
		t.Error(line)
	}
	t.Logf("%d versions of objects were looked at", len(events))
}

// fate is a play whose programs may be killed.
type fate struct {
	*play
	cluster              *inprocess.Cluster
	controller, provider *inprocess.Mortal
	survived             bool
}

// survives plays with one of the two killed before the write after so many, and reports whether it came to the end before.
func survives(t *testing.T, cluster *inprocess.Cluster, program string, most int64) bool {
	t.Helper()
	began, job := time.Now(), &subjects[1]
	f := &fate{
		play: &play{T: t, subject: job, name: fmt.Sprintf("%s-%d", program, most), client: cluster.Client}, cluster: cluster, survived: true,
	}
	f.alive = f.revive
	f.create()
	machines := cluster.Once(t, f.name, &v1alpha1.PoolMachineList{}, client.Object.GetName, t.Errorf)
	limits := map[string]int64{"controller": -1, "provider": -1}
	limits[program] = most
	f.controller, f.provider = f.startController(limits["controller"]), f.startProvider(limits["provider"])
	defer func() { f.controller.Stop(); f.provider.Stop() }()

	first := f.runs(2)
	f.scale(4)
	grown := f.runs(4)
	if !slices.Equal(grown[:2], first) {
		t.Errorf("%s: the first ranks were on %v and are on %v", f.name, first, grown[:2])
	}
	f.nodesFirst(2)
	f.scale(1)
	if left := f.runs(1); left[0] != first[0] {
		t.Errorf("%s: rank 0 was on %s and is on %s", f.name, first[0], left[0])
	}
	f.edit(3)
	f.runs(3)
	f.desires(3)
	f.remove()
	f.nothing()
	// 2 for the first size, 2 for the growth, and 2 for the edit after three were given back.
	if made := machines(); len(made) != 6 {
		t.Errorf("%s: %d machines were made: %v", f.name, len(made), made)
	}
	if f.survived {
		t.Logf("%s: not killed, after %s", f.name, time.Since(began).Round(time.Second))
	} else {
		t.Logf("%s: killed, and at its end after %s", f.name, time.Since(began).Round(time.Second))
	}
	return f.survived
}

// create makes what a play needs. The marks of the pods, and their gate, are what the webhook and the policy of the manifests add.
func (f *fate) create() {
	f.Helper()
	object, err := f.subject.object(f.name, f.name, 0)
	if err != nil {
		f.Fatal(err)
	}
	template := []string{"spec", "template"}
	labels := map[string]string{v1alpha1.LabelMember: member.Name(f.subject.kind, object.GetName())}
	if err := unstructured.SetNestedStringMap(object.Object, labels, append(template, "metadata", "labels")...); err != nil {
		f.Fatal(err)
	}
	gates := []any{map[string]any{"name": v1alpha1.SchedulingGate}}
	if err := unstructured.SetNestedSlice(object.Object, gates, append(template, "spec", "schedulingGates")...); err != nil {
		f.Fatal(err)
	}
	for _, o := range append(f.place(v1alpha1.AutoscalerNone, "200ms"), object) {
		if err := f.client.Create(f.Context(), o); err != nil {
			f.Fatal(err)
		}
	}
}

func (f *fate) startController(most int64) *inprocess.Mortal {
	f.Helper()
	return f.cluster.StartController(f.T, most, inprocess.ControllerOptions{Kinds: member.Kinds{subjects[0].kind, f.subject.kind}}).Mortal
}

func (f *fate) startProvider(most int64) *inprocess.Mortal {
	f.Helper()
	process := f.cluster.NewMortal(f.T, most, manager.Options{})
	options := inprocess.ProviderOptions{Waits: providermachine.Waits{EndAgain: 2 * time.Second, Sweep: time.Hour}}
	process.Run(f.T, inprocess.AddProvider(f.T, process, options).Server.Announce)
	return process
}

// revive starts what was killed again, as a kubelet does.
func (f *fate) revive() {
	f.Helper()
	if f.controller.Killed() {
		f.controller.Stop()
		f.controller, f.survived = f.startController(-1), false
	}
	if f.provider.Killed() {
		f.provider.Stop()
		f.provider, f.survived = f.startProvider(-1), false
	}
}

// nothing waits until nothing is left of the object: no pod, no member, no machine and no node.
func (f *fate) nothing() {
	f.Helper()
	f.until("nothing is left", func(ctx context.Context) (string, error) {
		pods, err := f.pods(ctx)
		if err != nil {
			return "", err
		}
		nodes, err := f.nodes(ctx)
		if err != nil {
			return "", err
		}
		var machines v1alpha1.PoolMachineList
		if err := f.client.List(ctx, &machines, client.MatchingLabels{v1alpha1.LabelNodePool: f.name}); err != nil {
			return "", err
		}
		err = f.client.Get(ctx, f.memberKey(), &v1alpha1.EnsembleMember{})
		if gone := apierrors.IsNotFound(err); !gone || len(pods)+len(nodes)+len(machines.Items) > 0 {
			return fmt.Sprintf("%d pods, %d nodes and %d machines are there, and the member is gone: %t", len(pods), len(nodes),
				len(machines.Items), gone), client.IgnoreNotFound(err)
		}
		return "", nil
	})
}
