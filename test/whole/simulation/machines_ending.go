package simulation

import "time"

// ending is how far the end of a machine is.
type ending struct {
	asked, after time.Time
	gone         bool
}

// end ends a machine whose record is deleted, and lets the record go when the cloud says that the machine is gone.
func (l *machineLoop) end(m *machineObject, s *seen) {
	w := l.world
	e := l.endings[m.name]
	if e == nil {
		e = &ending{}
		l.endings[m.name] = e
	}
	if e.gone {
		l.finish(m, s)
		return
	}
	if l.calls["launch/"+m.orderKey()] || l.calls["end/"+m.name] {
		return
	}
	if m.launching && !m.launched && m.providerID == "" && m.failure == nil && s.outcome == nil && s.instance == nil {
		// The order is repeated first: its answer tells whether there is a machine.
		l.alarm.in(time.Second)
		return
	}
	if w.now.Before(e.after) {
		l.alarm.in(e.after.Sub(w.now))
		return
	}
	again := e.asked.Add(endAgain)
	if !e.asked.IsZero() && w.now.Before(again) && (s.instance != nil || !s.listed.After(e.asked)) {
		l.alarm.in(again.Sub(w.now))
		return
	}
	l.terminate(m, s, e)
}

// terminate tells a machine to go, after a look at the API server itself that nobody uses its node.
func (l *machineLoop) terminate(m *machineObject, s *seen, e *ending) {
	w := l.world
	if l.used(m, s) {
		e.after = w.now.Add(time.Second)
		l.alarm.in(time.Second)
		return
	}
	id := m.providerID
	if s.instance != nil {
		id = s.instance.providerID
	}
	l.calls["end/"+m.name] = true
	there := w.draw(span{10 * time.Millisecond, 50 * time.Millisecond})
	exists := false
	w.after(there, func() { exists = w.cloud.terminate(m.name, id) })
	l.later(there+w.draw(span{10 * time.Millisecond, 50 * time.Millisecond}), func() {
		delete(l.calls, "end/"+m.name)
		e.gone, e.asked = !exists, w.now
		l.listSoon(m.pool)
		l.alarm.in(0)
	})
}

// used reports whether the API server itself says that pods are on the node of a machine. What has failed has no pods, whatever its
// node shows, and a node that somebody else is removing is Cluster Autoscaler's to empty.
func (l *machineLoop) used(m *machineObject, s *seen) bool {
	w := l.world
	if m.failure != nil {
		return false
	}
	name := m.nodeName
	if name == "" && s.node != nil {
		name = s.node.name
	}
	if name == "" && s.instance != nil {
		name = s.instance.node
	}
	n := w.nodes.get(name)
	if name == "" && w.cloud.settings(m.pool).bare && m.providerID != "" {
		for _, other := range w.nodes.live.items {
			if other.providerID == m.providerID {
				n = other
			}
		}
	}
	return n != nil && w.podsOn(n.name) > 0 && (!n.tainted || n.ours)
}

// finish deletes the node where its cloud leaves it, and lets the record go.
func (l *machineLoop) finish(m *machineObject, s *seen) {
	w := l.world
	if l.busy[m.name] {
		return
	}
	l.busy[m.name] = true
	l.later(w.draw(w.write), func() {
		delete(l.busy, m.name)
		if n := s.node; n != nil {
			if now := w.nodes.get(n.name); now != nil && now.providerID == n.providerID {
				w.removeNode(n.name)
			}
		}
		if now := w.machines.get(m.name); now != nil && now.version == m.version {
			w.machines.remove(m.name)
			delete(l.endings, m.name)
			delete(l.outcomes, m.name)
		}
	})
}

// forget lets go what the cloud keeps of a machine that has failed.
func (l *machineLoop) forget(m *machineObject, i *instance) {
	w := l.world
	if l.calls["end/"+m.name] {
		return
	}
	l.calls["end/"+m.name] = true
	l.later(w.draw(span{10 * time.Millisecond, 50 * time.Millisecond}), func() {
		delete(l.calls, "end/"+m.name)
		w.cloud.terminate(m.name, i.providerID)
		l.alarm.in(5 * time.Second)
	})
}
