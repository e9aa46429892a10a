package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	providermachine "github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/inprocess"
)

// TestKills lets a pool provide two nodes for a member, take one of them back and be deleted, on clouds of several kinds, and kills
// the provider before each of its writes in turn, those of the cloud among them: between a call of the cloud and what is written of
// its outcome, too. A second provider goes on from there and always comes to the same end.
// It is not parallel: two providers would do each other's work.
func TestKills(t *testing.T) {
	clouds := []struct {
		name string
		role func(*v1alpha1.KwokMachines)
	}{
		{"plain", func(*v1alpha1.KwokMachines) {}},
		{"strange", strange},
		{"replies", func(k *v1alpha1.KwokMachines) { k.LostReplyPercent = 90 }},
		{"atomic", func(k *v1alpha1.KwokMachines) { k.Orders = v1alpha1.KwokOrdersAtomic }},
		{"slow-end", func(k *v1alpha1.KwokMachines) { k.TerminationDelay = after(500 * time.Millisecond) }},
	}
	share, every := int64(1), int64(len(clouds))
	if os.Getenv("TEST_KILLS") == "all" {
		every = 1
	}
	for _, row := range clouds {
		first := share % every
		share++
		t.Run(row.name, func(t *testing.T) {
			inprocess.EachKill(t, func(turn int64) bool {
				most := first + turn*every
				return killed(t, fmt.Sprintf("%s-%d", row.name, most), most, row.role)
			})
		})
	}
}

// life is a pool whose provider may be killed.
type life struct {
	*process
	name     string
	survived bool
	// wrong is what was seen that must never be.
	mu    sync.Mutex
	wrong []string
}

var quickly = inprocess.ProviderOptions{Waits: providermachine.Waits{EndAgain: 2 * time.Second, Sweep: time.Hour}}

// killed reports whether the provider came to the end before it was killed.
func killed(t *testing.T, name string, most int64, cloudOf func(*v1alpha1.KwokMachines)) bool {
	t.Helper()
	l := &life{name: name, survived: true}
	once(t, name, &v1alpha1.PoolMachineList{}, l.note)
	once(t, name, &v1alpha1.KwokInstanceList{}, l.note)
	newPool(t, name, alone, role(cloudOf))
	member := newMember(t, name)
	grow(t, member)
	l.process = start(t, most, quickly)
	defer func() { l.Stop() }()

	reserve(t, member, 2)
	var nodes []string
	l.until(t, func(s *state) string { nodes = s.ready; return s.unsettled(2) })
	reserve(t, member, 2, nodes...)
	reserve(t, member, 1, nodes[0])
	l.until(t, func(s *state) string {
		return s.unsettled(1) + missing(slices.Contains(s.ready, nodes[0]), " the wrong one is left")
	})
	doomed := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := cluster.Client.Delete(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
	reserve(t, member, 0)
	l.until(t, func(s *state) string {
		return missing(s == nil, "the NodePool is there")
	})
	s, err := look(t.Context(), name)
	if !apierrors.IsNotFound(err) || len(s.instances)+len(s.machines)+len(s.nodes) > 0 {
		t.Errorf("%s: the NodePool is gone, and %d instances, %d records and %d nodes are not (%v)", name, len(s.instances), len(s.machines),
			len(s.nodes), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("%s: %s", name, strings.Join(l.wrong, "; "))
	}
	return l.survived
}

// grow makes a member say since when it grows: its order is then for its claim, which is all or nothing.
func grow(t *testing.T, m *v1alpha1.EnsembleMember) {
	t.Helper()
	fresh := m.DeepCopy()
	fresh.Status.Growth = &v1alpha1.Growth{Since: metav1.NewMicroTime(time.Now())}
	if err := cluster.Client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
}

// until is await for a pool whose provider may be killed, and may be gone; then the state is nil.
func (l *life) until(t *testing.T, missing func(*state) string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if l.Killed() {
			l.Stop()
			l.process, l.survived = start(t, -1, quickly), false
		}
		s, err := look(ctx, l.name)
		if apierrors.IsNotFound(err) {
			return missing(nil), nil
		}
		if err == nil {
			err = l.check(ctx, s)
		}
		if err != nil {
			return "", err
		}
		return missing(s), nil
	})
}

// check looks for instances without a record, and for more machines than the member ever wanted.
func (l *life) check(ctx context.Context, s *state) error {
	var failures []error
	for _, instance := range s.instances {
		name := instance.Spec.Machine
		if s.machines[name] != nil {
			continue
		}
		// The record was listed after the instance. It may be gone only if the instance is.
		err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(instance), &v1alpha1.KwokInstance{})
		if err == nil {
			l.note("the instance %s has no record", instance.Name)
		} else if !apierrors.IsNotFound(err) {
			failures = append(failures, err)
		}
	}
	if len(s.instances) > 2 {
		l.note("there are %d instances for a member that wants 2", len(s.instances))
	}
	return errors.Join(failures...)
}

func (l *life) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if said := fmt.Sprintf(format, args...); !slices.Contains(l.wrong, said) {
		l.wrong = append(l.wrong, said)
	}
}
