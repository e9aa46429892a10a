package simulation

// editNode changes a node, and notes when that makes it usable or takes that from it.
func (w *world) editNode(name string, edit func(*nodeObject)) {
	w.scheduler.wake()
	w.nodes.update(name, func(n *nodeObject) {
		before := n.usable()
		edit(n)
		if n.usable() != before {
			n.since = w.now
		}
	})
}

// setReady changes whether a node is Ready.
func (w *world) setReady(name string, ready bool) {
	n := w.nodes.get(name)
	if n == nil || n.ready == ready {
		return
	}
	word := "NotReady"
	if ready {
		word = "Ready"
	}
	w.tell("node", "%s is %s", name, word)
	w.editNode(name, func(n *nodeObject) {
		n.ready = ready
		if !ready {
			n.notReadySince = w.now
		}
	})
}

// cordon changes whether a node takes new pods.
func (w *world) cordon(name string, cordoned bool) {
	n := w.nodes.get(name)
	if n == nil || n.cordoned == cordoned {
		return
	}
	w.tell("admin", "%s is cordoned: %t", name, cordoned)
	w.editNode(name, func(n *nodeObject) { n.cordoned = cordoned })
}

// podsOn counts the pods on a node that have not ended, but for those of DaemonSets.
func (w *world) podsOn(node string) int {
	count := 0
	for _, p := range w.pods.live.items {
		if p.node == node && p.daemon == "" {
			count++
		}
	}
	return count
}
