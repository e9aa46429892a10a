package simulation

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

type (
	reservation  = v1alpha1.Reservation
	reservations = []v1alpha1.Reservation
)

// application is a pass on its way through its writes, in the order of package resize: members are brought in line with
// their MiniClusters; what is given up comes before somebody else gets it; the status before the pods that may go to their
// nodes, and these before the size; several members at a time, so their writes mix.
type application struct {
	*controller
	// of is the life of the process that the pass belongs to.
	of      int
	planned time.Time
	// observed is what the pass was planned from.
	observed plan.Observed
	decided  []plan.Decision
	next     time.Time
	// chores are done now, those of each later stage when the ones before are done.
	chores   []*chore
	later    [][]*chore
	conflict bool
}

// chore is what a decision means for one member.
type chore struct {
	decision *plan.Decision
	member   *memberObject
	cluster  *clusterObject
	// syncs is set when the member has to be brought in line with its MiniCluster first.
	syncs bool
	// writes are left to be done. Each reports whether it went through.
	writes []func() bool
}

// prepare finds the writes of a decision.
func (a *application) prepare(c *chore) {
	if sync := a.sync(c); sync != nil {
		c.syncs, c.writes = true, []func() bool{sync}
		return
	}
	d := c.decision
	resizes := d.Resize != 0 && c.cluster != nil
	recorded := sameReservations(c.member.reservations, d.Reservations) && sameGrowth(c.member.growth, d.Growth) &&
		c.member.domain == d.TopologyDomain && slices.Equal(c.member.avoided, d.Avoided) && sameFindings(c.member, d)
	size := c.member.size
	if c.cluster != nil && c.cluster.invalid == "" {
		size = c.cluster.size
	}
	said := recorded && c.member.size == size && c.member.running == d.Running && sameConditions(
		c.member.conditions, d.Conditions,
	) && len(d.Departing) == 0
	if !said && (!resizes || !recorded || len(d.Departing) > 0) {
		c.writes = append(c.writes, func() bool { return a.writeStatus(c, size) })
	}
	c.writes = append(c.writes, a.releases(c)...)
	if resizes {
		c.writes = append(c.writes, func() bool { return a.resize(c) })
	}
	if d.GiveUp != nil {
		c.writes = append(c.writes, func() bool { return a.giveUp(c) })
	}
}

// proceed makes one write, or ends the pass.
func (a *application) proceed() {
	a.chores = slices.DeleteFunc(a.chores, func(c *chore) bool { return len(c.writes) == 0 })
	for len(a.chores) == 0 && len(a.later) > 0 {
		a.chores, a.later = a.later[0], a.later[1:]
	}
	if len(a.chores) == 0 {
		a.finish(a.conflict, a.next)
		return
	}
	a.world.after(a.world.draw(a.world.write), func() {
		if a.life != a.of {
			return
		}
		c := a.chores[a.world.rand.IntN(len(a.chores))]
		write := c.writes[0]
		c.writes = c.writes[1:]
		if !write() {
			a.conflict, c.writes = true, nil
		}
		a.proceed()
	})
}

func (a *application) writeStatus(c *chore, size int32) bool {
	d := c.decision
	written := a.world.members.updateFrom(c.member, func(m *memberObject) {
		m.reservations, m.growth, m.conditions, m.size = d.Reservations, d.Growth, d.Conditions, size
		m.domain, m.avoided = d.TopologyDomain, d.Avoided
		m.findings, m.podsLacking, m.running = d.Findings, d.PodsLacking, d.Running
		m.departing = slices.Concat(m.departing, d.Departing)
	})
	if written == nil {
		return false
	}
	a.tellNotes(c)
	a.tellWait(c.member, written)
	a.world.ledger.noteReserved(written)
	if d.Resize == 0 || d.Resize > size {
		a.world.checkServed(written, a.planned)
	}
	a.world.checkStatus(c, written, a)
	a.world.noteClaims(written)
	if c.member.domain != "" && written.domain != "" && written.domain != c.member.domain {
		a.world.ledger.counts["growths moved"]++
	}
	c.member, a.members[written.name] = written, written.version
	if a.recorded != nil {
		a.recorded(written)
	}
	return true
}

func (a *application) resize(c *chore) bool {
	before := c.cluster.size
	written := a.world.clusters.updateFrom(c.cluster, func(m *clusterObject) {
		m.size, m.applied = c.decision.Resize, c.decision.Resize
		m.generation++
	})
	if written == nil {
		return false
	}
	a.tellNotes(c)
	a.clusters[written.name] = written.version
	a.world.tell("controller", "MiniCluster %s: size %d -> %d", written.name, before, written.size)
	a.world.checkResize(c, before, a.planned)
	a.world.jobs.resized(written.name)
	return true
}

func (a *application) giveUp(c *chore) bool {
	written := a.world.members.updateFrom(c.member, func(m *memberObject) { m.wants = c.decision.GiveUp.Size })
	if written == nil {
		return false
	}
	a.tellNotes(c)
	a.world.ledger.gaveUp(c.member, written)
	a.members[written.name] = written.version
	return true
}

// tellNotes tells the steps of a decision with its first write.
func (a *application) tellNotes(c *chore) {
	for _, note := range c.decision.Notes {
		a.world.tell("controller", "%s: %s", c.decision.Key.Name, note.Message)
	}
	c.decision.Notes = nil
}

// tellWait tells what a member waits for, when that is another thing than before.
func (a *application) tellWait(before, after *memberObject) {
	was, _ := reservedCondition(before)
	reason, is := reservedCondition(after)
	if is || reason == was {
		return
	}
	for i := range after.conditions {
		if after.conditions[i].Reason == reason {
			a.world.tell("controller", "%s waits, %s: %s", after.name, reason, after.conditions[i].Message)
			return
		}
	}
}

func sameReservations(a, b reservations) bool {
	return slices.EqualFunc(a, b, func(a, b reservation) bool {
		return a.NodePool == b.NodePool && a.Nodes == b.Nodes && a.Occupied == b.Occupied && a.OccupiedAtGrant == b.OccupiedAtGrant &&
			slices.Equal(a.Held, b.Held)
	})
}

func sameFindings(m *memberObject, d *plan.Decision) bool {
	lacking := m.podsLacking == nil && d.PodsLacking == nil
	if m.podsLacking != nil && d.PodsLacking != nil {
		lacking = *m.podsLacking == *d.PodsLacking
	}
	return lacking && slices.EqualFunc(m.findings, d.Findings, func(a, b v1alpha1.PoolFinding) bool {
		return a.NodePool == b.NodePool && a.Basis == b.Basis && a.Replaced == b.Replaced && a.Unusable == b.Unusable && a.Refused == b.Refused &&
			a.At.Equal(&b.At)
	})
}

func sameConditions(a, b []metav1.Condition) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.Condition) bool {
		return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
	})
}

func sameGrowth(a, b *v1alpha1.Growth) bool {
	if a == nil || b == nil {
		return a == b
	}
	sameTime := func(a, b *metav1.MicroTime) bool {
		if a == nil || b == nil {
			return a == b
		}
		return a.Equal(b)
	}
	return a.From == b.From && a.Size == b.Size && a.Served == b.Served && a.Since.Equal(&b.Since) && a.NodePool == b.NodePool &&
		a.Partial == b.Partial && a.Attempts == b.Attempts && sameTime(a.Deadline, b.Deadline) &&
		sameTime(a.GrantedAt, b.GrantedAt) && sameTime(a.RetryAfter, b.RetryAfter) &&
		slices.EqualFunc(a.Failures, b.Failures, func(a, b v1alpha1.PoolFailure) bool {
			return a.NodePool == b.NodePool && a.Reason == b.Reason && a.Message == b.Message && a.At.Equal(&b.At)
		})
}
