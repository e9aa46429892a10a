// Package gates knows the scheduling gate of members' pods. The resize controller takes it away when there are nodes; Sweep
// takes it away from all pods, whatever they wait for: for the end of an installation, after which nobody else would.
package gates

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Has reports whether a pod has the gate.
func Has(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SchedulingGate })
}

// deletion takes our gate out of the list by its name. Gates of others stay, whatever their order is by then, and a pod
// that has lost ours meanwhile is not changed: so no version needs to be named.
var deletion = client.RawPatch(types.StrategicMergePatchType,
	fmt.Appendf(nil, `{"spec":{"schedulingGates":[{"$patch":"delete","name":%q}]}}`, v1alpha1.SchedulingGate))

// Remove takes the gate away from a pod and leaves those of others. The pod becomes what the API server answers. When
// the pod is gone the error is NotFound.
func Remove(ctx context.Context, c client.Client, pod *corev1.Pod) error {
	if !Has(pod) {
		return nil
	}
	return c.Patch(ctx, pod, deletion)
}

const (
	// pageSize bounds what is in memory at a time.
	pageSize = 500
	// writesAtOnce is how many pods are patched at a time.
	writesAtOnce = 16
	// fruitless is how many passes in a row may take no gate away before it is given up.
	fruitless = 5
	// toldAtMost is how many pods an error names.
	toldAtMost = 10
)

// rest is the time between two passes of which the first could not do everything.
const rest = time.Second

// Sweep takes the gate away from every pod of a cluster.
type Sweep struct {
	Client client.Client
	Clock  clock.Clock
	// Out receives a line for each pod and one at the end.
	Out io.Writer
}

// Run goes over the pods until none has the gate. What fails is tried again, for as long as something is achieved; an error
// says what could not be done. It keeps no state: when it is killed, run it again.
//
// It looks at all pods that have no node yet, not at the label of members alone, which somebody may have taken away: a gated
// pod cannot have a node.
func (s *Sweep) Run(ctx context.Context) error {
	total := 0
	for tries := 0; ; {
		removed, failures, err := s.pass(ctx)
		total += removed
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("stopped after %d pods, before all gates were taken away; run it again: %w", total, context.Cause(ctx))
		case err == nil && len(failures) == 0 && removed == 0:
			s.say("the scheduling gate %s was taken away from %d pods; no pod has it any more", v1alpha1.SchedulingGate, total)
			return nil
		case err == nil && len(failures) == 0:
			// More may have come meanwhile.
			continue
		case removed > 0:
			tries = 0
		}
		if tries++; tries == fruitless {
			return givenUp(failures, err)
		}
		s.say("%s; trying again", unfinished(failures, err))
		select {
		case <-ctx.Done():
		case <-s.Clock.After(rest):
		}
	}
}

func unfinished(failures []error, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d pods still have the scheduling gate", len(failures))
}

// givenUp is the error of passes that led to nothing.
func givenUp(failures []error, err error) error {
	if len(failures) == 0 {
		return err
	}
	more := ""
	count := len(failures)
	if count > toldAtMost {
		failures, more = failures[:toldAtMost], fmt.Sprintf("\nand %d more", count-toldAtMost)
	}
	return errors.Join(fmt.Errorf("%d pods still have the scheduling gate %s, and are not scheduled while they have it:\n%w%s",
		count, v1alpha1.SchedulingGate, errors.Join(failures...), more), err)
}

// pass goes over all pods once. It returns how many have lost the gate, why others have not, and why it did not see all of
// them.
func (s *Sweep) pass(ctx context.Context) (removed int, failures []error, err error) {
	for next := ""; ; {
		var pods corev1.PodList
		if err := s.Client.List(
			ctx, &pods, client.Limit(pageSize), client.Continue(next), client.MatchingFields{"spec.nodeName": ""},
		); err != nil {
			return removed, failures, fmt.Errorf("list the pods that have no node: %w", err)
		}
		gated := slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return !Has(&pod) })
		results := make([]error, len(gated))
		// What has begun is ended: each write notices by itself when the process is to end.
		workqueue.ParallelizeUntil(context.Background(), writesAtOnce, len(gated), func(i int) {
			results[i] = Remove(ctx, s.Client, &gated[i])
		})
		for i := range gated {
			name := gated[i].Namespace + "/" + gated[i].Name
			switch err := results[i]; {
			case apierrors.IsNotFound(err):
				s.say("%s is gone", name)
			case err != nil:
				failures = append(failures, fmt.Errorf("%s: %w", name, err))
				s.say("%s still has the scheduling gate: %v", name, err)
			default:
				removed++
				s.say("%s may be scheduled", name)
			}
		}
		if err := ctx.Err(); err != nil {
			return removed, failures, err
		}
		if next = pods.Continue; next == "" {
			return removed, failures, nil
		}
	}
}

func (s *Sweep) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(s.Out, format+"\n", arguments...) // What nobody reads is no error.
}
