package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// decide turns what the pass knows of each member into its decision.
func (p *pass) decide() Decisions {
	out := Decisions{Members: make([]Decision, 0, len(p.members))}
	p.settleGangs()
	for _, m := range p.members {
		if m.ended != nil && m.ready() < m.claimed() {
			m.growth = m.ended
		}
		if m.growth != nil && m.growth.Deadline != nil && m.Invalid == "" && m.ready() >= m.claimed() {
			// Nothing is outstanding.
			m.growth.Deadline = nil
		}
		p.setDeadline(m)
		d := Decision{
			Key:          m.Key,
			Group:        m.Group,
			Reservations: p.reservations(m),
			Growth:       m.growth,
			Nodes:        m.ready(),
			Idle:         m.idle(),
			Resize:       p.resize(m),
			Release:      p.release(m),
			Recreate:     m.stranded,
		}
		d.Leave = m.leave(d.Resize)
		if m.growth != nil && m.Invalid == "" && m.shrink == 0 && m.presentMet() {
			// Whatever more it waits for: from the next pass on each pod of the present size is on its own. Those beyond a smaller
			// desired size are about to leave.
			m.growth.Served = min(m.Size, m.Wants)
		}
		if d.Resize == 0 || m.shrink > 0 {
			d.GiveUp = p.giveUp(m)
		}
		d.Departing = m.noteDepartures()
		p.noteGivenBack(m)
		d.Conditions, d.WhenReady = p.conditions(m)
		d.Notes, d.TopologyDomain, d.Avoided, d.Findings = m.notes, m.topologyDomain(), m.avoids(), m.found()
		d.PodsLacking = m.podsLacking
		d.Running, _ = m.runningPods()
		out.Members = append(out.Members, d)
		p.wakeFor(m)
	}
	out.Next = p.next
	return out
}

// setDeadline gives a growth a deadline that needs nothing more than what was reserved before it was asked for.
func (p *pass) setDeadline(m *candidate) {
	if m.Lifecycle != Running || m.growth == nil || m.growth.Deadline != nil || m.waitsOut() || m.refusal != nil || m.ready() >= m.claimed() {
		return
	}
	timeout := time.Duration(0)
	for _, claim := range m.claims {
		if pool := p.capacity.pools[claim.pool]; pool != nil {
			timeout = max(timeout, pool.ProvisionTimeout)
		}
	}
	now, deadline := microTime(p.now), microTime(p.now.Add(timeout))
	m.growth.Deadline, m.growth.GrantedAt = &deadline, &now
}

// resize is the size to give the MiniCluster now, or 0. A larger size needs every node of the reservation,
// held and usable; a smaller one needs nothing.
func (p *pass) resize(m *candidate) int32 {
	if m.Lifecycle != Running || m.Invalid != "" {
		return 0
	}
	if m.shrink > 0 {
		m.note(v1alpha1.ReasonResizing, fmt.Sprintf("resizing the %s from %d to %d, which has pods", m.Kind, m.Size, m.shrink))
		return m.shrink
	}
	if m.Wants < m.Size {
		m.note(v1alpha1.ReasonResizing, fmt.Sprintf("resizing the %s from %d to %d; %s leave", m.Kind, m.Size, m.Wants, m.Leaves.words()))
		return m.Wants
	}
	claimed := m.claimed()
	size := min(m.sizeOf(claimed), m.Wants)
	if ready := m.ready(); ready < claimed {
		if !m.partial() {
			return 0
		}
		size, claimed = min(m.readySize(), size), ready
	}
	if m.hasLessRoom() || !m.mayResize() {
		return 0
	}
	size = m.unitsIn(size)
	if size <= m.Size || m.forgone > 0 || m.waitsForPods() {
		// Where pods do not come there may be room for more of them.
		return 0
	}
	// Of nodes that are Ready as soon as they are reserved one sentence tells.
	m.notes = slices.DeleteFunc(m.notes, func(n Note) bool { return n.Reason == v1alpha1.ReasonReserved })
	m.note(
		v1alpha1.ReasonResizing,
		fmt.Sprintf("resizing the %s from %d to %d; %s Ready", m.Kind, m.Size, size, pluralize(claimed, "node is", "nodes are")),
	)
	return size
}

// giveUp sets the desired size of a member back to its size when its growth has failed as often as it may.
func (p *pass) giveUp(m *candidate) *GiveUp {
	size := m.unitsFor(max(m.Size, m.MinSize))
	if m.shrink > 0 {
		size = m.unitsFor(max(m.shrink, m.MinSize))
	}
	if m.Lifecycle != Running || m.Invalid != "" || !m.waitsOut() || m.GiveUpAfter == 0 || m.growth.Attempts < m.GiveUpAfter ||
		m.Wants <= size {
		return nil
	}
	why := fmt.Sprintf(
		"the growth to size %d has failed %s: %s", m.Wants, pluralize(m.growth.Attempts, "time", "times"), joinMessages(m.growth.Failures),
	)
	m.warn(v1alpha1.ReasonGaveUp, fmt.Sprintf("%s; giveUpAfter is %d, so the desired size is %d again", why, m.GiveUpAfter, size))
	return &GiveUp{Size: size, Why: why}
}

// noteGivenBack tells which nodes the member's status has listed so far and does no longer.
func (p *pass) noteGivenBack(m *candidate) {
	var gone, lost []string
	place := 0
	for i := range m.Reservations {
		for _, name := range m.Reservations[i].Held {
			node := m.heldBefore[place]
			place++
			switch {
			case node == nil && !p.capacity.outside[name]:
				lost = append(lost, name)
			case node == nil || node.holder != m:
				gone = append(gone, name)
			}
		}
	}
	//nolint:gosec // Bounded by the size of the MiniCluster.
	nLost, nGone := int32(len(lost)), int32(len(gone))
	if nLost > 0 {
		which := pluralize(nLost, "node that does not exist any more", "nodes that do not exist any more")
		m.warn(v1alpha1.ReasonNodesLost, fmt.Sprintf("lost %s: %s", which, listed(lost)))
	}
	if nGone > 0 {
		m.note(v1alpha1.ReasonNodesGivenBack, fmt.Sprintf("gave back %s: %s", pluralize(nGone, "node", "nodes"), listed(gone)))
	}
}

// wakeFor makes sure that a pass comes when time alone changes what becomes of the member.
func (p *pass) wakeFor(m *candidate) {
	for _, claim := range m.claims {
		// A node that never becomes Ready is one more that is occupied from then on.
		if pool := p.capacity.pools[claim.pool]; pool != nil && m.heldReady(claim.pool) < claim.nodes {
			if late := p.capacity.late(pool); !late.IsZero() {
				p.wake(late)
			}
		}
	}
	p.wakeForRefused(m)
	for _, until := range m.avoided {
		p.wake(until)
	}
	if m.growth == nil || m.Invalid != "" {
		return
	}
	if m.growth.Deadline != nil && p.now.Before(m.growth.Deadline.Time) {
		p.wake(m.growth.Deadline.Time)
	}
	if m.growth.RetryAfter != nil {
		p.wake(m.growth.RetryAfter.Time)
	}
}

func (p *pass) wake(at time.Time) {
	if p.next.IsZero() || at.Before(p.next) {
		p.next = at
	}
}
