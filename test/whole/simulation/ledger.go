package simulation

import (
	"slices"
	"time"
)

// ledger remembers what the promises are about and no object tells: what was promised to whom, and what went away when.
type ledger struct {
	world *world
	// sizes are all sizes that a member has ever wanted or had, desired size the last one that was accepted, and wanted when
	// each was.
	sizes   map[string]map[int32]bool
	desired map[string]int32
	history map[string][]desire
	// heldSince is when a node was recorded as held, vanished when a node went away.
	heldSince, vanished map[string]time.Time
	// unregistered are the machines that had no node when their release was written, and those whose node has lost its taint
	// since then: a pod may come there that the provider cannot know of.
	unregistered map[string]bool
	// former is the size that a MiniCluster had before the last one.
	former map[string]int32
	// complete is the size up to which each rank of a member has had a node, as far as the controller has recorded.
	complete map[string]int32
	// pending is the time that pods have waited for a node.
	pending time.Duration
	// forPods is how many nodes of each pool Cluster Autoscaler has ordered for pods that it found by itself.
	forPods map[string]int32
	// taken are the machines that the cloud or a person has taken, or is about to, recordedEver those that had a record.
	taken, recordedEver map[string]bool
	// short is since when an order lacks records.
	short map[string]time.Time
	// beyond are the pools in which a machine was found that the maximum size does not allow.
	beyond map[string]bool
	// facts are what is known of each member, noted the version that they are of.
	facts map[string]*facts
	noted int64
	// claimed is how many machines each claim was for, by pool, bought how many each pool may have had for members, and when.
	claimed map[string]int32
	bought  map[string][]bought
	// counts are how often things happened that a simulation should see.
	counts map[string]int
}

type desire struct {
	at   time.Time
	size int32
}

func newLedger(w *world) *ledger {
	return &ledger{
		world: w, sizes: map[string]map[int32]bool{}, desired: map[string]int32{}, history: map[string][]desire{},
		heldSince: map[string]time.Time{}, vanished: map[string]time.Time{},
		former: map[string]int32{}, unregistered: map[string]bool{}, complete: map[string]int32{},
		taken: map[string]bool{}, beyond: map[string]bool{}, short: map[string]time.Time{}, recordedEver: map[string]bool{},
		facts: map[string]*facts{}, claimed: map[string]int32{}, bought: map[string][]bought{},
		forPods: map[string]int32{}, counts: map[string]int{},
	}
}

// accepted notes a desired size that a member was told is accepted.
func (l *ledger) accepted(member string, size int32) {
	if l.sizes[member] == nil {
		l.sizes[member] = map[int32]bool{}
	}
	l.sizes[member][size] = true
	l.desired[member] = size
	l.history[member] = append(l.history[member], desire{l.world.now, size})
}

// answered notes the answer to a request.
func (l *ledger) answered(reply string) {
	l.counts["answers"]++
	l.world.promise(reply != "", "a request got an answer without a reason")
}

// gaveUp notes that the controller has set a desired size back, which it may only do to the one that it has read.
func (l *ledger) gaveUp(read, written *memberObject) {
	l.counts["desired sizes given up"]++
	l.world.promise(l.desired[read.name] == read.wants, "%s: the desired size for %d is set back to %d, and %d was accepted meanwhile",
		read.name, read.wants, written.wants, l.desired[read.name])
	l.world.promise(read.giveUpAfter > 0 && written.growth != nil && written.growth.Attempts >= read.giveUpAfter,
		"%s: the desired size is set back before %d attempts have failed", read.name, read.giveUpAfter)
	l.accepted(read.name, written.wants)
}

// noteReserved notes since when nodes are held.
func (l *ledger) noteReserved(m *memberObject) {
	for i := range m.reservations {
		for _, node := range m.reservations[i].Held {
			if _, known := l.heldSince[node+" "+m.name]; !known {
				l.heldSince[node+" "+m.name] = l.world.now
				l.counts["nodes held"]++
			}
		}
	}
}

// released notes machines whose release is written.
func (l *ledger) released(machines []string) {
	for _, name := range machines {
		if l.world.nodeOf(name) == nil {
			l.unregistered[name] = true
		}
	}
}

// exposed notes a node that Cluster Autoscaler has taken the taint off, if its release is written.
func (l *ledger) exposed(n *nodeObject) {
	if p, machine := l.world.pools.get(n.pool), l.world.machineOf(n); p != nil && slices.Contains(p.toDelete, machine) {
		l.unregistered[machine] = true
	}
}

// lost notes a node that goes away.
func (l *ledger) lost(node string) { l.vanished[node] = l.world.now }

// unscheduled adds the time that a pod was without a node, when it gets one or ends.
func (l *ledger) unscheduled(p *podObject) {
	if p.member != "" && p.node == "" {
		l.pending += l.world.now.Sub(p.createdAt)
	}
}

// desiredSince are the minimum and the maximum of the sizes that were wanted at any time since.
func (l *ledger) desiredSince(member string, since time.Time) (least, greatest int32) {
	history := l.history[member]
	for i := range history {
		if i+1 < len(history) && history[i+1].at.Before(since) {
			continue
		}
		if greatest == 0 {
			least = history[i].size
		}
		least, greatest = min(least, history[i].size), max(greatest, history[i].size)
	}
	return least, greatest
}
