package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// kept is room of a pool that has become free while a growth waits for it, and that others are not granted for now.
type kept struct {
	// by is the growth, nodes how many nodes, until the time until which they are kept.
	by    *candidate
	nodes int32
	until time.Time
	// taken is how many nodes others were granted in this pass of the room that is not kept.
	taken int32
}

const (
	// minHold is how long room is kept at least for the growth that waits for it.
	minHold = time.Minute
	// maxDoublings is how many times that time doubles, from one turn to the next.
	maxDoublings = 3
)

// holdOf is how long room of a pool is kept for a growth: twice as long as its nodes may take to come, so that whoever has just been
// given nodes can have used them, and longer with each turn.
func holdOf(pool *poolCapacity, turn int32) time.Duration {
	return max(minHold, 2*pool.ProvisionTimeout) << min(max(0, turn-1), maxDoublings)
}

// keepRoom keeps room for a growth that waits for it: what becomes free from now on in the pools that it waits for, up to what it lacks,
// for a while. What has been free all along is of no use to it alone, and others may have it. After that while it keeps its place and
// holds nobody back, for as long again. In each pool one growth at a time holds others back, the first one that may.
func (p *pass) keepRoom(m *candidate) {
	if m.growth == nil {
		return
	}
	before := m.growth.Waits
	m.growth.Waits = nil
	for i, pool := range m.asked {
		if slices.Contains(m.asked[:i], pool) || pool.kept.by != nil || len(m.growth.Waits) == v1alpha1.MaxRoomWaits {
			continue
		}
		lacks, room := p.lacksIn(pool, m), p.roomIn(pool, m)
		wait := v1alpha1.RoomWait{NodePool: pool.Name, Since: microTime(p.now), Free: room, Turn: 1}
		if at := slices.IndexFunc(before, func(w v1alpha1.RoomWait) bool { return w.NodePool == pool.Name }); at >= 0 {
			wait = before[at]
		}
		hold := holdOf(pool, wait.Turn)
		until, again := wait.Since.Add(hold), wait.Since.Add(2*hold)
		if !p.now.Before(again) {
			wait = v1alpha1.RoomWait{NodePool: pool.Name, Since: microTime(p.now), Free: room, Turn: wait.Turn + 1}
			until = wait.Since.Add(holdOf(pool, wait.Turn))
		}
		if p.now.Before(until) {
			wait.Free = min(wait.Free, room)
			pool.kept = kept{by: m, nodes: min(lacks, pool.MaxSize, room-wait.Free), until: until}
			p.wake(until)
		} else {
			p.wake(again)
		}
		m.growth.Waits = append(m.growth.Waits, wait)
	}
}

// lacksIn is how many nodes a growth lacks that it might have of a pool, with those of the groups that grow with it.
func (p *pass) lacksIn(pool *poolCapacity, m *candidate) int32 {
	lacks := max(1, m.nodesFor(p.target(m))-m.claimed())
	if m.growsAsOne() {
		for _, other := range m.gang.asking {
			if other != m && slices.Contains(other.asked, pool) {
				lacks += max(0, other.nodesFor(p.target(other))-other.claimed())
			}
		}
	}
	return lacks
}

// shareRoom lets the growths for which room is kept know how much of the other room has been granted in this pass.
func (p *pass) shareRoom() {
	for _, pool := range p.capacity.pools {
		if k := &pool.kept; k.by != nil && k.taken > 0 {
			for i := range k.by.growth.Waits {
				if w := &k.by.growth.Waits[i]; w.NodePool == pool.Name {
					w.Free = max(0, w.Free-k.taken)
				}
			}
		}
	}
}

// roomIn is how many nodes a pool could grant to a member if none of its room were kept for another one.
func (p *pass) roomIn(pool *poolCapacity, m *candidate) int32 {
	return max(0, pool.MaxSize-pool.granted-p.capacity.occupiedFor(pool, m)-m.leaving(pool.Name)-pool.unclaimedBeside(m))
}

// words say whose room it is, without a name: it may be that of another tenant.
func (k *kept) words(pool string) string {
	return fmt.Sprintf("room for %s in %s, which has become free, is kept until %s for a growth that asked first",
		pluralize(k.nodes, "node", "nodes"), pool, formatTime(k.until))
}
