package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// labels are those of a node, a template or a namespace, or what selects these by them. They are never changed.
type labels map[string]string

// Matches reports whether all of the labels are among those of something.
func (l labels) Matches(_ string, of map[string]string) bool {
	for key, value := range l {
		if of[key] != value {
			return false
		}
	}
	return true
}

func (l labels) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, key+"="+l[key])
	}
	return strings.Join(parts, ",")
}

// and are the labels with others beside them.
func (l labels) and(others labels) labels {
	if len(l) == 0 {
		return others
	}
	if len(others) == 0 {
		return l
	}
	out := maps.Clone(l)
	maps.Copy(out, others)
	return out
}

// selector is nil for labels that select all.
func (l labels) selector() plan.Selector {
	if l == nil {
		return nil
	}
	return l
}

// classKey is a label of the templates of pools that members may select.
const classKey = "example.com/class"

// injection is what an admission plugin adds to pods, of which the MiniCluster says nothing.
type injection struct {
	cpu     int64
	selects labels
}

// needs is what one pod needs of a node.
type needs struct {
	cpu, devices int64
	selects      labels
}

// needs is what a pod of a member needs, by its template and by the pods that there have been since a time.
func (w *world) needs(m *memberObject, since time.Time) needs {
	out := needs{cpu: m.podCPU(), devices: m.deviceCount(), selects: m.selects}
	if m.injected.cpu == 0 && m.injected.selects == nil {
		return out
	}
	for _, p := range w.pods.live.items {
		if p.member == m.name && !p.succeeded && !p.createdAt.After(since) {
			out.cpu, out.selects = max(out.cpu, p.cpu), p.selects
		}
	}
	return out
}

func (m *memberObject) deviceCount() int64 {
	if m.devices {
		return 1
	}
	return 0
}

// takes reports whether an empty node offers what cannot be shared out: a device, and the labels that are selected.
func (n *nodeObject) takes(needs needs) bool {
	return n.devices >= needs.devices && needs.selects.Matches(n.name, n.labels)
}

// refuses says why a pod cannot go to a node, of which so much is in use; empty when it can.
func (s *scheduler) refuses(p *podObject, n *nodeObject, cpu map[string]int64) string {
	switch {
	case n == nil:
		return "the node does not exist"
	case !n.usable():
		return fmt.Sprintf("node %s had an untolerated taint or is not Ready", n.name)
	case cpu[n.name]+p.cpu > n.cpu:
		return "Insufficient cpu"
	case p.devices > n.devices:
		return "Insufficient " + string(device)
	case !p.selects.Matches(n.name, n.labels):
		return "the node did not match the pod's node selector"
	case s.hidden(p.member, n):
		return "the node had a volume node affinity conflict"
	}
	return ""
}

// hidden reports whether the scheduler keeps the pods of a member off a node for a reason that none of our parts knows of.
func (s *scheduler) hidden(member string, n *nodeObject) bool {
	w := s.world
	of := w.cloud.settings(n.pool)
	if of == nil || of.refusePercent == 0 || member == "" {
		return false
	}
	key := member + " " + n.name
	refuses, known := s.refused[key]
	if !known {
		refuses = !w.cloud.repaired && w.chance(of.refusePercent)
		s.refused[key] = refuses
		if refuses {
			w.ledger.counts["hidden refusals"]++
		}
	}
	return refuses && !w.cloud.repaired
}

// fitsNew reports whether Cluster Autoscaler thinks that a new node of a pool would take a pod: it goes by a node of the pool that
// is there, and by the template while there is none.
func (w *world) fitsNew(p *podObject, pool *poolObject) bool {
	left, devices, has := pool.cpu, pool.devices, pool.labels
	for _, n := range w.nodes.live.items {
		if n.pool == pool.name && n.ready {
			left, devices, has = n.cpu, n.devices, n.labels
			break
		}
	}
	for i := range pool.daemons {
		left -= pool.daemons[i].Requests["cpu"]
	}
	return p.cpu <= left && p.devices <= devices && p.selects.Matches("", has)
}
