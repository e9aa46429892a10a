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
	// notMade is why pods of a member are not made.
	notMade map[string]string
	// alarms wake one member each.
	alarms map[string]*alarm
}

func newJobs(w *world) *jobs {
	return &jobs{world: w, alarms: map[string]*alarm{}, notMade: map[string]string{}}
}

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
	active := size
	if size > 0 && c.suspended {
		active = 0
	}
	have, made := map[int32]bool{}, int32(0)
	var surplus []string
	for _, p := range w.pods.live.items {
		switch {
		case p.member != member || p.deleting:
		case p.index >= size, p.index >= active && !p.succeeded:
			surplus = append(surplus, p.name)
		default:
			have[p.index] = true
			if !p.succeeded {
				made++
			}
		}
	}
	for _, name := range surplus {
		j.remove(name)
	}
	gated := 0
	delete(j.notMade, member)
	for index := range active {
		if !have[index] && c.limited && made >= c.quota {
			w.ledger.counts["pods over quota"]++
			j.notMade[member] = fmt.Sprintf("exceeded quota: q, limited: pods=%d", c.quota)
			break
		}
		if !have[index] {
			j.made++
			made++
			if m.gated {
				gated++
			}
			w.pods.create(&podObject{
				meta: meta{name: fmt.Sprintf("%s-%d.%d", member, index, j.made)}, member: member, index: index,
				pools: m.pools, cpu: m.podCPU() + m.injected.cpu, devices: m.deviceCount(), selects: m.selects.and(m.injected.selects),
				createdAt: w.now, gated: m.gated,
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
	w.pods.update(name, func(p *podObject) { p.deleting, p.running = true, false })
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

// podBound is called when a pod has got a node: it runs after a while, or never.
func (j *jobs) podBound(name string) {
	w := j.world
	if w.starts.most == 0 || w.pods.get(name).member == "" {
		return
	}
	w.after(w.draw(w.starts), func() {
		p := w.pods.get(name)
		switch {
		case p == nil || p.deleting || p.node == "":
		case !w.quiet && w.chance(w.stuckPercent):
			w.ledger.counts["pods stuck"]++
			w.tell("kubelet", "pod %s does not start: ImagePullBackOff", name)
			w.pods.update(name, func(p *podObject) { p.stuck = "ImagePullBackOff" })
		default:
			j.runs(name)
		}
	})
}

// runs lets a pod run.
func (j *jobs) runs(name string) {
	w := j.world
	if p := w.pods.get(name); p == nil || p.deleting || p.running || p.node == "" {
		return
	}
	w.tell("kubelet", "pod %s runs", name)
	w.pods.update(name, func(p *podObject) { p.running, p.stuck = true, "" })
	w.ensemble.look(w.pods.get(name).member)
}

// succeed ends the pod of a rank with success. It stays, on no node.
func (j *jobs) succeed(name string) {
	w := j.world
	p := w.pods.get(name)
	if p == nil || p.deleting || !p.running {
		return
	}
	w.tell("kubelet", "pod %s has succeeded, on %s", name, p.node)
	w.ledger.counts["pods succeeded"]++
	w.pods.update(name, func(p *podObject) {
		p.node, p.releasedFor, p.refusedSince, p.running, p.succeeded = "", "", time.Time{}, false, true
	})
	w.ensemble.look(p.member)
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
