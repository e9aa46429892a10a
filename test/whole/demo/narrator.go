package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// cast is what the story is about.
type cast struct {
	// pools are the names of the NodePools.
	pools []string
	// member is the key of the member.
	member types.NamespacedName
	// pods reports whether a pod is one of the member.
	pods func(*corev1.Pod) bool
}

// narrator tells what happens, a line an event, with the seconds since the last request.
type narrator struct {
	mu    sync.Mutex
	out   io.Writer
	since time.Time
	cast  cast

	target map[string]int32 // of each pool
	nodes  map[string]bool  // whether each node of the pools is Ready
	pods   map[types.NamespacedName]bool
	size   int64
}

func newNarrator(out io.Writer, of cast) *narrator {
	return &narrator{
		out: out, since: time.Now(), cast: of, target: map[string]int32{}, nodes: map[string]bool{}, pods: map[types.NamespacedName]bool{},
	}
}

// begin starts a part of the story, from which the seconds count.
func (n *narrator) begin(format string, arguments ...any) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.since = time.Now()
	_, _ = fmt.Fprintf(n.out, "\n%s\n", fmt.Sprintf(format, arguments...))
	return n.since
}

func (n *narrator) say(who, format string, arguments ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line(who, format, arguments...)
}

func (n *narrator) line(who, format string, arguments ...any) {
	_, _ = fmt.Fprintf(n.out, "%8.2f s  %-12s %s\n", time.Since(n.since).Seconds(), who, fmt.Sprintf(format, arguments...))
}

// hear is told each event.
func (n *narrator) hear(e history.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch object := e.Object.(type) {
	case *v1alpha1.EnsembleMember:
		before, _ := e.Before.(*v1alpha1.EnsembleMember)
		n.member(object, before, e.Deleted)
	case *v1alpha1.NodePool:
		before, _ := e.Before.(*v1alpha1.NodePool)
		n.pool(object, before)
	case *corev1.Node:
		n.node(object, e.Deleted)
	case *corev1.Pod:
		if n.cast.pods(object) {
			n.pod(object, e.Deleted)
		}
	case *unstructured.Unstructured:
		n.miniCluster(object)
	}
}

func (n *narrator) member(member, before *v1alpha1.EnsembleMember, deleted bool) {
	switch {
	case deleted:
		n.line("member", "is gone")
		return
	case before == nil:
		n.line("member", "EnsembleMember %s: wants %d, between %d and %d, of %s", member.Name, member.Spec.Size,
			member.Spec.MinSize, member.Spec.MaxSize, strings.Join(member.Spec.NodePools, ", "))
		return
	}
	if member.Status.Reserved != before.Status.Reserved {
		n.line("reservation", "%d -> %d nodes", before.Status.Reserved, member.Status.Reserved)
	}
	if was, is := groups(before), groups(member); is != "" && was != is {
		n.size = int64(member.Status.Size)
		n.line("resize", "%s: %s -> %s", member.Name, was, is)
	}
}

// groups are the sizes of the groups of a member, empty for one with one group.
func groups(member *v1alpha1.EnsembleMember) string {
	var parts []string
	for i := range member.Status.Groups {
		parts = append(parts, fmt.Sprintf("%s=%d", member.Status.Groups[i].Name, member.Status.Groups[i].Size))
	}
	return strings.Join(parts, ",")
}

func (n *narrator) pool(pool, before *v1alpha1.NodePool) {
	if !slices.Contains(n.cast.pools, pool.Name) || before == nil {
		return
	}
	if pool.Status.Floor != before.Status.Floor {
		n.line("floor", "%s: %d -> %d", pool.Name, before.Status.Floor, pool.Status.Floor)
	}
	n.target[pool.Name] = pool.Spec.Replicas
	var going []string
	for _, machine := range pool.Spec.MachinesToDelete {
		if !slices.Contains(before.Spec.MachinesToDelete, machine) {
			going = append(going, machine)
		}
	}
	switch target, last := pool.Spec.Replicas, before.Spec.Replicas; {
	case target > last:
		n.line("autoscaler", "IncreaseSize(%s, %d): target %d -> %d", pool.Name, target-last, last, target)
	case len(going) > 0:
		n.line("release", "%s: target %d -> %d, releasing %s", pool.Name, last, target, strings.Join(going, ", "))
	case target < last:
		n.line("autoscaler", "DecreaseTargetSize(%s, %d): target %d -> %d", pool.Name, last-target, last, target)
	}
}

func (n *narrator) node(node *corev1.Node, deleted bool) {
	if !slices.Contains(n.cast.pools, node.Labels[v1alpha1.LabelNodePool]) {
		return
	}
	was, known := n.nodes[node.Name]
	if deleted {
		delete(n.nodes, node.Name)
		n.line("nodes", "%s is gone, %d left", node.Name, len(n.nodes))
		return
	}
	ready := history.Ready(node)
	n.nodes[node.Name] = ready
	if ready && (!known || !was) {
		count := 0
		for _, r := range n.nodes {
			if r {
				count++
			}
		}
		var target int32
		for _, of := range n.target {
			target += of
		}
		n.line("nodes", "%s is Ready, %d/%d", node.Name, count, target)
	}
}

func (n *narrator) pod(pod *corev1.Pod, deleted bool) {
	key := client.ObjectKeyFromObject(pod)
	switch running := pod.Status.Phase == corev1.PodRunning; {
	case deleted:
		delete(n.pods, key)
		n.line("pods", "%s is gone, %d left", pod.Name, len(n.pods))
	case running && !n.pods[key]:
		n.pods[key] = true
		count := 0
		for _, r := range n.pods {
			if r {
				count++
			}
		}
		n.line("pods", "%s is Running on %s, %d/%d", pod.Name, pod.Spec.NodeName, count, n.size)
	case !running:
		n.pods[key] = false
	}
}

func (n *narrator) miniCluster(object *unstructured.Unstructured) {
	size, _, _ := unstructured.NestedInt64(object.Object, "spec", "size")
	if size != n.size && n.size != 0 {
		n.line("resize", "MiniCluster %s: %d -> %d", object.GetName(), n.size, size)
	}
	n.size = size
}
