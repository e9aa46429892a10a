package machine

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// TestLongWordsOfACloudAreCut: a failure whose words are longer than a status may have is written all the same.
func TestLongWordsOfACloudAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 4096)
	failure := &v1alpha1.MachineFailure{Class: v1alpha1.FailureOther, Code: long, Message: long}
	for name, what := range map[string]seen{
		"of a listing": {sighting: sighting{instance: &launch.Instance{Key: "k", Machine: "p-0", Failure: failure}, listed: noon}},
		"of an answer": {outcome: answered(launch.Invalid, "", long, long)},
	} {
		status, _ := next(machineOf(), &what, consistency, noon)
		if f := status.Failure; f == nil || len(f.Message) > 4096 || len(f.Message) < 4000 || len(f.Code) > 256 ||
			!utf8.ValidString(f.Message+f.Code) {
			t.Errorf("%s: the failure is %+v", name, f)
		}
	}
}

// TestWhatIsAnsweredIsNotAskedForAgain: a record that another process has given its outcome, which the cache does not have yet, is not
// asked for: of one that has failed nothing would be known.
func TestWhatIsAnsweredIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	open := orderOf(4, 0, 1, 2, 3)
	var there []client.Object
	for i, change := range []func(*v1alpha1.PoolMachine){func(*v1alpha1.PoolMachine) {}, hasFailed, launched, registered} {
		open[i].UID = types.UID(open[i].Name)
		m := open[i].DeepCopy()
		m.Labels = map[string]string{v1alpha1.LabelNodePool: "p"}
		change(m)
		there = append(there, m)
	}
	l := launching{&Reconciler{Live: fakeOf(t, there...)}}
	left, err := l.stillOrdered(t.Context(), open)
	if err != nil || len(left) != 1 || left[0].Name != "p-0" {
		t.Errorf("asked for are %d machines, error %v", len(left), err)
	}
}

// TestFailedListingIsRepeated: a pool that could not be listed is listed again soon, and less and less so.
func TestFailedListingIsRepeated(t *testing.T) {
	t.Parallel()
	l := &listings{}
	var waits []time.Duration
	for range 8 {
		waits = append(waits, l.failed("p"))
	}
	if waits[0] != time.Second || waits[1] != 2*time.Second || waits[7] != time.Minute {
		t.Errorf("it is listed again after %v", waits)
	}
	l.put("p", launch.Place{}, noon, nil, nil)
	if wait := l.failed("p"); wait != time.Minute {
		t.Errorf("after the listing of one place of some it is listed again after %s", wait)
	}
	l.succeeded("p")
	if wait := l.failed("p"); wait != time.Second {
		t.Errorf("after a listing it is listed again after %s", wait)
	}
}

// TestStrangersWithANodeAreLeftToTheSweep: an instance that no record tells of and that has failed is let go at once, unless it has an id
// or a node: pods may be on it, and the sweep looks.
func TestStrangersWithANodeAreLeftToTheSweep(t *testing.T) {
	t.Parallel()
	failure := &v1alpha1.MachineFailure{Code: "X"}
	for name, row := range map[string]struct {
		instance launch.Instance
		want     bool
	}{
		"never made":  {launch.Instance{Machine: "p-7", Failure: failure}, true},
		"with an id":  {launch.Instance{Machine: "p-8", ProviderID: "x://8", Failure: failure}, false},
		"with a node": {launch.Instance{Machine: "p-9", NodeName: "n", Failure: failure}, false},
		"well":        {launch.Instance{Machine: "p-10"}, false},
		"told to go":  {launch.Instance{Machine: "p-11", Failure: failure, Going: true}, false},
	} {
		if got := neverMade(&row.instance); got != row.want {
			t.Errorf("%s: it is let go: %t", name, got)
		}
	}
}

func fakeOf(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	name := func(o client.Object) []string { return []string{o.GetName()} }
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&v1alpha1.PoolMachine{}, "metadata.name", name).WithIndex(&v1alpha1.NodePool{}, "metadata.name", name).Build()
}
