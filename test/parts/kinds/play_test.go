package kinds

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// play is a member in a namespace with a pool of its own, both of its name.
type play struct {
	*testing.T
	subject *subject
	name    string
	client  client.Client
	// alive is called before each look, nil for nothing.
	alive func()
	// further are pools beside the one of its name.
	further []string
}

// seat is where a pod is among those of an object.
type seat struct {
	group string
	rank  int32
}

// within is how long anything may take on a machine that does other things beside.
const within = 3 * time.Minute

// begin makes the namespace, the pool, whose machines take some time to boot, and the object m.
func begin(t *testing.T, s *subject, what, bootDelay string, seconds int) *play {
	t.Helper()
	p := newPlay(t, s, what)
	object, err := s.object(p.name, p.name, seconds)
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.Apply(t.Context(), append(p.place(v1alpha1.AutoscalerClusterAutoscaler, bootDelay), object)...); err != nil {
		t.Fatal(err)
	}
	return p
}

// place is the namespace and the pool.
func (p *play) place(autoscaler v1alpha1.Autoscaler, bootDelay string) []*unstructured.Unstructured {
	p.Helper()
	objects, err := system.Objects(fmt.Appendf(nil, `
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %[1]s}
spec:
  maxSize: 8
  autoscaler: %[2]s
  template: {capacity: {cpu: "4", memory: 16Gi, pods: "110"}}
  machines: {kwok: {bootDelay: %[3]s}}
`, p.name, autoscaler, bootDelay))
	if err != nil {
		p.Fatal(err)
	}
	return objects
}

// newPlay is a play in a namespace of its own, with a pool of its name.
func newPlay(t *testing.T, s *subject, what string) *play {
	t.Helper()
	return &play{T: t, subject: s, name: strings.ToLower(s.kind.Words().Kind) + "-" + what, client: shared.Client}
}

// until waits for something, which says what is lacking for it.
func (p *play) until(what string, lacking func(context.Context) (string, error)) {
	p.Helper()
	var last string
	if err := wait.PollUntilContextTimeout(p.Context(), 100*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		if p.alive != nil {
			p.alive()
		}
		var err error
		last, err = lacking(ctx)
		return err == nil && last == "", err
	}); err != nil {
		p.Fatalf("%s: %v: %s; the member says %q", what, err, last, p.ready())
	}
}

func (p *play) memberKey() types.NamespacedName {
	return types.NamespacedName{Namespace: p.name, Name: member.Name(p.subject.kind, "m")}
}

// ready is what the member says of itself.
func (p *play) ready() string {
	m := &v1alpha1.EnsembleMember{}
	if err := p.client.Get(context.WithoutCancel(p.Context()), p.memberKey(), m); err != nil {
		return err.Error()
	}
	if c := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
	}
	return ""
}

// pods are those of the object that have not ended, by their seats.
func (p *play) pods(ctx context.Context) (map[seat]*corev1.Pod, error) {
	selector, err := labels.Parse(p.subject.kind.Selector("m", ""))
	if err != nil {
		return nil, err
	}
	var list corev1.PodList
	if err := p.client.List(ctx, &list, client.InNamespace(p.name), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, err
	}
	pods := map[seat]*corev1.Pod{}
	for i := range list.Items {
		pod := &list.Items[i]
		index, err := strconv.ParseInt(pod.Labels[batchv1.JobCompletionIndexAnnotation], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("pod %s has no index: %w", pod.Name, err)
		}
		if !history.Ended(pod) && pod.DeletionTimestamp == nil {
			group, rank := p.subject.kind.Place(pod.Labels, int32(index))
			pods[seat{group, rank}] = pod
		}
	}
	return pods, nil
}

// nodes are those of the pools, by their names.
func (p *play) nodes(ctx context.Context) (map[string]*corev1.Node, error) {
	nodes := map[string]*corev1.Node{}
	for _, pool := range append(p.further, p.name) {
		var list corev1.NodeList
		if err := p.client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool}); err != nil {
			return nil, err
		}
		for i := range list.Items {
			nodes[list.Items[i].Name] = &list.Items[i]
		}
	}
	return nodes, nil
}

// runs waits until as many pods run, on as many nodes as there are, and returns the node of each rank.
func (p *play) runs(size int) []string {
	p.Helper()
	return p.run(member.Sizes{p.subject.group: int32(size)})[p.subject.group]
}

// run waits until as many pods of each group run, on as many nodes as there are, and returns the node of each rank.
func (p *play) run(sizes member.Sizes) map[string][]string {
	p.Helper()
	var at map[string][]string
	p.until(fmt.Sprintf("%s pods run", sizes), func(ctx context.Context) (string, error) {
		pods, err := p.pods(ctx)
		if err != nil {
			return "", err
		}
		nodes, err := p.nodes(ctx)
		if err != nil {
			return "", err
		}
		at = map[string][]string{}
		for group, size := range sizes {
			for rank := range size {
				pod := pods[seat{group, rank}]
				if pod == nil || pod.Status.Phase != corev1.PodRunning {
					return fmt.Sprintf("rank %d %s does not run", rank, group), nil
				}
				at[group] = append(at[group], pod.Spec.NodeName)
			}
		}
		if size := int(sizes.Sum()); len(pods) != size || len(nodes) != size {
			return fmt.Sprintf("there are %d pods and %d nodes", len(pods), len(nodes)), nil
		}
		return "", nil
	})
	return at
}

// empty waits until nothing is paid for.
func (p *play) empty() {
	p.Helper()
	p.until("all nodes go", func(ctx context.Context) (string, error) {
		nodes, err := p.nodes(ctx)
		if err != nil || len(nodes) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d are there", len(nodes)), nil
	})
}

// scale is what kubectl scale and a HorizontalPodAutoscaler do.
func (p *play) scale(size int32) {
	p.Helper()
	m := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: p.name, Name: p.memberKey().Name}}
	if err := p.client.SubResource("scale").Update(p.Context(), m,
		client.WithSubResourceBody(&autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: size}})); err != nil {
		p.Fatal(err)
	}
}

// edit sets the size by hand.
func (p *play) edit(size int32) {
	p.Helper()
	of := member.Reference(p.subject.kind, types.NamespacedName{Namespace: p.name, Name: "m"}, "")
	p.patch(of, fmt.Sprintf(p.subject.edit, size))
}

func (p *play) patch(object client.Object, patch string) {
	p.Helper()
	kind := types.MergePatchType
	if strings.HasPrefix(patch, "[") {
		kind = types.JSONPatchType
	}
	if err := system.Write(p.Context(), func(ctx context.Context) error {
		return p.client.Patch(ctx, object, client.RawPatch(kind, []byte(patch)))
	}); err != nil {
		p.Fatal(err)
	}
}

// remove deletes the object, as its user does.
func (p *play) remove() {
	p.Helper()
	object := member.Reference(p.subject.kind, types.NamespacedName{Namespace: p.name, Name: "m"}, "")
	if err := p.client.Delete(p.Context(), object, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		p.Fatal(err)
	}
}

// TestLife: pods of the first size wait behind the gate while their nodes boot; a growth has its nodes before its pods are made; a shrink
// gives back the nodes of the ranks that left, and no other; a size set by hand is the desired size; what is deleted leaves nothing.
func TestLife(t *testing.T) {
	t.Parallel()
	for i := range subjects {
		t.Run(subjects[i].kind.Words().Kind, func(t *testing.T) {
			t.Parallel()
			p := begin(t, &subjects[i], "life", "2s", 0)
			p.gated(2)
			first := p.runs(2)

			p.scale(5)
			grown := p.runs(5)
			if !slices.Equal(grown[:2], first) {
				t.Errorf("the first ranks were on %v and are on %v", first, grown[:2])
			}
			p.nodesFirst(2)

			p.scale(3)
			if left := p.runs(3); !slices.Equal(left, grown[:3]) {
				t.Errorf("after the shrink ranks are on %v, not on %v", left, grown[:3])
			}
			nodes, err := p.nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range grown[:3] {
				if nodes[name] == nil {
					t.Errorf("node %s of a rank that stayed was given back", name)
				}
			}

			p.edit(4)
			p.runs(4)
			p.edit(2)
			if left := p.runs(2); !slices.Equal(left, first) {
				t.Errorf("after the edits ranks are on %v, not on %v", left, first)
			}
			p.desires(2)

			p.remove()
			p.empty()
		})
	}
}

// gated waits until all pods of the first size are there, and makes sure that each waits, or has a node by now.
func (p *play) gated(size int) {
	p.Helper()
	p.until("the pods are made", func(ctx context.Context) (string, error) {
		pods, err := p.pods(ctx)
		if err != nil {
			return "", err
		}
		nodes, err := p.nodes(ctx)
		if err != nil {
			return "", err
		}
		for _, pod := range pods {
			if !gates.Has(pod) && len(nodes) == 0 {
				return "", fmt.Errorf("pod %s waits behind no gate, and there is no node", pod.Name)
			}
		}
		if len(pods) < size {
			return fmt.Sprintf("there are %d", len(pods)), nil
		}
		return "", nil
	})
}

// nodesFirst makes sure that the pods from a rank on were made when the nodes that they are on were Ready.
func (p *play) nodesFirst(from int32) {
	p.Helper()
	pods, err := p.pods(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	nodes, err := p.nodes(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	for at, pod := range pods {
		if at.rank < from || nodes[pod.Spec.NodeName] == nil {
			continue
		}
		for _, c := range nodes[pod.Spec.NodeName].Status.Conditions {
			if c.Type == corev1.NodeReady && pod.CreationTimestamp.Before(&c.LastTransitionTime) {
				p.Errorf("rank %d %s was made at %s, and its node was Ready at %s", at.rank, at.group, pod.CreationTimestamp, c.LastTransitionTime)
			}
		}
	}
}

// desires waits until the member's desired size is one.
func (p *play) desires(size int32) {
	p.Helper()
	p.until("the desired size follows", func(ctx context.Context) (string, error) {
		m := &v1alpha1.EnsembleMember{}
		if err := p.client.Get(ctx, p.memberKey(), m); err != nil || m.Spec.Size == size {
			return "", err
		}
		return fmt.Sprintf("it is %d", m.Spec.Size), nil
	})
}

// TestSuspended: a workload that is suspended gives its nodes back, and has them again before its pods when it is resumed.
func TestSuspended(t *testing.T) {
	t.Parallel()
	for i := range subjects {
		t.Run(subjects[i].kind.Words().Kind, func(t *testing.T) {
			t.Parallel()
			p := begin(t, &subjects[i], "suspended", "1s", 0)
			p.runs(2)
			of := member.Reference(p.subject.suspends, types.NamespacedName{Namespace: p.name, Name: "m"}, "")
			p.patch(of, `{"spec":{"suspend":true}}`)
			p.empty()
			p.patch(of, `{"spec":{"suspend":false}}`)
			p.runs(2)
		})
	}
}

// TestFinished: when the pods have done their work, their nodes are given back.
func TestFinished(t *testing.T) {
	t.Parallel()
	for i := range subjects {
		t.Run(subjects[i].kind.Words().Kind, func(t *testing.T) {
			t.Parallel()
			p := begin(t, &subjects[i], "finished", "1s", 8)
			p.until("it finishes", func(ctx context.Context) (string, error) {
				m := &v1alpha1.EnsembleMember{}
				if err := client.IgnoreNotFound(p.client.Get(ctx, p.memberKey(), m)); err != nil {
					return "", err
				}
				if c := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionResized); c == nil || c.Reason != v1alpha1.ReasonFinished {
					return "it has not", nil
				}
				return "", nil
			})
			p.empty()
		})
	}
}

// TestKilled: a growth and a shrink survive the end of the controller in the middle of them.
func TestKilled(t *testing.T) {
	t.Parallel()
	for i := range subjects {
		t.Run(subjects[i].kind.Words().Kind, func(t *testing.T) {
			t.Parallel()
			p := begin(t, &subjects[i], "killed", "3s", 0)
			first := p.runs(2)
			p.scale(4)
			p.ordered(4)
			p.kill()
			if grown := p.runs(4); !slices.Equal(grown[:2], first) {
				t.Errorf("the first ranks were on %v and are on %v", first, grown[:2])
			}
			p.nodesFirst(2)
			p.scale(1)
			p.kill()
			if left := p.runs(1); left[0] != first[0] {
				t.Errorf("rank 0 was on %s and is on %s", first[0], left[0])
			}
		})
	}
}

// ordered waits until a pool has a target, so that a growth is under way.
func (p *play) ordered(target int32) {
	p.Helper()
	p.until("the nodes are ordered", func(ctx context.Context) (string, error) {
		pool := &v1alpha1.NodePool{}
		if err := p.client.Get(ctx, types.NamespacedName{Name: p.name}, pool); err != nil || pool.Spec.Replicas == target {
			return "", err
		}
		return fmt.Sprintf("the target is %d", pool.Spec.Replicas), nil
	})
}

func (p *play) kill() {
	p.Helper()
	shared.restarting.Lock()
	defer shared.restarting.Unlock()
	if err := shared.RestartController(p.Context()); err != nil {
		p.Fatal(err)
	}
}

// broken are the pods of any kind that were released for a node which was not there and Ready.
func broken(events []history.Event) []string {
	var out []string
	ready := map[string]bool{}
	for i := range events {
		if node, is := events[i].Object.(*corev1.Node); is {
			// One that was Ready once was worth a pod; that it may be lost later is another matter.
			ready[node.Name] = ready[node.Name] || history.Ready(node)
		}
	}
	for i := range events {
		pod, is := events[i].Object.(*corev1.Pod)
		if !is || events[i].Deleted || pod.Labels[v1alpha1.LabelMember] == "" {
			continue
		}
		if node := pod.Annotations[v1alpha1.AnnotationNode]; node != "" && !ready[node] {
			out = append(out, fmt.Sprintf("pod %s/%s was released for node %s, which was never Ready", pod.Namespace, pod.Name, node))
		}
		if node := pod.Annotations[v1alpha1.AnnotationNode]; node == "" && pod.Spec.NodeName != "" {
			out = append(out, fmt.Sprintf("pod %s/%s is on node %s and was released for none", pod.Namespace, pod.Name, pod.Spec.NodeName))
		}
	}
	return out
}
