package machine

import (
	"slices"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// both are the machines of the listings.
var both = []string{"a", "b"}

// listingStep is a listing, of which machines it says something new, and which are absent since which step.
type listingStep struct {
	name      string
	instances []launch.Instance
	launched  []string
	changed   []string
	absent    map[string]int // since which step
}

// listingSteps are listings of a pool one after the other.
func listingSteps() []listingStep {
	a := launch.Instance{Key: "i-a", Machine: "a", ProviderID: "cloud://a"}
	with := func(change func(*launch.Instance)) launch.Instance {
		out := a
		change(&out)
		return out
	}
	b := launch.Instance{Key: "i-b", Machine: "b"}
	return []listingStep{
		{name: "the first", instances: []launch.Instance{a, b}, launched: both, changed: both},
		{name: "the same again", instances: []launch.Instance{b, a}, launched: both},
		{name: "unmarked ones are nobody's", instances: []launch.Instance{a, b, {Key: "i-x"}}, launched: both},
		{
			name: "one is going", instances: []launch.Instance{with(func(i *launch.Instance) { i.Going = true }),
				b}, launched: both, changed: []string{"a"},
		},
		{
			name: "one leaves",
			instances: []launch.Instance{with(func(i *launch.Instance) { i.Going, i.LeavingAt = true, noon }),
				b}, launched: both, changed: []string{"a"},
		},
		{
			name: "the same in another zone",
			instances: []launch.Instance{with(func(i *launch.Instance) { i.Going, i.LeavingAt = true, noon.In(time.FixedZone("x", 3600)) }),
				b}, launched: both,
		},
		{
			name: "one has failed",
			instances: []launch.Instance{with(func(i *launch.Instance) { i.Failure = &v1alpha1.MachineFailure{Code: "Crashed"} }),
				b}, launched: both, changed: []string{"a"},
		},
		{name: "one is absent", instances: []launch.Instance{a}, launched: both, changed: both, absent: map[string]int{"b": 7}},
		{name: "it still is", instances: []launch.Instance{a}, launched: both, absent: map[string]int{"b": 7}},
		{name: "an empty one", launched: both, changed: []string{"a"}, absent: map[string]int{"a": 9, "b": 7}},
		{name: "both are back", instances: []launch.Instance{a, b}, launched: both, changed: both},
		{name: "one that was never launched is not absent", instances: []launch.Instance{b}, launched: []string{"b"}, changed: []string{"a"}},
	}
}

// TestListings goes through listings of a pool one after the other: of which machines each says something new, and which are
// absent since when.
func TestListings(t *testing.T) {
	t.Parallel()
	var l listings
	for i, step := range listingSteps() {
		begun := noon.Add(time.Duration(i) * time.Minute)
		changed := slices.Compact(slices.Sorted(slices.Values(l.put("p", launch.Place{}, begun, step.instances, step.launched))))
		if !slices.Equal(changed, step.changed) {
			t.Errorf("%s: news of %v, want %v", step.name, changed, step.changed)
		}
		for _, name := range both {
			sight, want := l.see("p", launch.Place{}, name), time.Time{}
			if since, is := step.absent[name]; is {
				want = noon.Add(time.Duration(since) * time.Minute)
			}
			listed := slices.ContainsFunc(step.instances, func(i launch.Instance) bool { return i.Machine == name })
			if !sight.absentSince.Equal(want) || (sight.instance != nil) != listed || !sight.listed.Equal(begun) {
				t.Errorf("%s: %s is %+v, want it absent since %s", step.name, name, sight, want)
			}
		}
	}
	if sight := l.see("other", launch.Place{}, "a"); sight != (sighting{}) {
		t.Errorf("of a pool that was never listed is said %+v", sight)
	}
	l.forget("p")
	if sight := l.see("p", launch.Place{}, "a"); sight != (sighting{}) {
		t.Errorf("of a pool that is forgotten is said %+v", sight)
	}
}

// TestListingsRest: a pool is left alone for a time after a listing that took long.
func TestListingsRest(t *testing.T) {
	t.Parallel()
	var l listings
	if wait := l.mayBegin("p", noon); wait > 0 {
		t.Errorf("the first listing waits for %s", wait)
	}
	l.rested("p", time.Second, noon)
	if wait := l.mayBegin("p", noon); wait != restFactor*time.Second {
		t.Errorf("after a second of listing the pool rests %s", wait)
	}
	if wait := l.mayBegin("other", noon); wait > 0 {
		t.Errorf("another pool rests %s", wait)
	}
	l.listAgain("p")
	if !l.takeAgain("p") || l.takeAgain("p") {
		t.Error("what is to be listed again is so once")
	}
}

// TestOnePlaceFails: where one place of a pool cannot be listed, what the others list is used, and what was listed there before stands.
func TestOnePlaceFails(t *testing.T) {
	t.Parallel()
	of := func(name string, machines v1alpha1.MachinesSpec) *v1alpha1.PoolMachine {
		return machineOf(launched, func(m *v1alpha1.PoolMachine) {
			m.Name, m.Spec.Machines, m.Status.ProviderID = name, machines, "cloud://"+name
		})
	}
	here, there := &cloud{}, &cloud{}
	listed, unlisted, other, lost := of("p-0", byKarpenter), of("p-1", byKarpenter), of("p-2", byClusterAPI), of("p-3", byClusterAPI)
	s, _ := sweepOf(t, here, there, listed, unlisted, other, lost)
	configs, err := s.configs(t.Context(), "p")
	if err != nil || len(configs) != 2 {
		t.Fatalf("the places are %v, error %v", configs, err)
	}
	here.instances = map[string][]launch.Instance{"p": {old("p-0")}}
	there.instances = map[string][]launch.Instance{"p": {old("p-2")}}
	s.list(t.Context(), "p", configs)

	later := noon.Add(time.Minute)
	s.Clock = clocktesting.NewFakePassiveClock(later)
	here.instances, here.errs = nil, map[string]error{"p": &launch.ThrottledError{After: time.Hour}}
	there.instances = map[string][]launch.Instance{"p": {old("p-3")}}
	s.list(t.Context(), "p", configs)
	for m, want := range map[*v1alpha1.PoolMachine]struct {
		is     bool
		absent time.Time
		listed time.Time
	}{
		listed: {is: true, listed: noon}, unlisted: {absent: noon, listed: noon},
		other: {absent: later, listed: later}, lost: {is: true, listed: later},
	} {
		if sight := s.see(m); (sight.instance != nil) != want.is || !sight.absentSince.Equal(want.absent) || !sight.listed.Equal(want.listed) {
			t.Errorf("%s is %+v", m.Name, sight)
		}
	}
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	p := s.listings.pools["p"]
	if p.timer == nil || p.due.Before(later.Add(time.Hour)) {
		t.Errorf("it is listed again at %s", p.due)
	}
	p.timer.Stop()
}
