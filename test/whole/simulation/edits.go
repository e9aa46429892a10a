package simulation

// edit writes a size into a MiniCluster, as a user does who knows nothing of its member.
func (e *ensemble) edit(name string, size int32) {
	w := e.world
	c := w.clusters.get(name)
	if c == nil || c.finished || c.deleting || c.size == size {
		return
	}
	w.tell("user", "MiniCluster %s: spec.size %d -> %d", name, c.size, size)
	if e.editing != nil {
		e.editing(name, size)
	}
	w.ledger.counts["sizes edited"]++
	w.ledger.former[name] = max(c.size, w.ledger.former[name])
	w.clusters.update(name, func(c *clusterObject) {
		c.size = size
		c.generation++
	})
	w.jobs.resized(name)
}

// edited reports whether somebody other than the controller has set the size, and that has not been adopted.
func (c *clusterObject) edited(m *memberObject) bool {
	return c.applied != c.size && m.adopted != c.generation
}

// sync is what brings a member in line with its MiniCluster, nil when it is. What is planned for it waits for the next pass.
func (a *application) sync(c *chore) func() bool {
	switch {
	case c.cluster == nil || c.cluster.finished || c.cluster.deleting || c.cluster.invalid != "":
		return nil
	case c.cluster.edited(c.member):
		return func() bool { return a.adopt(c) }
	case c.cluster.applied != c.cluster.size:
		return func() bool { return a.recordApplied(c) }
	}
	return nil
}

// adopt makes the size that somebody wrote the desired size.
func (a *application) adopt(c *chore) bool {
	written := a.world.members.updateFrom(c.member, func(m *memberObject) { m.wants, m.adopted = c.cluster.size, c.cluster.generation })
	if written == nil {
		return false
	}
	a.members[written.name] = written.version
	a.world.tell("controller", "%s: a user set the size of the MiniCluster to %d; that is the desired size now, in place of %d",
		written.name,
		written.wants, c.member.wants)
	a.world.ledger.accepted(written.name, written.wants)
	return true
}

// recordApplied makes an adopted size one that the controller knows.
func (a *application) recordApplied(c *chore) bool {
	written := a.world.clusters.updateFrom(c.cluster, func(m *clusterObject) { m.applied = m.size })
	if written == nil {
		return false
	}
	a.clusters[written.name] = written.version
	return true
}
