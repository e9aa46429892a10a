package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// queue is a pool of ten nodes, of which other workloads have some, for which growths wait.
type queue struct {
	t       *testing.T
	now     time.Time
	pool    plan.Pool
	members []plan.Member
	// busy is how many nodes base, a member that is there before all others, has.
	busy int32
}

func newQueue(t *testing.T, busy int32) *queue {
	t.Helper()
	return &queue{t: t, now: noon, pool: pool("a", 10), busy: busy}
}

// asks is a growth from nothing that is asked for now.
func (q *queue) asks(name string, nodes int32) {
	q.t.Helper()
	q.members = append(q.members, member(name, nodes, nodes, "a").grows(nodes, noon.Sub(q.now), 0).begins().Member)
	q.pass()
}

// running gives a member pods on the nodes that it holds.
func running(m plan.Member) plan.Member {
	m.Pods, m.Running, m.Lacking = nil, 0, nil
	for _, r := range m.Reservations {
		for _, node := range r.Held {
			m.Pods = append(m.Pods, plan.Pod{Index: m.Running, Node: node})
			m.Running++
		}
	}
	return m
}

// pass plans until nothing changes.
func (q *queue) pass() {
	q.t.Helper()
	for range 10 {
		base := member("base", q.busy, q.busy, "a").holds("a", q.busy, names("a", 0, int(q.busy))...).podsOn(names("a", 0, int(q.busy))...)
		observed := plan.Observed{Members: append([]plan.Member{base.Member}, q.members...), Pools: []plan.Pool{q.pool}, Nodes: nodes("a", 0, 10)}
		decisions := plan.Plan(observed, q.now)
		changed := false
		for i := range q.members {
			d := decisionOf(&decisions, q.members[i].Key)
			before := q.members[i]
			q.members[i] = running(written(q.members[i], *d))
			changed = changed || fmt.Sprint(before.Growth) != fmt.Sprint(d.Growth) || len(before.Reservations) != len(d.Reservations)
		}
		if !changed {
			return
		}
	}
	q.t.Fatal("the plan does not come to rest")
}

func decisionOf(d *plan.Decisions, key types.NamespacedName) *plan.Decision {
	for i := range d.Members {
		if d.Members[i].Key == key {
			return &d.Members[i]
		}
	}
	return nil
}

// later lets time pass, in which others come to have so many nodes.
func (q *queue) later(after time.Duration, busy int32) {
	q.t.Helper()
	q.now, q.busy = q.now.Add(after), busy
	q.pass()
}

func (q *queue) leaves(name string) {
	q.t.Helper()
	for i := range q.members {
		if q.members[i].Key.Name == name {
			q.members = append(q.members[:i:i], q.members[i+1:]...)
			break
		}
	}
	q.pass()
}

// has checks how many nodes each member has reserved.
func (q *queue) has(want string) {
	q.t.Helper()
	var parts []string
	for i := range q.members {
		nodes := int32(0)
		for _, r := range q.members[i].Reservations {
			nodes += r.Nodes
		}
		parts = append(parts, fmt.Sprintf("%s %d", q.members[i].Key.Name, nodes))
	}
	if got := strings.Join(parts, ", "); got != want {
		q.t.Errorf("after %s: %s, not %s", q.now.Sub(noon), got, want)
	}
}

// TestRoomThatWasFreeAllAlongIsNotKept: a gang that waits for eight nodes leaves the two that it cannot use alone to others, and is
// served before them with those that become free.
func TestRoomThatWasFreeAllAlongIsNotKept(t *testing.T) {
	t.Parallel()
	q := newQueue(t, 8)
	q.asks("gang", 8)
	q.asks("one", 1)
	q.has("gang 0, one 1")
	q.later(time.Minute, 4)
	q.asks("two", 1)
	q.has("gang 0, one 1, two 1")
	// Four have become free, and they are the growth's.
	q.asks("three", 1)
	q.has("gang 0, one 1, two 1, three 0")
	q.leaves("one")
	q.has("gang 0, two 1, three 0")
	q.later(time.Minute, 1)
	q.has("gang 8, two 1, three 0")
}

// TestRoomIsKeptForAWhile: a gang that is not served in twice the provisionTimeout holds nobody back for as long again, and then
// has longer.
func TestRoomIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	const turn = 20 * time.Minute
	q := newQueue(t, 10)
	q.asks("gang", 8)
	q.later(time.Minute, 9)
	q.asks("one", 1)
	q.has("gang 0, one 0")
	q.later(turn-2*time.Minute, 9)
	q.has("gang 0, one 0")
	q.later(2*time.Minute, 9)
	q.has("gang 0, one 1")
	q.asks("two", 1)
	q.later(turn, 8)
	q.has("gang 0, one 1, two 1")
	q.later(time.Second, 7)
	q.asks("three", 1)
	q.has("gang 0, one 1, two 1, three 0")
	q.later(2*turn-time.Minute, 7)
	q.has("gang 0, one 1, two 1, three 0")
	q.later(2*time.Minute, 7)
	q.has("gang 0, one 1, two 1, three 1")
}

// TestTurnsOfSeveral: while the first gang that waits holds nobody back, the next one does.
func TestTurnsOfSeveral(t *testing.T) {
	t.Parallel()
	q := newQueue(t, 10)
	q.asks("huge", 10)
	q.asks("gang", 4)
	q.later(21*time.Minute, 10)
	q.later(time.Second, 8)
	q.asks("one", 1)
	q.has("huge 0, gang 0, one 0")
	q.later(time.Second, 6)
	q.has("huge 0, gang 4, one 0")
}

// TestNobodyIsNamed: who is held back is told until when, and not by whom.
func TestNobodyIsNamed(t *testing.T) {
	t.Parallel()
	first := member("secret", 8, 8, "a").grows(8, time.Minute, 0).begins()
	first.Growth.Waits = []v1alpha1.RoomWait{{NodePool: "a", Since: metav1.NewMicroTime(noon.Add(-time.Minute)), Turn: 1}}
	second := member("other", 1, 1, "a").grows(1, time.Second, 0).begins()
	third := member("base", 7, 7, "a").holds("a", 7, names("a", 0, 7)...).podsOn(names("a", 0, 7)...)
	d := plan.Plan(
		plan.Observed{
			Members: []plan.Member{first.Member, second.Member, third.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 7),
		},
		noon,
	)
	said := decisionOf(&d, second.Key).Conditions[0]
	want := "1 more node is needed; room for 3 nodes in a, which has become free, is kept until 2026-11-23T12:19:00Z for a growth that " +
		"asked first"
	if said.Reason != v1alpha1.ReasonQueued || said.Message != want {
		t.Errorf("it says %s: %s", said.Reason, said.Message)
	}
}

// TestNobodyFreezesPools: one member that wants every node of sixteen pools, and can have them when all are free, holds up nobody who
// wants one of those that are.
func TestNobodyFreezesPools(t *testing.T) {
	t.Parallel()
	var pools []plan.Pool
	var all []string
	for i := range 16 {
		pools = append(pools, pool(fmt.Sprintf("p%02d", i), 100))
		all = append(all, pools[i].Name)
	}
	members := []plan.Member{
		member("base", 1, 1, "p00").holds("p00", 1, "p00-0").podsOn("p00-0").Member,
		member("evil", 1600, 1600, all...).grows(1600, 30*24*time.Hour, 0).begins().Member,
	}
	for i := range pools {
		members = append(members, member("victim-"+pools[i].Name, 1, 1, pools[i].Name).grows(1, time.Minute, 0).begins().Member)
	}
	d := plan.Plan(plan.Observed{Members: members, Pools: pools, Nodes: nodes("p00", 0, 1)}, noon)
	for i := range d.Members {
		if name := d.Members[i].Key.Name; strings.HasPrefix(name, "victim") && d.Members[i].Reserved() != 1 {
			t.Errorf("%s has %s", name, summary(d.Members[i]))
		}
	}
}

// TestSmallGrowthsDoNotStarveAGang: growths of one node come faster than nodes become free, each for a quarter of an hour; a gang that
// wants nearly all of the pool gets it in the time of its first turn.
func TestSmallGrowthsDoNotStarveAGang(t *testing.T) {
	t.Parallel()
	q := newQueue(t, 0)
	until := map[string]time.Time{}
	for i := range 10 {
		name := fmt.Sprintf("s-%03d", i)
		q.asks(name, 1)
		until[name] = noon.Add(time.Duration(i+5) * time.Minute)
	}
	q.asks("gang", 9)
	for minute := 1; minute <= 20; minute++ {
		q.now = q.now.Add(time.Minute)
		for name, end := range until {
			if !q.now.Before(end) {
				delete(until, name)
				q.leaves(name)
			}
		}
		name := fmt.Sprintf("s-%03d", 10+minute)
		q.asks(name, 1)
		for i := range q.members {
			if m := &q.members[i]; m.Key.Name == "gang" && len(m.Reservations) > 0 {
				if minute < 12 {
					t.Errorf("it was served after %d minutes, before the nodes were free", minute)
				}
				return
			} else if _, runs := until[m.Key.Name]; !runs && len(m.Reservations) > 0 {
				until[m.Key.Name] = q.now.Add(15 * time.Minute)
			}
		}
	}
	t.Errorf("the gang was not served in its turn: %d others are", len(until))
}
