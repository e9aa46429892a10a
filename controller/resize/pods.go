package resize

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// podReading is what is read off a pod of a member.
type podReading struct {
	pod *corev1.Pod
	// group is the one that its labels say, index its rank there.
	group    string
	index    int32
	requests plan.Resources
	// gated is set for a pod behind our gate, released for one that is not bound yet and was released for node.
	gated, released bool
	node            string
	refusedSince    time.Time
	refusal         string
	// ready is set for one that is Running and Ready and stays so.
	ready bool
	// cause says why it does not start, empty while nothing says that it does not.
	cause string
}

func podOf(kind member.Kind, pod *corev1.Pod) *podReading {
	group, rank := kind.Place(pod.Labels, indexOf(pod))
	read := &podReading{
		pod: pod, group: group, index: rank, requests: reading.PodRequests(pod), node: pod.Spec.NodeName, gated: gates.Has(pod), ready: runs(pod),
	}
	if read.node == "" && !read.gated {
		read.node = pod.Annotations[v1alpha1.AnnotationNode]
		read.released = read.node != ""
	}
	if read.released {
		read.refusedSince, read.refusal = refusedSince(pod), refusal(pod)
	}
	read.cause = causeOf(read)
	return read
}

// lives reports whether it has not ended, and is or may yet be on a node.
func (p *podReading) lives() bool {
	return !ended(p.pod) && (p.pod.DeletionTimestamp == nil || (p.node != "" && !p.released))
}

// runs reports whether a pod is Running and Ready, and is not about to end.
func runs(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil &&
		slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
}

// refusedSince is since when the scheduler finds no place for a pod that was released; zero while it does not. The condition is
// False from the creation of a gated pod on, with another reason, so the time of the release counts where it is later.
func refusedSince(pod *corev1.Pod) time.Time {
	c := unschedulable(pod)
	if c == nil {
		return time.Time{}
	}
	since := c.LastTransitionTime.Time
	if released, err := time.Parse(time.RFC3339, pod.Annotations[v1alpha1.AnnotationReleasedAt]); err == nil && released.After(since) {
		since = released
	}
	return since
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// indexOf is the completion index of a pod, 0 for one without.
func indexOf(pod *corev1.Pod) int32 {
	index, err := strconv.ParseInt(pod.Labels[batchv1.JobCompletionIndexAnnotation], 10, 32)
	if err != nil {
		return 0
	}
	return int32(index)
}

// ranks are what the pods of a group come to. Passes share it: nobody may change it.
type ranks struct {
	// pods are those on a node, or released for one.
	pods []plan.Pod
	// names are those of all pods that live, by their numbers; nil where the highest ranks leave.
	names map[int32]string
	// released are those of them that are on no node yet.
	released []*podReading
	// waiting are those that are behind the gate, or on their way to the node that they were released for, by rank. Two pods of one
	// rank are both there, the older first: the Job deletes one of them.
	waiting map[int32][]*podReading
	// gated are the ranks of those behind the gate, each once.
	gated []int32
	// pending is the number of those that no node was found for.
	pending int32
	// succeeded are the ranks that have a pod which has Succeeded and none that lives, lacking those below the size that have neither.
	succeeded, lacking []int32
	// running is the number of ranks below the size with a pod that is Running and Ready.
	running int32
	// notStarted says why pods of ranks below the size do not start, and how many they are.
	notStarted string

	// facts is what those that live need of a node, nil when none does.
	facts *facts
}

// facts are what pods that exist need of a node.
type facts struct {
	// requests are the greatest of all of them.
	requests plan.Resources
	selects  plan.Selector
	// tolerations are those that all of them have; amended is set where the release of the pods may have added some of them.
	tolerations []corev1.Toleration
	amended     bool
}

// ranksOf sums up the pods of a group for its size. Where others than the highest ranks leave, a rank is a number that a pod has for this
// pass alone.
func ranksOf(read []*podReading, size int32, leaves plan.Leaves) *ranks {
	r := &ranks{}
	all := read
	if leaves != plan.Highest {
		all, r.names = numbered(read), map[int32]string{}
	}
	slices.SortFunc(all, func(a, b *podReading) int {
		return cmp.Or(
			cmp.Compare(a.index, b.index), a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time), strings.Compare(a.pod.Name, b.pod.Name),
		)
	})
	running, present := map[int32]bool{}, map[int32]bool{}
	for _, p := range all {
		if !p.lives() {
			continue
		}
		if r.names != nil {
			r.names[p.index] = p.pod.Name
		}
		present[p.index] = true
		running[p.index] = running[p.index] || p.ready
		r.place(p)
	}
	succeeded := map[int32]bool{}
	for _, p := range all {
		if p.pod.Status.Phase == corev1.PodSucceeded && !present[p.index] && !succeeded[p.index] {
			succeeded[p.index] = true
			r.succeeded = append(r.succeeded, p.index)
		}
	}
	for rank := range size {
		switch {
		case running[rank]:
			r.running++
		case !present[rank] && !succeeded[rank]:
			r.lacking = append(r.lacking, rank)
		}
	}
	if leaves != plan.Highest {
		// Their numbers may be above the size.
		r.running = 0
		for _, runs := range running {
			if runs && r.running < size {
				r.running++
			}
		}
	}
	r.notStarted = notStarted(all, size, func(p *podReading) bool {
		// Of those that have failed, the one that was to be in the place of another is of no interest.
		return !running[p.index] && !succeeded[p.index] && (p.lives() || (!present[p.index] && ended(p.pod)))
	})
	r.facts = factsOf(all)
	return r
}

// place puts a pod that lives where a pass looks for it.
func (r *ranks) place(p *podReading) {
	if p.gated || p.released {
		if r.waiting == nil {
			r.waiting = map[int32][]*podReading{}
		}
		r.waiting[p.index] = append(r.waiting[p.index], p)
	}
	switch {
	case p.gated:
		if !slices.Contains(r.gated[max(0, len(r.gated)-1):], p.index) {
			r.gated = append(r.gated, p.index)
		}
	case p.node == "":
		r.pending++
	default:
		r.pods = append(r.pods, plan.Pod{
			Index: p.index, Node: p.node, Released: p.released, RefusedSince: p.refusedSince, Refusal: p.refusal,
			Leaving: p.pod.DeletionTimestamp != nil, Running: p.ready,
		})
		if p.released {
			r.released = append(r.released, p)
		}
	}
}

// nameOf is the name of a pod that lives, by its number; empty for none.
func (r *ranks) nameOf(index int32) string { return r.names[index] }

// numbered are pods with numbers in place of ranks, in the order of their names.
func numbered(read []*podReading) []*podReading {
	all := slices.SortedFunc(slices.Values(read), func(a, b *podReading) int { return strings.Compare(a.pod.Name, b.pod.Name) })
	for i := range all {
		one := *all[i]
		one.index = int32(i)
		all[i] = &one
	}
	return all
}

// behindGate is the pod of a rank that is to be released next, nil for none.
func (r *ranks) behindGate(rank int32) *corev1.Pod {
	return r.first(rank, func(p *podReading) bool { return p.gated })
}

// onItsWay is the pod of a rank that was released and is not bound, nil for none.
func (r *ranks) onItsWay(rank int32) *corev1.Pod {
	return r.first(rank, func(p *podReading) bool { return p.released })
}

func (r *ranks) first(rank int32, which func(*podReading) bool) *corev1.Pod {
	if at := slices.IndexFunc(r.waiting[rank], which); at >= 0 {
		return r.waiting[rank][at].pod
	}
	return nil
}

// factsOf is what the pods of a Job need. Those behind the gate are the ones that nodes are wanted for, and are as their Job, and
// whoever had a say at their creation, have made them; where none is, the others tell.
func factsOf(all []*podReading) *facts {
	f := &facts{requests: plan.Resources{}}
	var gated, others []*podReading
	for _, p := range all {
		switch {
		case !p.lives() || p.pod.DeletionTimestamp != nil:
			continue
		case p.gated:
			gated = append(gated, p)
		default:
			others = append(others, p)
		}
		f.requests = greatest(f.requests, p.requests)
	}
	tell := gated
	if len(gated) == 0 {
		tell, f.amended = others, true
	}
	if len(tell) == 0 {
		return nil
	}
	var selectors []plan.Selector
	for i, p := range tell {
		if s := selects(p.pod); s != nil && !slices.ContainsFunc(
			selectors, func(other plan.Selector) bool { return other.String() == s.String() },
		) {
			selectors = append(selectors, s)
		}
		if i == 0 {
			f.tolerations = p.pod.Spec.Tolerations
		} else {
			f.tolerations = common(f.tolerations, p.pod.Spec.Tolerations)
		}
	}
	f.selects = reading.All(selectors...)
	return f
}

// selects are the nodes that a pod can go to by itself: that it was released for one of them alone is our doing.
func selects(pod *corev1.Pod) plan.Selector {
	selector := pod.Spec.NodeSelector
	if _, released := pod.Annotations[v1alpha1.AnnotationNode]; released && selector[corev1.LabelHostname] != "" {
		selector = maps.Clone(selector)
		delete(selector, corev1.LabelHostname)
	}
	return reading.Selects(selector, pod.Spec.Affinity)
}

// greatest are the greater amounts of each resource. It changes neither.
func greatest(a, b plan.Resources) plan.Resources {
	out, cloned := a, false
	for name, amount := range b {
		if amount <= out[name] {
			continue
		}
		if !cloned {
			out, cloned = maps.Clone(a), true
		}
		if out == nil {
			out = plan.Resources{}
		}
		out[name] = amount
	}
	return out
}

// common are the tolerations that are among both.
func common(a, b []corev1.Toleration) []corev1.Toleration {
	if slices.EqualFunc(a, b, sameToleration) {
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(t corev1.Toleration) bool {
		return !slices.ContainsFunc(b, func(other corev1.Toleration) bool { return sameToleration(t, other) })
	})
}

func sameToleration(a, b corev1.Toleration) bool { return a.MatchToleration(&b) }

// lasting are the tolerations that say something about the nodes of pools: what Kubernetes itself puts on a node that is not Ready is
// no taint to the planner, and every pod is given tolerations of that when it is created.
func lasting(tolerations []corev1.Toleration) []corev1.Toleration {
	return slices.DeleteFunc(slices.Clone(tolerations), func(t corev1.Toleration) bool { return strings.HasPrefix(t.Key, lifecyclePrefix) })
}
