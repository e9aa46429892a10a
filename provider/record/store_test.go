package record

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// storeOf is a store over objects in memory.
func storeOf(t *testing.T, objects ...any) *Store {
	t.Helper()
	ofMachines, ofNodes := Indexers()
	machines, nodes := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc,
		ofMachines), toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, ofNodes)
	for _, object := range objects {
		into := machines
		if _, is := object.(*corev1.Node); is {
			into = nodes
		}
		if err := into.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	return Over(machines, nodes, nil)
}

// nodeNamed is a node that was created so many seconds after the first.
func nodeNamed(name, providerID string, after int) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Date(2026, 11, 29, 12, 0, after, 0, time.UTC))},
		Spec:       corev1.NodeSpec{ProviderID: providerID},
	}
}

func recordOf(name, providerID, nodeName string) *v1alpha1.PoolMachine {
	return &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolMachineSpec{NodePool: "p"},
		Status: v1alpha1.PoolMachineStatus{ProviderID: providerID, NodeName: nodeName},
	}
}

// TestNodeOf: of several nodes with the id of a machine its own is that of the recorded name, else the oldest: a copy is younger.
func TestNodeOf(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		machine nodegroup.Machine
		nodes   []any
		want    string
	}{
		"no id is known": {nodegroup.Machine{NodeName: "n"}, []any{nodeNamed("n", "", 0)}, ""},
		"there is none":  {nodegroup.Machine{ProviderID: "c://0"}, []any{nodeNamed("n", "c://1", 0)}, ""},
		"there is one": {nodegroup.Machine{ProviderID: "c://0"},
			[]any{nodeNamed("n", "c://0", 0), nodeNamed("o", "c://1", 0)}, "n"},
		"the oldest": {nodegroup.Machine{ProviderID: "c://0"},
			[]any{nodeNamed("a-copy", "c://0", 5), nodeNamed("n", "c://0", 0), nodeNamed("z-copy", "c://0", 7)}, "n"},
		"of the same second the first by name": {nodegroup.Machine{ProviderID: "c://0"},
			[]any{nodeNamed("o", "c://0", 0), nodeNamed("n", "c://0", 0)}, "n"},
		"the recorded name, though younger": {nodegroup.Machine{ProviderID: "c://0", NodeName: "n"},
			[]any{nodeNamed("older", "c://0", 0), nodeNamed("n", "c://0", 5)}, "n"},
		"the recorded one is gone": {nodegroup.Machine{ProviderID: "c://0", NodeName: "n"}, []any{nodeNamed("copy", "c://0", 0)},
			""},
		"the recorded name is of another machine": {nodegroup.Machine{ProviderID: "c://0", NodeName: "n"}, []any{nodeNamed("n", "c://1", 0)}, ""},
	} {
		node, err := storeOf(t, row.nodes...).NodeOf(&row.machine)
		got := ""
		if node != nil {
			got = node.Name
		}
		if err != nil || got != row.want {
			t.Errorf("%s: the node is %q (%v), want %q", name, got, err, row.want)
		}
	}
}

// TestFind: a machine is found by its placeholder and by its provider id for all its life, and nothing else is.
func TestFind(t *testing.T) {
	t.Parallel()
	adopted := recordOf("p-3", "", "")
	adopted.Annotations = map[string]string{v1alpha1.AnnotationAdopted: "c://3"}
	s := storeOf(t, recordOf("p-0", "", ""), recordOf("p-1", "c://1", "n"), adopted)
	for id, want := range map[string]string{
		"ensemble://p/p-0": "p-0", "ensemble://p/p-1": "p-1", "c://1": "p-1", "c://3": "p-3",
		"ensemble://p/p-2": "", "ensemble://p/other": "", "c://2": "", "n": "",
	} {
		m, pool, err := s.Find(id)
		got := ""
		if m != nil {
			got = m.Name
		}
		if err != nil || got != want || (pool == "p") != (want != "") {
			t.Errorf("%s is %q of %q (%v), want %q", id, got, pool, err, want)
		}
	}
}

// TestOfNode: the record of a node is found by its provider id, else by its name; never by what is not known.
func TestOfNode(t *testing.T) {
	t.Parallel()
	s := storeOf(t, recordOf("p-0", "", ""), recordOf("p-1", "c://1", "n"))
	for _, row := range []struct{ providerID, name, want string }{
		{"c://1", "n", "p-1"}, {"c://1", "copy", "p-1"}, {"c://2", "n", "p-1"}, {"", "n", "p-1"}, {"", "", ""}, {"c://2", "m", ""},
	} {
		m, err := s.OfNode(row.providerID, row.name)
		got := ""
		if m != nil {
			got = m.Name
		}
		if err != nil || got != row.want {
			t.Errorf("the record of node %q with %q is %q (%v), want %q", row.name, row.providerID, got, err, row.want)
		}
	}
}
