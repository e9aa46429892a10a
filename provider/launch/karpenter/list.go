package karpenter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Codes of failures, where Karpenter has none of its own.
const (
	// codeInsufficientCapacity is the reason of Karpenter's event.
	codeInsufficientCapacity = "InsufficientCapacity"
	codeNotLaunched          = "NotLaunched"
	codeRegistrationTimeout  = "RegistrationTimeout"
	codeClaimDeleted         = "NodeClaimDeleted"
)

const (
	// registrationTimeout is after how long Karpenter deletes the claim of a machine that has not registered (lifecycle/liveness.go), less
	// a minute, since times of claims are in seconds and its clock is its own.
	registrationTimeout = 14 * time.Minute
	// noticeOf is how long a machine is taken to stay that Karpenter takes away and whose claim does not say: the notice of a spot
	// machine of AWS.
	noticeOf = 2 * time.Minute
)

const (
	// longestCode is how long the reason of a condition may be, longestMessage how long the message of a failure.
	longestCode    = 1024
	longestMessage = 4096
)

// List implements launch.Launcher. It reads the cache: Traits.Lag covers that it may be behind. Events are read from the API server, and
// only where a claim was deleted before it was launched. Where they cannot be read, the rest is told without them.
func (l *Launcher) List(ctx context.Context, pool *launch.Pool) ([]launch.Instance, error) {
	objects, err := l.claims.ByIndex(indexPool, pool.Name)
	if err != nil {
		return nil, fmt.Errorf("list the NodeClaims of NodePool %s: %w", pool.Name, err)
	}
	now := l.clock.Now()
	l.memory.forget(l.isThere)
	claims := make([]*NodeClaim, 0, len(objects))
	var asked []types.UID
	for _, object := range objects {
		claim, ok := object.(*NodeClaim)
		if !ok || !isOfPool(pool, claim) {
			continue
		}
		claims = append(claims, claim)
		if s := l.memory.see(claim, now); s.asks(now) {
			asked = append(asked, claim.UID)
		}
	}
	shortages, err := l.shortages(ctx, asked)
	if cause := context.Cause(ctx); cause != nil {
		return nil, fmt.Errorf("list the NodeClaims of NodePool %s: %w", pool.Name, cause)
	}
	l.memory.looked(asked, shortages, err, now)
	out := make([]launch.Instance, 0, len(claims))
	for _, claim := range claims {
		s := l.memory.see(claim, now)
		out = append(out, read(claim, &s, now))
	}
	return out, nil
}

// Pools implements launch.Finder. All claims are in one place.
func (l *Launcher) Pools(_ context.Context, cluster string) ([]launch.Pool, error) {
	var out []launch.Pool
	for _, name := range l.claims.ListIndexFuncValues(indexPool) {
		objects, err := l.claims.ByIndex(indexPool, name)
		if err != nil {
			return nil, fmt.Errorf("list the NodeClaims of NodePool %s: %w", name, err)
		}
		pool := launch.Pool{Cluster: cluster, Name: name, Machines: v1alpha1.MachinesSpec{Karpenter: &v1alpha1.KarpenterMachines{}}}
		if slices.ContainsFunc(objects, func(object any) bool {
			claim, ok := object.(*NodeClaim)
			return ok && isOfPool(&pool, claim)
		}) {
			out = append(out, pool)
		}
	}
	return out, nil
}

// isThere reports whether a claim is in the cache.
func (l *Launcher) isThere(name string, uid types.UID) bool {
	object, is, err := l.claims.GetByKey(name)
	claim, ok := object.(*NodeClaim)
	return err == nil && is && ok && claim.UID == uid
}

// untold reports whether a claim was deleted, and not by Terminate, which takes the finalizer off first.
func untold(claim *NodeClaim) bool {
	return claim.DeletionTimestamp != nil && controllerutil.ContainsFinalizer(claim, Finalizer)
}

// endedUnlaunched reports whether somebody else has deleted a claim that has no machine.
func endedUnlaunched(claim *NodeClaim) bool { return untold(claim) && !claim.is(conditionLaunched) }

// read is what a claim says of its machine.
func read(claim *NodeClaim, s *sight, now time.Time) launch.Instance {
	out := launch.Instance{
		Key:        claim.Name,
		Machine:    claim.Labels[v1alpha1.LabelMachine],
		ProviderID: claim.Status.ProviderID,
		NodeName:   claim.Status.NodeName,
		Domain:     claim.Annotations[annotationDomain],
		CreatedAt:  claim.CreationTimestamp.Time,
		Going:      claim.DeletionTimestamp != nil && !untold(claim),
	}
	switch {
	case endedUnlaunched(claim):
		out.Failure, out.LookAgain = ended(claim, s, now)
	case untold(claim) && !claim.is(conditionRegistered):
		out.Failure = unregistered(claim)
	case untold(claim) && !controllerutil.ContainsFinalizer(claim, finalizerTermination):
		out.Failure = failure(claim.DeletionTimestamp.Time, v1alpha1.FailureOther, codeClaimDeleted,
			"Karpenter has ended the machine: its NodeClaim was deleted, and not by the provider")
	case untold(claim):
		out.LeavingAt = leavingAt(claim)
	case s.stage == stageTried:
		out.Failure, out.LookAgain = notLaunched(claim, s, now)
	}
	return out
}

// failure is one as it is recorded.
func failure(at time.Time, class v1alpha1.FailureClass, code, message string) *v1alpha1.MachineFailure {
	return &v1alpha1.MachineFailure{
		Time: metav1.NewMicroTime(at), Class: class, Code: cut(code, longestCode), Message: cut(message, longestMessage),
	}
}

// cut leaves so many bytes of a text, and no half of a letter.
func cut(text string, longest int) string {
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "")
}

// ended is why a claim was deleted before it was launched. The event may come a moment after the deletion.
func ended(claim *NodeClaim, s *sight, now time.Time) (*v1alpha1.MachineFailure, time.Time) {
	at := claim.DeletionTimestamp.Time
	if s.shortage != "" {
		return failure(at, v1alpha1.FailureOutOfResources, codeInsufficientCapacity, s.shortage), time.Time{}
	}
	waiting := now.Sub(s.since) < eventWithin
	c := claim.condition(conditionLaunched)
	switch {
	case c != nil && tried(c) && (s.err == nil || !waiting):
		return failure(at, v1alpha1.FailureOther, c.Reason, c.Message), time.Time{}
	case waiting:
		return nil, s.next
	case s.err != nil:
		return failure(at, v1alpha1.FailureOther, codeNotLaunched,
			"the NodeClaim was deleted before it was launched, and whether an event says why is not known: "+s.err.Error()), time.Time{}
	}
	return failure(at, v1alpha1.FailureOther, codeNotLaunched,
		"the NodeClaim was deleted before it was launched, and no event says why: the node class may not be ready"), time.Time{}
}

// tried reports whether Karpenter has tried to launch a claim, and could not.
func tried(launched *metav1.Condition) bool {
	return launched.Status != metav1.ConditionTrue && launched.Reason != "" && launched.Reason != reasonAwaiting
}

// unregistered is why a claim was deleted whose node has not registered.
func unregistered(claim *NodeClaim) *v1alpha1.MachineFailure {
	at := claim.DeletionTimestamp.Time
	if at.Sub(claim.CreationTimestamp.Time) >= registrationTimeout {
		return failure(at, v1alpha1.FailureOther, codeRegistrationTimeout, "the node did not register within the 15 minutes that Karpenter waits")
	}
	return failure(
		at, v1alpha1.FailureOther, codeClaimDeleted, "the NodeClaim was deleted before its node registered, and not by the provider",
	)
}

// leavingAt is when Karpenter takes away a machine that was not told to go: it drains the node first.
func leavingAt(claim *NodeClaim) time.Time {
	if at, err := time.Parse(time.RFC3339, claim.Annotations[annotationTerminatesAt]); err == nil {
		return at
	}
	return claim.DeletionTimestamp.Add(noticeOf)
}

// notLaunched is why a claim that Karpenter could not launch has no machine, nil while it may get one.
func notLaunched(claim *NodeClaim, s *sight, now time.Time) (*v1alpha1.MachineFailure, time.Time) {
	if until := s.since.Add(launchFailedAfter); now.Before(until) {
		return nil, until
	}
	c := claim.condition(conditionLaunched)
	return failure(now, v1alpha1.FailureOther, c.Reason, c.Message), time.Time{}
}
