package plan

// noteUnclaimed counts the nodes on which members have pods that stay, and which they do not claim: the pods came there by themselves, or
// the pool was full when they did. Their members claim them as soon as there is room, and until then the room is not there for others: a
// claim for it could never be met.
func (p *pass) noteUnclaimed() {
	for _, m := range p.members {
		if m.Lifecycle != Running {
			continue
		}
		for _, node := range m.held {
			if node.stays > 0 && !node.Leaving {
				m.unclaimed.add(node.Pool, 1)
			}
		}
		for i := range m.unclaimed {
			of := &m.unclaimed[i]
			of.nodes = max(0, of.nodes-m.claimedBefore(of.pool))
			if pool := p.capacity.pools[of.pool]; pool != nil {
				pool.unclaimed += of.nodes
			}
		}
	}
}

// noteClaimed counts nodes of a pool that a member claims from now on, of which some may be nodes that it used without a claim.
func (p *poolCapacity) noteClaimed(m *candidate, more int32) {
	p.granted += more
	used := min(more, m.unclaimed.of(p.Name))
	p.kept.taken += more - used
	if used > 0 {
		p.unclaimed -= used
		m.unclaimed.add(p.Name, -used)
	}
}

// unclaimedBeside is how many nodes of the pool others use without a claim.
func (p *poolCapacity) unclaimedBeside(m *candidate) int32 {
	return p.unclaimed - m.unclaimed.of(p.Name)
}
