package plan

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// lookForPods finds out which pods of a member's size do not exist though there are nodes for them. When they have not come for as
// long as a pool may take for a node, their nodes are given back: nothing says that they ever come.
//
// A size that the controller has written goes back to what has pods, and is tried again after a while, nodes first. One that somebody
// else has written stays: its pods come with or without nodes, and each is given its node when it exists.
func (p *pass) lookForPods(m *candidate) {
	if m.Lifecycle != Running {
		return
	}
	m.lacking = slices.DeleteFunc(slices.Clone(m.Lacking), func(rank int32) bool { return rank < 0 || rank >= m.Size })
	slices.Sort(m.lacking)
	m.lacking = slices.Compact(m.lacking)
	count := int32(len(m.lacking)) //nolint:gosec // Bounded by the size of the MiniCluster.
	if m.PodsLacking != nil {
		m.podsLacking = m.PodsLacking.DeepCopy()
		m.podsLacking.GivenBack = min(m.podsLacking.GivenBack, count)
		m.forgo(m.podsLacking.GivenBack)
	}
	switch {
	case m.Invalid != "":
	case count == 0 && m.podsLacking == nil:
	case m.waitsForPods() && m.Size > m.growth.From && m.Wants >= m.Size:
		p.goBack(m)
	case count == m.forgone:
		m.settlePods(count)
	case m.Wants < m.Size, m.readySize() < m.Size:
		// Some ranks are about to leave, or have no nodes yet. Since when others lack stays known.
	default:
		p.waitForPods(m, count)
	}
}

// forgo makes so many of the lacking ranks need no node, the highest.
func (c *candidate) forgo(count int32) {
	c.forgone = count
	if count > 0 {
		c.needless = append(c.needless, c.lacking[len(c.lacking)-int(count):]...)
		slices.Sort(c.needless)
		c.needless = slices.Compact(c.needless)
	}
}

// settlePods records that no more pods are lacking than nodes were given back for. How often that has happened is forgotten when
// all pods of the desired size are there.
func (c *candidate) settlePods(lacking int32) {
	switch {
	case c.podsLacking == nil:
	case c.podsLacking.Attempts == 0, lacking == 0 && c.Size >= c.Wants:
		c.podsLacking = nil
	default:
		c.podsLacking.Pods = c.podsLacking.GivenBack
	}
}

// waitForPods records since when pods are lacking, and gives their nodes back when it is too long.
func (p *pass) waitForPods(m *candidate, count int32) {
	if m.podsLacking == nil {
		m.podsLacking = &v1alpha1.PodsLacking{}
	}
	if m.podsLacking.Pods <= m.podsLacking.GivenBack {
		m.podsLacking.Since = microTime(p.now)
	}
	m.podsLacking.Pods = count
	if due := p.podsDue(m); p.now.Before(due) {
		p.wake(due)
		return
	}
	p.giveUpPods(m, count)
}

// podsDue is when nodes of pods that do not come are given back.
func (p *pass) podsDue(m *candidate) time.Time {
	timeout := time.Duration(0)
	for i := range m.Reservations {
		if pool := p.capacity.pools[m.Reservations[i].NodePool]; pool != nil && m.Reservations[i].Nodes > 0 {
			timeout = max(timeout, pool.ProvisionTimeout)
		}
	}
	return m.podsLacking.Since.Add(timeout)
}

// giveUpPods gives the nodes back of pods that did not come.
func (p *pass) giveUpPods(m *candidate, count int32) {
	since, size := m.podsLacking.Since, m.sizeWithPods()
	m.forgo(count)
	m.podsLacking.Attempts++
	m.podsLacking.GivenBack, _ = m.lackingBelow(size)
	m.podsLacking.Pods = m.podsLacking.GivenBack
	why := fmt.Sprintf("%s, and there were nodes for all since %s", m.notMade(), formatTime(since.Time))
	if size == m.Size {
		m.growth = nil
		m.warn(v1alpha1.ReasonPodsNotMade, why+"; those that no pod uses are given back, and asked for again when the pods exist")
		return
	}
	m.shrink, m.growth = size, nil
	if m.podsLacking.GivenBack > 0 {
		// Pods of what stays do not come either: nothing more is asked for until they do.
		m.warn(v1alpha1.ReasonPodsNotMade, why+"; the nodes that no pod uses are given back")
		return
	}
	retry := microTime(p.now.Add(backoff(m.podsLacking.Attempts)))
	m.growth = &v1alpha1.Growth{
		From: size, Size: max(m.Size, m.Wants), Since: microTime(p.now), Served: size, Attempts: m.podsLacking.Attempts, RetryAfter: &retry,
		Failures: []v1alpha1.PoolFailure{{NodePool: m.current, Reason: v1alpha1.ReasonPodsNotMade, Message: m.notMade(), At: microTime(p.now)}},
	}
	m.warn(v1alpha1.ReasonPodsNotMade, fmt.Sprintf("%s; the nodes that no pod uses are given back; attempt %d is at %s",
		why, m.growth.Attempts+1, formatTime(retry.Time)))
}

// goBack gives the MiniCluster the size that a pass has decided to go back to and that could not be written then. Where the pods
// have come meanwhile it stays.
func (p *pass) goBack(m *candidate) {
	switch size := max(m.sizeWithPods(), m.growth.From); {
	case len(m.lacking) == 0 || m.SizeGiven:
		m.growth = nil
		m.settlePods(int32(len(m.lacking))) //nolint:gosec // Bounded by the size of the MiniCluster.
	case size < m.Size:
		m.shrink = size
		m.forgo(int32(len(m.lacking))) //nolint:gosec // Bounded by the size of the MiniCluster.
	}
}

// sizeWithPods is the size to go back to when pods of the present one do not come: without the ranks from the first lacking one on.
// One that is on a node, or has succeeded, stays, with those below it. A size that somebody wrote stays as well.
func (c *candidate) sizeWithPods() int32 {
	if c.SizeGiven || len(c.lacking) == 0 {
		return c.Size
	}
	size := c.lacking[0]
	for i := range c.Pods {
		if pod := &c.Pods[i]; !pod.Released && pod.Index < c.Size {
			size = max(size, pod.Index+1)
		}
	}
	for _, rank := range c.Succeeded {
		if rank < c.Size {
			size = max(size, rank+1)
		}
	}
	return min(c.unitsFor(max(size, c.MinSize, 1)), c.Size)
}

// lackingBelow counts the lacking ranks of a smaller size.
func (c *candidate) lackingBelow(size int32) (int32, bool) {
	below, found := slices.BinarySearch(c.lacking, size)
	return int32(below), found //nolint:gosec // Bounded by the size of the MiniCluster.
}

// waitsForPods reports whether the growth waits to be tried again because its pods did not come.
func (c *candidate) waitsForPods() bool {
	return c.waitsOut() && len(c.growth.Failures) > 0 && c.growth.Failures[len(c.growth.Failures)-1].Reason == v1alpha1.ReasonPodsNotMade
}

// waits says for what a member waits before it asks for nodes, nil when it asks.
func (c *candidate) waits() *refusal {
	switch {
	case c.Lifecycle != Running:
		return nil
	case c.Invalid != "":
		return &refusal{v1alpha1.ReasonInvalid, c.Invalid, true}
	case c.waitsForPods():
		return &refusal{v1alpha1.ReasonBackingOff, fmt.Sprintf("%s; attempt %d for size %d is at %s",
			joinMessages(c.growth.Failures), c.growth.Attempts+1, c.growth.Size, formatTime(c.growth.RetryAfter.Time)), true}
	case c.waitsOut():
		return &refusal{v1alpha1.ReasonBackingOff, fmt.Sprintf("attempt %d for size %d failed in %s; the next is at %s; %s",
			c.growth.Attempts, c.growth.Size, failedPools(c), formatTime(c.growth.RetryAfter.Time), joinMessages(c.growth.Failures)), true}
	case c.forgone > 0 && c.Wants > c.Size:
		return &refusal{
			v1alpha1.ReasonPodsNotMade, fmt.Sprintf("size %d is asked for when all pods of size %d exist: %s", c.Wants, c.Size, c.notMade()),
			true,
		}
	}
	return nil
}

// runningPods is the number of ranks of the member's size that run or have succeeded, succeeded that of the latter.
func (c *candidate) runningPods() (sum, succeeded int32) {
	ranks := slices.DeleteFunc(slices.Clone(c.Succeeded), func(rank int32) bool { return rank >= c.Size })
	slices.Sort(ranks)
	succeeded = int32(len(slices.Compact(ranks))) //nolint:gosec // Bounded by the size of the MiniCluster.
	return c.Running + succeeded, succeeded
}

// notMade says how many pods do not exist, and why, in the words of the Job.
func (c *candidate) notMade() string {
	out := fmt.Sprintf("%d of %s not made", len(c.lacking), pluralize(c.Size, "pod is", "pods are"))
	if c.NotMade != "" {
		out += ": " + truncate(c.NotMade)
	}
	return out
}

// podsRunning is the condition that the pods of the size run.
func (p *pass) podsRunning(m *candidate) metav1.Condition {
	running, succeeded := m.runningPods()
	c := condition(v1alpha1.ConditionPodsRunning, v1alpha1.ReasonPodsRunning, pluralize(running, "pod runs", "pods run"))
	if succeeded > 0 {
		c.Message = fmt.Sprintf("%s, and %d succeeded", pluralize(m.Running, "pod runs", "pods run"), succeeded)
	}
	switch {
	case running >= m.Size:
		return c
	case m.forgone > 0:
		return unmet(c, v1alpha1.ReasonPodsNotMade, m.notMade()+"; their nodes were given back")
	case len(m.lacking) > 0 && m.NotMade != "":
		message := m.notMade()
		if m.podsLacking != nil && m.podsLacking.Pods > m.podsLacking.GivenBack {
			message += "; their nodes are given back at " + formatTime(p.podsDue(m))
		}
		return unmet(c, v1alpha1.ReasonPodsNotMade, message)
	case m.NotStarted != "":
		return unmet(c, v1alpha1.ReasonPodsNotStarted, fmt.Sprintf("%d of %d pods run; %s", running, m.Size, truncate(m.NotStarted)))
	}
	return unmet(c, v1alpha1.ReasonPodsStarting, fmt.Sprintf("%d of %d pods run", running, m.Size))
}
