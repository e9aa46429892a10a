package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// testSlowCloud: a cloud that takes half a minute for a call delays neither another pool's growth nor a pass over its own pool.
func testSlowCloud(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const slow, quick = "slow", "quick"
	newPool(t, slow, target(3), role(func(k *v1alpha1.KwokMachines) { k.CallDelay = after(30 * time.Second) }))
	await(t, slow, func(s *state) string { return missing(w.cloud.launches(slow) > 0, "the cloud is not asked") })
	began := time.Now()
	newPool(t, quick, alone)
	cluster.Reserve(t, cluster.NewMember(t, quick), 4)
	hasNodes(t, quick, 4)
	edit(t, slow, func(p *v1alpha1.NodePool) { p.Spec.MaxSize = 7 })
	edited := time.Now()
	s := await(t, slow, func(s *state) string {
		return missing(s.pool.Status.ObservedGeneration == s.pool.Generation, "the status does not follow the edit")
	})
	// Each is a matter of a second where nothing else runs; the cloud takes thirty.
	if took := time.Since(edited); took > 15*time.Second {
		t.Errorf("the status of the pool has followed an edit after %s", took)
	}
	if took := time.Since(began); took > 28*time.Second || len(s.ready) > 0 || len(s.machines) != 3 {
		t.Errorf("another pool's growth took %s; of the slow cloud %v are Ready", took, s.ready)
	}
}

func missing(there bool, what string) string {
	if there {
		return ""
	}
	return what
}

// testThrottled: that the cloud asks to be asked later is a condition and no failure, and is told once.
func testThrottled(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "throttled"
	w.cloud.throttle(name, true)
	newPool(t, name, target(3))
	says(t, name, v1alpha1.ConditionThrottled, metav1.ConditionTrue, "the cloud is busy")
	before := w.cloud.launches(name)
	s := await(t, name, func(*state) string { return missing(w.cloud.launches(name) > before+2, "the cloud is not asked again") })
	for _, m := range s.machines {
		if m.Status.Failure != nil {
			t.Errorf("%s has failed: %v", m.Name, m.Status.Failure)
		}
	}
	if s.pool.Status.LastFailure != nil || len(s.pool.Status.FailedMachines) > 0 {
		t.Errorf("the pool has the failure %v", s.pool.Status.LastFailure)
	}
	w.lists(t, name, map[string]string{placeholder(name, 0): "Creating", placeholder(name, 1): "Creating", placeholder(name, 2): "Creating"})
	w.cloud.throttle(name, false)
	hasNodes(t, name, 3)
	says(t, name, v1alpha1.ConditionThrottled, metav1.ConditionFalse, "")
	if told := warnings(t, name); len(told) > 0 {
		t.Errorf("there are warnings: %q", told)
	}
}

// testLostReplies: an order whose reply is lost is repeated, and makes nothing twice; that is told once.
func testLostReplies(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "lost"
	seen := watchInstances(t, name)
	// A listing would tell of what was made.
	newPool(t, name, target(4), role(func(k *v1alpha1.KwokMachines) {
		k.LostReplyPercent, k.ListingLag, k.BootDelay = 90, after(30*time.Second), *after(3 * time.Second)
	}))
	hasNodes(t, name, 4)
	if made := seen(); !slices.Equal(made, []string{"lost-0", "lost-1", "lost-2", "lost-3"}) {
		t.Errorf("made were %v", made)
	}
	if n := w.cloud.launches(name); n < 2 {
		t.Errorf("the cloud was asked %d times, though each first reply is lost", n)
	}
	if told := warnings(t, name); len(told) != 1 || !strings.Contains(told[0], "no answer to an order of 4 machines") {
		t.Errorf("the warnings are %q", told)
	}
}

// recordByHand is a PoolMachine of an order of so many from number 0 on, as the provider writes it.
func recordByHand(t *testing.T, pool *v1alpha1.NodePool, n int, size int32) *v1alpha1.PoolMachine {
	t.Helper()
	hash, err := pool.Spec.Template.Hash()
	if err != nil {
		t.Fatal(err)
	}
	return create(t, &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{
			Name: machine(pool.Name, n), Labels: map[string]string{v1alpha1.LabelNodePool: pool.Name},
			Finalizers: []string{v1alpha1.FinalizerMachine},
		},
		Spec: v1alpha1.PoolMachineSpec{
			NodePool: pool.Name, Purpose: v1alpha1.PurposeAutoscaler, TemplateHash: hash, Template: pool.Spec.Template, Machines: pool.Spec.Machines,
			OrderedAt: metav1.NewMicroTime(time.Now()), Order: v1alpha1.MachineOrder{ID: "autoscaler", Size: size, Last: int64(size) - 1},
		},
	})
}

// claimed records that so many names are claimed.
func claimed(t *testing.T, pool *v1alpha1.NodePool, names int64) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"status":{"replicas":0,"ready":0,"reserved":0,"floor":0,"machinesOrdered":%d}}`, names)
	if err := cluster.Client.Status().Patch(t.Context(), pool.DeepCopy(), client.RawPatch(mergePatch, patch)); err != nil {
		t.Fatal(err)
	}
}

// testMissingRecords: of an order of which a record is missing nothing is launched; its records go, and other numbers are ordered.
func testMissingRecords(t *testing.T, _ *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "missing"
	seen := watchInstances(t, name)
	pool := newPool(t, name, target(3), func(p *v1alpha1.NodePool) { p.Spec.Paused = true })
	recordByHand(t, pool, 0, 3)
	recordByHand(t, pool, 1, 3)
	claimed(t, pool, 3)
	says(t, name, v1alpha1.ConditionPaused, metav1.ConditionTrue, "")
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Paused = false })
	want := []string{"missing-3", "missing-4", "missing-5"}
	if s := hasNodes(t, name, 3); !slices.Equal(s.ready, want) {
		t.Errorf("Ready are %v, want %v", s.ready, want)
	}
	if made := seen(); !slices.Equal(made, want) {
		t.Errorf("made were %v, want %v", made, want)
	}
}

// testNameTaken: what somebody else has made by the name of a machine is neither taken nor ended: the machine fails.
func testNameTaken(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "taken"
	theirs := create(t, instanceOf(t, name, machine(name, 0), func(i *v1alpha1.KwokInstance) {
		i.Spec.Cluster, i.Spec.Machine, i.Spec.BootDelay = "another", machine(name, 0), *after(100 * time.Hour)
	}))
	newPool(t, name, target(1))
	w.lists(t, name, map[string]string{placeholder(name, 0): "Creating NameTaken"})
	saw(t, name, v1alpha1.ReasonMachineFailed, "NameTaken")
	if err := w.deleteNodes(t.Context(), name, placeholder(name, 0)); err != nil {
		t.Fatal(err)
	}
	await(t, name, func(s *state) string {
		return missing(len(s.machines) == 0 && s.pool.Spec.Replicas == 0, "the machine that has failed is there")
	})
	w.increase(t, name, 1)
	await(t, name, func(s *state) string {
		return missing(slices.Equal(s.ready, []string{"taken-1"}), "the next machine is not Ready")
	})
	var now v1alpha1.KwokInstance
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), &now); err != nil || now.UID != theirs.UID ||
		now.Status.TerminatingAt != nil {
		t.Errorf("the instance of another is %v (%v)", now.Status, err)
	}
}

// testPaused: of a paused pool everything that is there is listed without an error, nothing more can be ordered and nothing
// is launched; afterwards it goes on.
func testPaused(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name, held = "paused", "paused-order"
	newPool(t, name, target(2), role(func(k *v1alpha1.KwokMachines) { k.Stock = ptr.To[int32](1) }))
	w.lists(t, name, map[string]string{idOf(name, 0): "Running", placeholder(name, 1): "Creating OutOfStock"})
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Paused = true })
	w.lists(t, name, map[string]string{idOf(name, 0): "Running", placeholder(name, 1): "Creating"})
	for what, ask := range map[string]func(context.Context) error{
		"IncreaseSize": func(ctx context.Context) error {
			_, err := w.Server.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 1})
			return err
		},
		"DeleteNodes": func(ctx context.Context) error { return w.deleteNodes(ctx, name, placeholder(name, 1)) },
	} {
		if err := ask(t.Context()); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "paused is paused") {
			t.Errorf("%s ended with %v", what, err)
		}
	}

	// An order that was written down before the pause, and a higher target.
	pool := newPool(t, held, target(2), func(p *v1alpha1.NodePool) { p.Spec.Paused = true })
	recordByHand(t, pool, 0, 2)
	recordByHand(t, pool, 1, 2)
	claimed(t, pool, 2)
	edit(t, held, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 3 })
	says(t, held, v1alpha1.ConditionPaused, metav1.ConditionTrue, "")
	// As long as another pool takes from its order to its nodes, nothing happens here.
	newPool(t, "paused-beside", target(2))
	hasNodes(t, "paused-beside", 2)
	w.lists(t, held, map[string]string{placeholder(held, 0): "Creating", placeholder(held, 1): "Creating", placeholder(held, 2): "Creating"})
	if s := await(t, held, func(*state) string { return "" }); len(s.instances) > 0 || len(s.machines) != 2 || w.cloud.launches(held) > 0 {
		t.Errorf("the cloud was asked %d times and has made %v; there are records of %v",
			w.cloud.launches(held), slices.Collect(maps.Keys(s.instances)), slices.Collect(maps.Keys(s.machines)))
	}

	for _, p := range []string{name, held} {
		edit(t, p, func(p *v1alpha1.NodePool) { p.Spec.Paused = false })
	}
	if s := hasNodes(t, held, 3); !slices.Equal(s.ready, []string{machine(held, 0), machine(held, 1), machine(held, 2)}) {
		t.Errorf("Ready are %v", s.ready)
	}
	w.lists(t, name, map[string]string{idOf(name, 0): "Running", placeholder(name, 1): "Creating OutOfStock"})
	if err := w.deleteNodes(t.Context(), name, placeholder(name, 1)); err != nil {
		t.Error(err)
	}
	hasNodes(t, name, 1)
	// The outcome of the pause is no wait for the next poll.
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		got, err := w.listed(ctx, name)
		return missing(len(got) == 1, fmt.Sprint("listed are ", got)), err
	})
}
