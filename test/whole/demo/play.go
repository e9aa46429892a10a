package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// What examples/ declares and the demo does with it.
const (
	poolName  = "hpc-a"
	startSize = 2
	growBy    = 6
	shrinkBy  = 5
)

var cluster = types.NamespacedName{Namespace: "default", Name: "demo"}

// patience is how long a step may take besides the boot of its machines.
const patience = 2 * time.Minute

// play is what the demo does.
type play struct {
	system   *system.System
	recorder *history.Recorder
	narrator *narrator
	settings settings
	backend  backend
}

// ofMiniCluster is what the story of a MiniCluster is about.
func ofMiniCluster() cast {
	return cast{[]string{poolName}, cluster, func(pod *corev1.Pod) bool { return history.MiniClusterOf(pod) == cluster }}
}

// perform does it and returns what was measured.
func (p *play) perform(ctx context.Context) (*figures, error) {
	p.narrator.begin(
		"A MiniCluster of %d, annotated with the NodePool %s, whose machines take %s to boot", startSize, poolName, p.settings.bootDelay,
	)
	if err := p.apply(ctx); err != nil {
		return nil, err
	}
	if err := p.settle(ctx, startSize); err != nil {
		return nil, err
	}
	f := &figures{bootDelay: p.settings.bootDelay, grow: growBy, shrink: shrinkBy}

	grow, err := p.ask(ctx, "grow", growBy)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, startSize+growBy); err != nil {
		return nil, err
	}
	f.grown(p.recorder.Events(), grow, func(pod *corev1.Pod) bool {
		return history.MiniClusterOf(pod) == cluster && history.IndexOf(pod) >= startSize
	})

	shrink, err := p.ask(ctx, "shrink", shrinkBy)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, startSize+growBy-shrinkBy); err != nil {
		return nil, err
	}
	f.shrunk(p.recorder.Events(), shrink)
	return f, nil
}

// apply applies the examples.
func (p *play) apply(ctx context.Context) error {
	return p.applyFiles(ctx, "examples/nodepools.yaml", "examples/minicluster.yaml")
}

// applyFiles applies files, with the boot delay that was asked for.
func (p *play) applyFiles(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		objects, err := p.system.ObjectsOf(path)
		if err != nil {
			return err
		}
		for _, object := range objects {
			if object.GetKind() != "NodePool" {
				continue
			}
			machines, err := p.backend.machines(ctx, object, p.settings.bootDelay)
			if err == nil {
				err = unstructured.SetNestedMap(object.Object, machines, "spec", "machines")
			}
			if err != nil {
				return fmt.Errorf("say what makes the machines of %s: %w", object.GetName(), err)
			}
		}
		if err := p.system.Apply(ctx, objects...); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until everything has the size: the pods run, and the pool has that many machines and no more.
func (p *play) settle(ctx context.Context, size int) error {
	within := patience + p.settings.bootDelay
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %s", within))
	defer cancel()
	return p.recorder.Until(ctx, func(s *history.State) string { return unsettled(s, size) })
}

func unsettled(s *history.State, size int) string {
	running := 0
	for _, pod := range s.PodsOf(cluster) {
		if pod.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	pool, member := s.Pools[poolName], s.Members[cluster]
	switch {
	case pool == nil || member == nil:
		return "waiting for the EnsembleMember"
	case int(s.Size(cluster)) != size:
		return fmt.Sprintf("the MiniCluster has size %d, not %d", s.Size(cluster), size)
	case running != size || len(s.PodsOf(cluster)) != size:
		return fmt.Sprintf("%d of %d pods are Running", running, size)
	case int(pool.Spec.Replicas) != size || len(s.NodesOf(poolName)) != size:
		return fmt.Sprintf("%s has %d nodes, target %d, not %d", poolName, len(s.NodesOf(poolName)), pool.Spec.Replicas, size)
	case int(member.Status.Reserved) != size || member.Status.Growth != nil || readyOf(member) != "True":
		return fmt.Sprintf("the member has reserved %d nodes, not %d, and Ready is %s", member.Status.Reserved, size, readyOf(member))
	}
	return ""
}

func readyOf(member *v1alpha1.EnsembleMember) string {
	for i := range member.Status.Conditions {
		if c := &member.Status.Conditions[i]; c.Type == v1alpha1.ConditionReady {
			return string(c.Status)
		}
	}
	return "Unknown"
}

// ask sends a request as the program in the lead broker's pod does, and returns when it did.
func (p *play) ask(ctx context.Context, action string, amount int) (at time.Time, err error) {
	var lead *corev1.Pod
	err = p.recorder.Until(ctx, func(s *history.State) string {
		if lead = s.Lead(cluster); lead == nil {
			return "waiting for the pod of the lead broker"
		}
		return ""
	})
	if err != nil {
		return at, err
	}
	at = p.narrator.begin("The member asks: %s %d", action, amount)
	p.narrator.say("request", "pod %s: RequestAction(%s %d)", lead.Name, action, amount)
	response, err := p.system.Action(ctx, lead, cluster.Name, action, amount)
	if err != nil {
		return at, fmt.Errorf("ask to %s: %w", action, err)
	}
	var payload struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(response.GetPayload()), &payload); err != nil {
		return at, fmt.Errorf("read the reply %q: %w", response.GetPayload(), err)
	}
	p.narrator.say("reply", "%s: %s", response.GetStatus(), payload.Reason)
	if response.GetStatus() != ensemble.Response_SUCCESS {
		return at, fmt.Errorf("the request to %s was answered %s: %s", action, response.GetStatus(), payload.Reason)
	}
	return at, nil
}

// figures are what was measured.
type figures struct {
	// grow and shrink are by how many pods.
	grow, shrink int

	bootDelay                          time.Duration
	toCall, toNodes, toPods            time.Duration
	waited                             time.Duration
	toLastPodGone, podsGoneToNodesGone time.Duration
}

// grown measures a growth by some pods that was asked for at a time.
func (f *figures) grown(events []history.Event, at time.Time, pods func(*corev1.Pod) bool) {
	for i := range events {
		e := &events[i]
		if e.At.Before(at) {
			continue
		}
		since := e.At.Sub(at)
		switch object := e.Object.(type) {
		case *v1alpha1.NodePool:
			if before, ok := e.Before.(*v1alpha1.NodePool); ok && object.Spec.Replicas > before.Spec.Replicas && f.toCall == 0 {
				f.toCall = since
			}
		case *corev1.Node:
			if before, _ := e.Before.(*corev1.Node); history.Ready(object) && !history.Ready(before) {
				f.toNodes = since
			}
		case *corev1.Pod:
			before, _ := e.Before.(*corev1.Pod)
			if object.Status.Phase == corev1.PodRunning && (before == nil || before.Status.Phase != corev1.PodRunning) {
				f.toPods = since
			}
		}
	}
	f.waited = history.Waited(events, pods)
}

// shrunk measures a shrink that was asked for at a time.
func (f *figures) shrunk(events []history.Event, at time.Time) {
	var lastNode time.Duration
	for i := range events {
		e := &events[i]
		if e.At.Before(at) || !e.Deleted {
			continue
		}
		switch e.Object.(type) {
		case *corev1.Pod:
			f.toLastPodGone = e.At.Sub(at)
		case *corev1.Node:
			lastNode = e.At.Sub(at)
		}
	}
	f.podsGoneToNodesGone = lastNode - f.toLastPodGone
}

// print prints the table.
func (f *figures) print(out io.Writer) {
	_, _ = fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, value any) { _, _ = fmt.Fprintf(w, "%s\t%v\t\n", what, value) }
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
	row("boot delay of a machine", seconds(f.bootDelay))
	row(fmt.Sprintf("grow %d: request -> Cluster Autoscaler's call", f.grow), seconds(f.toCall))
	row("request -> nodes Ready", seconds(f.toNodes))
	row("request -> all pods Running", seconds(f.toPods))
	row("grown pods Pending for a node", fmt.Sprintf("%.2f pod-s", f.waited.Seconds()))
	row(fmt.Sprintf("shrink %d: request -> last pod gone", f.shrink), seconds(f.toLastPodGone))
	row("last pod gone -> last node gone", seconds(f.podsGoneToNodesGone))
	_ = w.Flush() // The terminal's own errors concern nobody.
	_, _ = fmt.Fprintln(out)
}
