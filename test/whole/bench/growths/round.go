package main

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/audit"
)

// The steps of a growth, in the order in which they come when it grows by a request.
const (
	stepStored       = "request stored"
	stepReserved     = "nodes reserved"
	stepTarget       = "target raised"
	stepFirstNode    = "first node Ready"
	stepLastNode     = "last node Ready"
	stepPatched      = "MiniCluster has the size"
	stepJob          = "Job has the size"
	stepFirstMade    = "first pod created"
	stepLastMade     = "last pod created"
	stepFirstFree    = "first pod released"
	stepLastFree     = "last pod released"
	stepFirstBound   = "first pod bound"
	stepLastBound    = "last pod bound"
	stepFirstRunning = "first pod Running"
	stepLastRunning  = "last pod Running"
)

var allSteps = []string{
	stepStored, stepReserved, stepTarget, stepFirstNode, stepLastNode, stepPatched, stepJob, stepFirstMade, stepLastMade,
	stepFirstFree, stepLastFree, stepFirstBound, stepLastBound, stepFirstRunning, stepLastRunning,
}

// round is one way of a MiniCluster to its size.
type round struct {
	size int
	// at is when each step was reached, from the request on. One that there was not is not in it.
	at map[string]time.Duration
	// pending is how long, all together, pods were Pending for want of a node.
	pending time.Duration
	// writers are who has written between the request and the last pod Running, lastWriters who has since the last node was Ready.
	writers, lastWriters writers
}

// writer is a program that writes a kind of object.
type writer struct{ program, verb, resource string }

// writers is what each of them has written.
type writers map[writer]*wrote

// wrote is what a writer has written.
type wrote struct {
	count, refused int
	took           time.Duration
}

// newRound makes of what happened since the request what is told of it.
func newRound(s *scene, asked time.Time, events []history.Event, records []audit.Record) *round {
	r := &round{size: s.size, at: map[string]time.Duration{}, writers: writers{}, lastWriters: writers{}}
	first := func(step string, at time.Time) {
		if _, is := r.at[step]; !is {
			r.at[step] = at.Sub(asked)
		}
	}
	last := func(step string, at time.Time) { r.at[step] = max(r.at[step], at.Sub(asked)) }
	both := func(begin, end string, at time.Time) { first(begin, at); last(end, at) }
	type reached struct{ gated, bound, running bool }
	pods := map[types.UID]*reached{}
	ready := map[string]bool{}
	for i := range events {
		event := &events[i]
		if event.Deleted {
			continue
		}
		since := event.At.After(asked)
		switch o := event.Object.(type) {
		case *v1alpha1.EnsembleMember:
			if o.Name != s.cluster.Name || !since {
				continue
			}
			if int(o.Spec.Size) == s.size {
				first(stepStored, event.At)
			}
			reserved := 0
			for j := range o.Status.Reservations {
				reserved += int(o.Status.Reservations[j].Nodes)
			}
			if reserved == s.size {
				first(stepReserved, event.At)
			}
		case *v1alpha1.NodePool:
			if o.Name == s.pool && since && int(o.Spec.Replicas) == s.size {
				first(stepTarget, event.At)
			}
		case *corev1.Node:
			if o.Labels[v1alpha1.LabelNodePool] != s.pool || !history.Ready(o) || ready[o.Name] {
				continue
			}
			if ready[o.Name] = true; since {
				both(stepFirstNode, stepLastNode, event.At)
			}
		case *unstructured.Unstructured:
			if size, _, _ := unstructured.NestedInt64(o.Object, "spec", "size"); o.GetName() == s.cluster.Name && since && int(size) == s.size {
				first(stepPatched, event.At)
			}
		case *corev1.Pod:
			if history.MiniClusterOf(o) != s.cluster {
				continue
			}
			pod := pods[o.UID]
			if pod == nil {
				pod = &reached{gated: history.Gated(o)}
				if pods[o.UID] = pod; since {
					both(stepFirstMade, stepLastMade, event.At)
				}
			}
			if pod.gated && !history.Gated(o) {
				if pod.gated = false; since {
					both(stepFirstFree, stepLastFree, event.At)
				}
			}
			if !pod.bound && o.Spec.NodeName != "" {
				if pod.bound = true; since {
					both(stepFirstBound, stepLastBound, event.At)
				}
			}
			if !pod.running && o.Status.Phase == corev1.PodRunning {
				if pod.running = true; since {
					both(stepFirstRunning, stepLastRunning, event.At)
				}
			}
		}
	}
	var its []history.Event
	for i := range events {
		if events[i].At.After(asked) {
			its = append(its, events[i])
		}
	}
	r.pending = history.Waited(its, func(pod *corev1.Pod) bool { return history.MiniClusterOf(pod) == s.cluster })
	r.count(s, asked, records)
	return r
}

// count counts who has written, and finds when the Job got its size.
func (r *round) count(s *scene, asked time.Time, records []audit.Record) {
	end := asked.Add(r.at[stepLastRunning])
	for i := range records {
		record := &records[i]
		if record.Received.Time.Before(asked) || record.Received.After(end) {
			continue
		}
		program := record.Program()
		if record.Cloud() {
			program = "simulated cloud"
		}
		if record.Object.Resource == "jobs" && record.Object.Subresource == "" && record.Object.Name == s.cluster.Name &&
			record.Response.Code < 300 && !strings.HasPrefix(program, "kube-") {
			if _, is := r.at[stepJob]; !is {
				r.at[stepJob] = record.Answered.Sub(asked)
			}
		}
		w := writer{program, record.Verb, record.Resource()}
		r.writers.count(w, record)
		if record.Received.After(asked.Add(r.at[stepLastNode])) {
			r.lastWriters.count(w, record)
		}
	}
}

func (all writers) count(by writer, record *audit.Record) {
	if all[by] == nil {
		all[by] = &wrote{}
	}
	all[by].count++
	all[by].took += record.Took()
	if record.Response.Code >= 400 {
		all[by].refused++
	}
}

// whole is how long all of it took.
func (r *round) whole() time.Duration { return r.at[stepLastRunning] }

// tail is how long it took from the last node Ready to the last pod Running. Where the nodes were Ready that is all of it.
func (r *round) tail() time.Duration { return r.at[stepLastRunning] - r.at[stepLastNode] }
