package nodegroup_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// answer is a target, or a refusal in words.
func answer(target int32, err error) string {
	if refusal, is := errors.AsType[*nodegroup.Refusal](err); is {
		return fmt.Sprintf("refused %d: %s", refusal.Kind, refusal.Message)
	}
	return fmt.Sprintf("target %d", target)
}

func TestIncreaseSize(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		group      *nodegroup.Group
		delta      int32
		want       string
		forMembers int32
	}{
		{"below the maximum", group(2, up(0), up(1)), 3, "target 5", 0},
		{"up to the maximum", group(2, up(0), up(1)), 8, "target 10", 0},
		{"above the maximum", group(2), 9, "refused 1: the target size 2 of hpc plus 9 is 11, above its maxSize 10", 0},
		{"by nothing", group(2), 0, "refused 0: delta is 0; IncreaseSize of hpc takes a number above 0", 0},
		{"by less than nothing", group(2), -1, "refused 0: delta is -1; IncreaseSize of hpc takes a number above 0", 0},
		{
			"by more than a number can hold", group(2), 2147483647,
			"refused 1: the target size 2 of hpc plus 2147483647 is 2147483649, above its maxSize 10", 0,
		},
		{"to the floor, which is for members", floor(4, group(2, up(0), up(1))), 2, "target 4", 4},
		{"beyond the floor, of which a part is for members", floor(4, group(2, up(0), up(1))), 5, "target 7", 4},
		{"to the floor that it was told, which is lower now", announced(4, floor(3, group(2, up(0), up(1)))), 2, "target 4", 4},
		{"beyond the floor that it was told", announced(4, floor(3, group(2, up(0), up(1)))), 3, "target 5", 3},
		{"of a paused pool", paused(group(2)), 1, "refused 2: hpc is paused: its spec.paused is true", 0},
		{"of a pool that is being deleted", deleting(group(2)), 1, "refused 2: hpc is being deleted", 0},
		{"while orders for members are outstanding", forMembers(5, group(5, up(0))), 2, "target 7", 5},
		{"after all orders for members were made", forMembers(2, group(2, up(0), up(1))), 2, "target 4", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			target, part, err := row.group.IncreaseSize(row.delta, -1)
			if got := answer(target, err); got != row.want || part != row.forMembers {
				t.Errorf("got %s, %d for members; want %s, %d for members", got, part, row.want, row.forMembers)
			}
		})
	}
}

// TestIncreaseWhatIsLacking: Cluster Autoscaler computes what it asks for from the target that it was told, which may have grown since.
func TestIncreaseWhatIsLacking(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name              string
		live, delta, told int32
		want              string
		forMembers        int32
	}{
		{"told what is", 2, 6, 2, "target 8", 8},
		{"it has asked already, of another replica", 8, 6, 2, "target 8", 3},
		{"a part of it has been asked for", 5, 6, 2, "target 8", 8},
		{"more than that has been asked for", 9, 6, 2, "target 9", 3},
		{"some were released since", 5, 2, 8, "target 7", 7},
		{"not known what it was told", 2, 6, -1, "target 8", 8},
		{"only what is lacking has to be within the maximum", 9, 6, 4, "target 10", 8},
		{"what is lacking is above the maximum", 9, 6, 8, "refused 1: the target size 9 of hpc plus 5 is 14, above its maxSize 10", 0},
		{"nothing is lacking above a maximum that was lowered", 12, 6, 2, "target 12", 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g := forMembers(3, floor(8, group(row.live, up(0), up(1), up(2), up(3), up(4), up(5), up(6), up(7), up(8))))
			target, part, err := g.IncreaseSize(row.delta, row.told)
			if got := answer(target, err); got != row.want || part != row.forMembers {
				t.Errorf("got %s, %d for members; want %s, %d for members", got, part, row.want, row.forMembers)
			}
		})
	}
}

// byNode are machines that are named by the id of their node.
func byNode(names ...string) (asked []nodegroup.Asked) {
	for _, name := range names {
		asked = append(asked, nodegroup.Asked{Machine: name})
	}
	return asked
}

// announced is a pool of which Cluster Autoscaler was told a minimum size.
func announced(size int32, g *nodegroup.Group) *nodegroup.Group {
	g.AnnouncedFloor = size
	return g
}

// TestIncreaseToFormerFloor: machines that Cluster Autoscaler orders for a floor which is lower by then are not made. They
// would be nobody's: neither a member's, nor wanted by a pod.
func TestIncreaseToFormerFloor(t *testing.T) {
	t.Parallel()
	g := announced(4, floor(2, group(2, up(0, heldBy("ns/m")), up(1, heldBy("ns/m")))))
	g.Reservations = []nodegroup.Reservation{{Member: "ns/m", Nodes: 2, Held: []string{nodeName(0), nodeName(1)}}}
	var err error
	if g.Target, g.ForMembers, err = g.IncreaseSize(2, -1); err != nil {
		t.Fatal(err)
	}
	if d := nodegroup.Plan(g, announceTimeout, noon); len(d.Order) > 0 {
		t.Errorf("it orders %v", d.Order)
	}
	g.AnnouncedFloor = 2
	if d := nodegroup.Plan(g, announceTimeout, noon); len(d.Order) > 0 || d.GiveUp != 2 {
		t.Errorf("when Cluster Autoscaler was told the floor, it orders %v and gives up %d orders, not 2", d.Order, d.GiveUp)
	}
}

func TestDecreaseTargetSize(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		group *nodegroup.Group
		delta int32
		want  string
	}{
		{"what is not there yet", group(4, up(0), up(1), booting(2), booting(3)), -2, "target 2"},
		{"a whole scale-up of which a part has come", group(4, up(0), up(1), up(2), booting(3)), -3, "target 3"},
		{"machines that exist", group(2, up(0), up(1)), -1, "target 2"},
		{"more than there is", group(2), -5, "target 0"},
		{"machines that are no more", group(3, up(0), up(1), crashed(up(2))), -1, "target 2"},
		{"of a paused pool", paused(group(2)), -1, "refused 2: hpc is paused: its spec.paused is true"},
		{"upwards", group(2), 1, "refused 0: delta is 1; DecreaseTargetSize of hpc takes a number below 0"},
		{"by nothing", group(2), 0, "refused 0: delta is 0; DecreaseTargetSize of hpc takes a number below 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := answer(row.group.DecreaseTargetSize(row.delta)); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

// claimed is a group of which the names up to the number ordered are claimed, and may be under way from another one on.
func claimed(from, ordered int64, g *nodegroup.Group) *nodegroup.Group {
	g.OrderedFrom, g.Ordered = from, ordered
	return g
}

func TestPending(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		group *nodegroup.Group
		want  []int64
	}{
		{"none at the target", group(2, up(0), up(1)), nil},
		{"none above the target", group(1, up(0), up(1)), nil},
		{"the next numbers", group(4, up(0), up(1)), []int64{2, 3}},
		{"not those of machines that are gone", claimed(9, 9, group(3, up(0), up(1))), []int64{9}},
		{"first those that are claimed, but for the known ones", claimed(1, 4, group(5, up(0), booting(2))), []int64{1, 3, 4}},
		{"not one that is to go", toDelete(group(4, up(0), up(1)), "hpc-2"), []int64{3, 4}},
		{"one for a machine that is to go", toDelete(group(2, up(0), up(1)), "hpc-1"), []int64{2}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := row.group.Pending(); !slices.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"hpc-0": 0, "hpc-17": 17, "hpc": -1, "hpc-": -1, "hpc-x": -1, "hpc--1": -1, "hpc-01": -1, "hpc-+1": -1, "other-3": -1, "hpc-a-3": -1,
		"hpc-99999999999999999999": -1,
	} {
		if got := nodegroup.Number("hpc", name); got != want {
			t.Errorf("the number of %s is %d, want %d", name, got, want)
		}
	}
}

func TestDeleteNodes(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		group   *nodegroup.Group
		names   []string
		victims []string
		want    string
	}{
		{"two of three", group(3, up(0), up(1), up(2)), []string{"hpc-2", "hpc-0"}, []string{"hpc-0", "hpc-2"}, "target 1"},
		{"one that never registered", group(1, booting(0)), []string{"hpc-0"}, []string{"hpc-0"}, "target 0"},
		{"one that is going already", toDelete(group(1, up(0), up(1)), "hpc-1"), []string{"hpc-1"}, nil, "target 1"},
		{"one that is gone", group(1, up(0)), []string{"hpc-9"}, nil, "target 1"},
		{"one that is on order and not known yet", group(3, up(0)), []string{"hpc-2"}, []string{"hpc-2"}, "target 2"},
		{"one whose name is claimed and that is not known yet", claimed(1, 3, group(3, up(0))), []string{"hpc-1"}, []string{"hpc-1"}, "target 2"},
		{"one that would be the next after those on order", group(3, up(0)), []string{"hpc-3"}, nil, "target 3"},
		{"one that is on order and going already", toDelete(group(2, up(0)), "hpc-1"), []string{"hpc-1"}, nil, "target 2"},
		{"one of a paused pool", paused(group(1, up(0))), []string{"hpc-0"}, nil, "refused 2: hpc is paused: its spec.paused is true"},
		{
			"one that is no more and that a member holds", with(group(2, up(0), crashed(up(1))), claim("ns/a", 1, 1)), []string{"hpc-1"},
			[]string{"hpc-1"}, "target 1",
		},
		{"one that a member holds", with(group(2, up(0), up(1)), claim("ns/a", 1, 1)), []string{"hpc-0", "hpc-1"}, nil,
			"refused 2: node node-1 of hpc is held for the ensemble member ns/a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			victims, target, err := row.group.DeleteNodes(byNode(row.names...))
			if got := answer(target, err); got != row.want || !slices.Equal(victims, row.victims) {
				t.Errorf("got %s, victims %v; want %s, victims %v", got, victims, row.want, row.victims)
			}
		})
	}
}

// TestDeleteByPlaceholder: Cluster Autoscaler names by its placeholder what it believes has not come.
func TestDeleteByPlaceholder(t *testing.T) {
	t.Parallel()
	lateToRegister := booting(1)
	lateToRegister.Registered = true
	for _, row := range []struct {
		name    string
		group   *nodegroup.Group
		asked   []nodegroup.Asked
		victims []string
		want    string
	}{
		{
			"one that has not come", group(2, up(0), booting(1)), []nodegroup.Asked{{Machine: "hpc-1", ByPlaceholder: true}}, []string{"hpc-1"},
			"target 1",
		},
		{"one that is on order", group(2, up(0)), []nodegroup.Asked{{Machine: "hpc-1", ByPlaceholder: true}}, []string{"hpc-1"}, "target 1"},
		{"one that has come since", group(2, up(0), up(1)), []nodegroup.Asked{{Machine: "hpc-1", ByPlaceholder: true}}, nil, "target 2"},
		{
			"one that has come since and whose node is not seen", group(2, up(0), lateToRegister),
			[]nodegroup.Asked{{Machine: "hpc-1", ByPlaceholder: true}}, nil, "target 2",
		},
		{
			"one that has come since and is held", with(group(2, up(0), up(1)), claim("ns/a", 1, 1)),
			[]nodegroup.Asked{{Machine: "hpc-1", ByPlaceholder: true}}, nil, "target 2",
		},
		{
			"one that is named by its node too", group(2, up(0), up(1)),
			[]nodegroup.Asked{{Machine: "hpc-1"}, {Machine: "hpc-1", ByPlaceholder: true}}, []string{"hpc-1"}, "target 1",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			victims, target, err := row.group.DeleteNodes(row.asked)
			if got := answer(target, err); got != row.want || !slices.Equal(victims, row.victims) {
				t.Errorf("got %s, victims %v; want %s, victims %v", got, victims, row.want, row.victims)
			}
		})
	}
}

func TestPlaceholder(t *testing.T) {
	t.Parallel()
	if got := nodegroup.Placeholder("hpc-a", "hpc-a-7"); got != "ensemble://hpc-a/hpc-a-7" {
		t.Errorf("the placeholder is %s", got)
	}
	for id, want := range map[string]string{
		"ensemble://hpc/hpc-0": "hpc hpc-0", "ensemble://hpc-a/hpc-a-17": "hpc-a hpc-a-17", "ensemble://hpc/other-0": "",
		"ensemble://hpc/hpc-00": "",
		"ensemble://hpc":        "", "ensemble://hpc/": "", "ensemble:///-0": "", "ensemble://hpc/hpc-0/": "", "kwok://hpc/hpc-0": "", "": "",
	} {
		pool, name, ok := nodegroup.ParsePlaceholder(id)
		if got := strings.TrimSpace(pool + " " + name); got != want || ok != (want != "") {
			t.Errorf("%q is %q, %t; want %q", id, got, ok, want)
		}
	}
}

// TestDeleteManyNodes: of machines that are not there as many go as the API server takes names of; Cluster Autoscaler asks for
// the others again. Nodes that it has emptied go all or none.
func TestDeleteManyNodes(t *testing.T) {
	t.Parallel()
	var failed, nodes []nodegroup.Machine
	var going, names []string
	for n := range 5001 {
		failed, nodes = append(failed, failing(booting(n))), append(nodes, up(n))
		names = append(names, machineName(n))
		going = append(going, machineName(10000+n))
	}
	for _, row := range []struct {
		name    string
		group   *nodegroup.Group
		victims int
		want    string
	}{
		{"more failed machines than fit", group(5001, failed...), 5000, "target 1"},
		{"failed machines for which there is little room", toDelete(group(5001, failed...), going[:4990]...), 10, "target 4991"},
		{"failed machines for which there is no room", toDelete(group(5001, failed...), going[:5000]...), 0, "target 5001"},
		{"as many nodes as fit, before failed machines", group(5001, slices.Concat(failed[:1], nodes[1:])...), 5000, "target 1"},
		{"more nodes than fit", group(5001, nodes...), 0,
			"refused 2: 5001 nodes of hpc cannot be deleted now: 0 machines are on their way out, of at most 5000 at a time"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			victims, target, err := row.group.DeleteNodes(byNode(names...))
			if got := answer(target, err); got != row.want || len(victims) != row.victims {
				t.Errorf("got %s, %d victims; want %s, %d victims", got, len(victims), row.want, row.victims)
			}
		})
	}
}

// withoutID is a machine whose provider id is not known yet.
func withoutID(m nodegroup.Machine) nodegroup.Machine {
	m.ProviderID = ""
	return m
}

func TestInstances(t *testing.T) {
	t.Parallel()
	failed := booting(1)
	failed.Failure = &nodegroup.Failure{Class: v1alpha1.FailureOther, Code: "Broken", Message: "it does not start"}
	lastOrder := func(from, until int64, g *nodegroup.Group) *nodegroup.Group {
		g.OrderedFrom, g.Ordered = from, until
		return g
	}
	for _, row := range []struct {
		name  string
		group *nodegroup.Group
		want  []string
	}{
		{
			"machines whose id is not known yet", group(3, up(0), withoutID(booting(1))),
			[]string{"hpc-0 running", "ensemble://hpc/hpc-1 creating", "ensemble://hpc/hpc-2 creating"},
		},
		{"machines that are no more", group(2, crashed(up(0)), nodeless(crashed(up(1)))), []string{"hpc-0 deleting", "hpc-1 deleting"}},
		{"machines that are late", group(1, ago(time.Hour, booting(0))), []string{"hpc-0 creating, failed"}},
		{"machines that leave", group(2, spot(up(0)), beingDeleted(up(1))), []string{"hpc-0 running", "hpc-1 running"}},
		{"machines of a paused group", paused(toDelete(group(5, up(0), failed, crashed(up(2)), ago(time.Hour, booting(3)), up(4)), "hpc-4")),
			[]string{"hpc-0 running", "hpc-1 creating", "hpc-2 creating", "hpc-3 creating", "hpc-4 deleting", "ensemble://hpc/hpc-5 creating"}},
		{
			"machines in all states", toDelete(group(2, up(0), failed, up(2)), "hpc-2"),
			[]string{"hpc-0 running", "hpc-1 creating, failed", "hpc-2 deleting"},
		},
		{
			"machines that are about to be ordered", group(4, up(0), up(1)),
			[]string{"hpc-0 running", "hpc-1 running", "ensemble://hpc/hpc-2 creating", "ensemble://hpc/hpc-3 creating"},
		},
		{"an order that is being made", lastOrder(1, 5, group(5, up(0), booting(2))),
			[]string{
				"hpc-0 running", "hpc-2 creating", "ensemble://hpc/hpc-1 creating", "ensemble://hpc/hpc-3 creating", "ensemble://hpc/hpc-4 creating",
			}},
		{
			"more than the last order", lastOrder(1, 2, group(3, up(0))),
			[]string{"hpc-0 running", "ensemble://hpc/hpc-1 creating", "ensemble://hpc/hpc-2 creating"},
		},
		{"more machines than the target", group(0, up(0)), []string{"hpc-0 running"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			states := map[nodegroup.InstanceState]string{
				nodegroup.InstanceRunning: "running", nodegroup.InstanceCreating: "creating", nodegroup.InstanceDeleting: "deleting",
			}
			var got []string
			for _, i := range row.group.Instances(noon) {
				text := strings.TrimPrefix(i.ProviderID, "test://") + " " + states[i.State]
				if i.Failure != nil {
					text += ", failed"
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("wrong instances (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTemplateNode(t *testing.T) {
	t.Parallel()
	pool := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: "hpc"},
		Spec: v1alpha1.NodePoolSpec{Template: v1alpha1.NodeTemplate{
			Labels:      map[string]string{"example.com/kind": "fast", corev1.LabelArchStable: "arm64"},
			Taints:      []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}},
			Capacity:    corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi")},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3800m")},
		}},
	}
	node := nodegroup.TemplateNode(pool)
	wantLabels := map[string]string{
		"example.com/kind": "fast", corev1.LabelArchStable: "arm64", corev1.LabelOSStable: "linux",
		corev1.LabelHostname: "hpc-template", v1alpha1.LabelNodePool: "hpc",
	}
	if diff := cmp.Diff(wantLabels, node.Labels); diff != "" {
		t.Errorf("wrong labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pool.Spec.Template.Taints, node.Spec.Taints); diff != "" {
		t.Errorf("wrong taints (-want +got):\n%s", diff)
	}
	if cpu, memory := node.Status.Allocatable.Cpu().String(), node.Status.Allocatable.Memory().String(); cpu != "3800m" || memory != "16Gi" {
		t.Errorf("allocatable are %s of cpu and %s of memory, not 3800m and, like the capacity, 16Gi", cpu, memory)
	}
	if len(node.Status.Conditions) != 1 || node.Status.Conditions[0].Type != corev1.NodeReady ||
		node.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("the node is not Ready: %v", node.Status.Conditions)
	}
}
