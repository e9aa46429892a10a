package simulation

import (
	"fmt"
	"time"
)

// jobs is the Flux Operator and the Job controller: the pods of a member follow the size of its MiniCluster, the highest
// ranks leave first, and a pod that is lost is made again.
type jobs struct {
	world *world
	// made counts the pods that were made.
	made int
	// alarms wake one member each.
	alarms map[string]*alarm
}

func newJobs(w *world) *jobs { return &jobs{world: w, alarms: map[string]*alarm{}} }

// resized is called when a MiniCluster has another size, or one of its pods is gone.
func (j *jobs) resized(member string) {
	a := j.alarms[member]
	if a == nil {
		a = &alarm{clock: &j.world.clock, ring: func() { j.follow(member) }}
		j.alarms[member] = a
	}
	a.in(j.world.draw(j.world.followed))
}

// follow makes the pods that are missing and deletes those that are too many.
func (j *jobs) follow(member string) {
	w := j.world
	m, c := w.members.get(member), w.clusters.get(member)
	size := int32(0)
	if c != nil && !c.finished && !c.deleting && m != nil {
		size = c.size
	}
	have := map[int32]bool{}
	var surplus []string
	for _, p := range w.pods.live.items {
		switch {
		case p.member != member || p.deleting:
		case p.index >= size:
			surplus = append(surplus, p.name)
		default:
			have[p.index] = true
		}
	}
	for _, name := range surplus {
		j.remove(name)
	}
	gated := 0
	for index := range size {
		if !have[index] {
			j.made++
			if m.gated {
				gated++
			}
			w.pods.create(&podObject{
				meta: meta{name: fmt.Sprintf("%s-%d.%d", member, index, j.made)}, member: member, index: index,
				pools: m.pools, cpu: m.podCPU(), createdAt: w.now, gated: m.gated,
			})
		}
	}
	if gated > 0 {
		w.tell("job", "%d new pods of %s wait behind the gate", gated, member)
	}
	w.scheduler.wake()
}

// remove deletes a pod, which takes its time when it is on a node.
func (j *jobs) remove(name string) {
	w := j.world
	p := w.pods.get(name)
	if p == nil || p.deleting {
		return
	}
	if p.node == "" {
		j.end(name)
		return
	}
	w.pods.update(name, func(p *podObject) { p.deleting = true })
	w.ensemble.look(p.member)
	w.after(w.draw(w.grace), func() { j.end(name) })
}

// end takes a pod away.
func (j *jobs) end(name string) {
	w := j.world
	p := w.pods.get(name)
	if p == nil {
		return
	}
	w.ledger.unscheduled(p)
	if p.node != "" {
		w.tell("kubelet", "pod %s has left %s", name, p.node)
	}
	w.pods.remove(name)
	if p.member != "" {
		j.resized(p.member)
		w.ensemble.look(p.member)
	}
	w.scheduler.wake()
}

// nodeLost ends the pods of a node that is gone, after a while.
func (j *jobs) nodeLost(node string) {
	for _, p := range j.world.pods.live.items {
		if p.node == node {
			name := p.name
			j.world.after(j.world.draw(span{500 * time.Millisecond, 20 * time.Second}), func() { j.end(name) })
		}
	}
}
