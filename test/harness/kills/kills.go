// Package kills tells one story again and again, and kills the provider before another of its writes each time: a pool provides two
// nodes for a member, takes one of them back and is deleted. The writes of launchers are among them, so that the provider is killed
// between a call of a cloud and what is written of its outcome, too. A second provider goes on from there and always comes to the same
// end: there are the machines that are wanted and no others, none was bought twice, and nothing is left over.
//
// Sample is for stories of other tests.
//
// The story is the same whatever makes the machines. The tests that tell it are where the programs are that make them: in
// test/parts/machine for the simulated cloud, in test/parts/karpenter and in test/parts/clusterapi.
package kills

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	providermachine "github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// Cloud is where the machines of the story come from.
type Cloud struct {
	Cluster *inprocess.Cluster
	// Name is what the names of its pools begin with.
	Name string
	// Machines says in a pool which machines it has.
	Machines func(*v1alpha1.NodePoolSpec)
	// Kinds are the kinds of the objects that the cloud has for machines, one of each kind for a machine, with its labels.
	Kinds []client.ObjectList
	// Options are those of the provider's manager.
	Options manager.Options
	// Launchers adds the cloud's launcher, nil for the simulated cloud. Its writes are to be made by a client of the process.
	Launchers func(*inprocess.Mortal, *launch.Launchers) error
}

// Each tells the story killed before the write of a number, counted from zero, before every so-many-th after it, and once more to its
// end without, as Sample has it. No other provider may run beside it: they would do each other's work.
func Each(t *testing.T, first, every int64, cloud *Cloud) {
	t.Helper()
	Sample(t, first, every, func(most int64) bool { return cloud.tell(t, most) })
}

// Sample tells a story killed before the write of a number, counted from zero, before every so-many-th after it, and once more to its end
// without. Where TEST_KILLS is all, it is told for every write, and where it is a number, for that write alone: that is for looking into a
// failure.
func Sample(t *testing.T, first, every int64, tell func(most int64) (survived bool)) {
	t.Helper()
	asked := os.Getenv("TEST_KILLS")
	if most, err := strconv.ParseInt(asked, 10, 64); err == nil {
		tell(most)
		return
	}
	if asked == "all" {
		first, every = 0, 1
	}
	inprocess.EachKill(t, func(turn int64) bool { return tell(first + turn*every) })
}

// life is a pool whose provider may be killed.
type life struct {
	*Cloud
	*inprocess.Mortal
	name string
	// before are the objects that were there before the story, and are none of its own.
	before   map[types.UID]string
	survived bool
	// wrong is what was seen that must never be.
	mu    sync.Mutex
	wrong []string
}

// wanted is how many machines the member wants at the most.
const wanted = 2

// tell reports whether the provider came to the end before it was killed.
func (c *Cloud) tell(t *testing.T, most int64) (survived bool) {
	t.Helper()
	began, name := time.Now(), fmt.Sprintf("%s-%d", c.Name, most)
	l := &life{Cloud: c, name: name, survived: true}
	var err error
	if l.before, err = l.everything(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Cluster.Once(t, name, &v1alpha1.PoolMachineList{}, client.Object.GetName, l.note)
	for _, kind := range append([]client.ObjectList{&corev1.NodeList{}}, c.Kinds...) {
		c.Cluster.Once(t, name, kind, machineOf, l.note)
	}
	if err := c.Cluster.Client.Create(t.Context(), c.pool(name)); err != nil {
		t.Fatal(err)
	}
	member := c.Cluster.NewMember(t, name)
	l.grow(t, member)
	l.start(t, most)
	defer func() { l.Stop() }()

	c.Cluster.Reserve(t, member, wanted)
	var nodes []string
	l.until(t, func(s *state) string { nodes = s.ready; return s.lacksNodes(wanted) })
	c.Cluster.Reserve(t, member, wanted, nodes...)
	c.Cluster.Reserve(t, member, 1, nodes[0])
	l.until(t, func(s *state) string {
		if !slices.Contains(s.ready, nodes[0]) {
			return s.lacksNodes(1) + " the wrong one is left"
		}
		return s.lacksNodes(1)
	})
	if err := c.Cluster.Client.Delete(t.Context(), &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
	c.Cluster.Reserve(t, member, 0)
	l.until(t, func(s *state) string {
		if s != nil {
			return "the NodePool is there, with " + s.String()
		}
		return ""
	})
	l.nothingIsLeft(t, member)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("%s: %s", name, strings.Join(l.wrong, "; "))
	}
	if l.survived {
		t.Logf("%s: not killed, after %d writes and %s", name, l.Writes(), time.Since(began).Round(time.Second))
	} else {
		t.Logf("%s: killed before write %d, and at its end after %s", name, most, time.Since(began).Round(time.Second))
	}
	return l.survived
}

// pool is a NodePool of machines of the cloud, for members alone.
func (c *Cloud) pool(name string) *v1alpha1.NodePool {
	p := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 8, Autoscaler: v1alpha1.AutoscalerNone, ProvisionTimeout: metav1.Duration{Duration: 10 * time.Minute},
			Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
				corev1.ResourcePods: resource.MustParse("110"),
			}},
		},
	}
	c.Machines(&p.Spec)
	return p
}

// start starts a provider that dies when it is about to make the write after so many; a negative number is none.
func (l *life) start(t *testing.T, most int64) {
	t.Helper()
	process := l.Cluster.NewMortal(t, most, l.Options)
	options := inprocess.ProviderOptions{Waits: providermachine.Waits{EndAgain: 2 * time.Second, Sweep: time.Hour}}
	if l.Launchers != nil {
		options.Launchers = func(out *launch.Launchers) error { return l.Launchers(process, out) }
	}
	process.Run(t, inprocess.AddProvider(t, process, options).Server.Announce)
	l.Mortal = process
}

// grow makes the member say since when it grows: its order is then for its claim, which is all or nothing.
func (l *life) grow(t *testing.T, m *v1alpha1.EnsembleMember) {
	t.Helper()
	fresh := m.DeepCopy()
	fresh.Status.Growth = &v1alpha1.Growth{Since: metav1.NewMicroTime(time.Now())}
	if err := l.Cluster.Client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
}

func (l *life) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if said := fmt.Sprintf(format, args...); !slices.Contains(l.wrong, said) {
		l.wrong = append(l.wrong, said)
	}
}
