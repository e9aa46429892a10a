package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// conditions says how far the member is. The texts name points in time, never spans, so that they stay the
// same from pass to pass.
func (p *pass) conditions(m *candidate) (conditions []metav1.Condition, whenReady string) {
	if m.Lifecycle != Running || m.Invalid != "" {
		return p.endConditions(m)
	}
	claimed, ready, pools := m.claimed(), m.ready(), p.pools(m)

	// Without fmt: for each member in each pass, and mostly they say what they said before.
	reserved := condition(
		v1alpha1.ConditionCapacityReserved, v1alpha1.ReasonReserved, pluralize(claimed, "node is", "nodes are")+" reserved in "+pools,
	)
	if m.refusal != nil {
		reserved = unmet(reserved, m.refusal.reason, m.refusal.message)
	}

	capacity := condition(
		v1alpha1.ConditionCapacityReady, v1alpha1.ReasonNodesReady, pluralize(ready, "node is", "nodes are")+" Ready in "+pools,
	)
	if ready < claimed {
		message := fmt.Sprintf("%d of %d nodes are Ready in %s", ready, claimed, pools)
		if m.growth != nil && m.growth.Deadline != nil {
			message += "; the others have until " + formatTime(m.growth.Deadline.Time)
		}
		message += m.departures() + p.stall(m) + p.filled(m)
		if m.growth != nil && len(m.growth.Failures) > 0 {
			message += "; before, " + joinMessages(m.growth.Failures)
		}
		capacity = unmet(capacity, v1alpha1.ReasonWaitingForNodes, message)
	}

	resized := condition(v1alpha1.ConditionResized, v1alpha1.ReasonAtSize, "at size "+strconv.Itoa(int(m.Size)))
	switch leaving := m.heldBesideLeaving() - claimed; {
	case m.Wants < m.Size:
		resized = unmet(resized, v1alpha1.ReasonResizing, fmt.Sprintf("resizing from %d to %d", m.Size, m.Wants))
	case m.Wants > m.Size && ready >= claimed && m.refusal == nil && !m.mayResize():
		resized = unmet(resized, v1alpha1.ReasonWaitingForCapacity, fmt.Sprintf(
			"at size %d, wants %d, and waits for nodes of other groups", m.Size, m.Wants))
	case m.Wants > m.Size && ready >= claimed && m.refusal == nil:
		resized = unmet(resized, v1alpha1.ReasonResizing, fmt.Sprintf("resizing from %d to %d", m.Size, m.Wants))
	case m.Wants > m.Size:
		resized = unmet(resized, v1alpha1.ReasonWaitingForCapacity, fmt.Sprintf("at size %d, wants %d", m.Size, m.Wants))
	case leaving > 0:
		resized = unmet(resized, v1alpha1.ReasonPodsLeaving, fmt.Sprintf(
			"at size %d; pods of the former size have still to leave %s", m.Size, pluralize(leaving, "node", "nodes")))
	}
	return []metav1.Condition{reserved, capacity, resized, p.podsRunning(m)}, resized.Message
}

// silence is how long a floor may go unanswered before it is told: a few scan intervals of Cluster Autoscaler, which are ten
// seconds by default.
const silence = 45 * time.Second

// stall tells which pool of the member's claims stays below its floor, and what may be wrong.
func (p *pass) stall(m *candidate) string {
	for _, name := range m.NodePools {
		pool := p.capacity.pools[name]
		if pool == nil || pool.Stall.Since.IsZero() || m.claims.of(name) <= m.usableIn(name) {
			continue
		}
		if due := pool.Stall.Since.Add(silence); p.now.Before(due) {
			p.wake(due)
			continue
		}
		return fmt.Sprintf("; nothing was ordered in %s since %s: %s", name, formatTime(pool.Stall.Since), pool.Stall.Cause)
	}
	return ""
}

// endConditions are those of a member whose MiniCluster has finished, is being deleted, is suspended, or cannot be read.
func (p *pass) endConditions(m *candidate) (conditions []metav1.Condition, whenReady string) {
	reason, message := v1alpha1.ReasonFinished, fmt.Sprintf("the %s has finished; its nodes are given back", m.Kind)
	status := metav1.ConditionTrue
	switch m.Lifecycle {
	case Finished:
	case Deleting:
		reason, message = v1alpha1.ReasonDeleting, fmt.Sprintf("the %s is being deleted; its nodes are given back", m.Kind)
	case Suspended:
		reason, message = v1alpha1.ReasonSuspended, fmt.Sprintf("the %s is suspended; it claims no nodes until it is resumed", m.Job)
		status = metav1.ConditionFalse
	case Running:
		reason, message = v1alpha1.ReasonInvalid, "what the member has stays as it is: "+m.Invalid
		status = metav1.ConditionFalse
	}
	kinds := []string{
		v1alpha1.ConditionCapacityReserved, v1alpha1.ConditionCapacityReady, v1alpha1.ConditionResized, v1alpha1.ConditionPodsRunning,
	}
	for _, kind := range kinds {
		c := condition(kind, reason, message)
		c.Status = status
		held := int32(len(m.held)) //nolint:gosec // Bounded by the size of the MiniCluster.
		if kind == v1alpha1.ConditionResized && m.Lifecycle != Running && held > 0 {
			c = unmet(c, v1alpha1.ReasonPodsLeaving, fmt.Sprintf("%s; pods have still to leave %s", message, pluralize(held, "node", "nodes")))
		}
		conditions = append(conditions, c)
	}
	return conditions, message
}

func condition(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

func unmet(c metav1.Condition, reason, message string) metav1.Condition {
	c.Status, c.Reason, c.Message = metav1.ConditionFalse, reason, message
	return c
}

// pools names the pools of the member's claims, or the one that it would claim from, and the domain.
func (p *pass) pools(m *candidate) string {
	names := ""
	for _, name := range m.NodePools {
		switch {
		case m.claims.of(name) == 0:
		case names == "":
			names = name
		default:
			names += ", " + name
		}
	}
	if names == "" {
		names = m.current
	}
	return names + m.where()
}

// pluralize is a number with the word for one or for many.
func pluralize(n int32, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(int(n)) + " " + many
}

// joinMessages are failures as one sentence.
func joinMessages(failures []v1alpha1.PoolFailure) string {
	messages := make([]string, len(failures))
	for i := range failures {
		messages[i] = failures[i].Message
	}
	return strings.Join(messages, ", ")
}

// failedPools names the pools in which an attempt has failed, with the reasons where there are several.
func failedPools(m *candidate) string {
	failures := m.growth.Failures
	switch len(failures) {
	case 0:
		return m.current
	case 1:
		return failures[0].NodePool
	}
	names := make([]string, len(failures))
	for i := range failures {
		names[i] = fmt.Sprintf("%s (%s)", failures[i].NodePool, failures[i].Reason)
	}
	return strings.Join(names, ", ")
}

// truncate bounds what a cloud says: the NodePool has all of it.
func truncate(message string) string {
	const most = 256
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most], "") + "…"
}

// listed names the first few of a list and counts the rest: a message has to stay readable.
func listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// joinNames are names as a part of a sentence.
func joinNames(names []string) string { return strings.Join(names, ", ") }

// formatTime is a point in time as messages have it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// formatQuantity is a quantity in the notation of Kubernetes.
func formatQuantity(name corev1.ResourceName, n int64) string {
	switch name {
	case corev1.ResourceCPU:
		return resource.NewMilliQuantity(n, resource.DecimalSI).String()
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return resource.NewQuantity(n, resource.BinarySI).String()
	default:
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			return resource.NewQuantity(n, resource.BinarySI).String()
		}
		return resource.NewQuantity(n, resource.DecimalSI).String()
	}
}
