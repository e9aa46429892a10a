package size

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/facts"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
)

// lookEvery is how often a member that is waited for is looked at. A look that takes long makes it less often, so that the API server is
// busy with it for a small part of the time.
const (
	lookEvery   = time.Second
	lookAtLeast = 10 * time.Second
)

// await waits until a member has the size of a change and waits for nothing, and shows what it waits for meanwhile. The error of a time
// that is up says what that was last.
func await(ctx context.Context, env *cli.Environment, reader *cluster.Reader, change *Change, within time.Duration) error {
	p := &progress{out: env.Streams.ErrOut, terminal: cli.Terminal(env.Streams.ErrOut)}
	defer p.end()
	last := "nothing was read"
	for {
		began := time.Now()
		m, err := read(ctx, reader, change.Namespace, change.Name)
		if err == nil {
			if wants := wanted(m, change.Group); wants != change.To {
				return fmt.Errorf("the desired size%s of %s is %d by now, not %d: %s", change.of(), m.Name, wants, change.To, lastRequest(m))
			}
		}
		if err == nil && reached(m) {
			p.show(m, "", "all pods run")
			return nil
		}
		var known *explain.Facts
		if err == nil {
			known, err = facts.Member(ctx, reader, env.Now(), m)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil:
			e := explain.Member(known)
			last = line(e)
			p.show(m, string(e.WaitsFor)+e.Reason, last)
		}
		pause := time.NewTimer(min(max(lookEvery, 10*time.Since(began)), lookAtLeast))
		select {
		case <-ctx.Done():
			pause.Stop()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s does not have size %d after %s, which stays asked for; it waits for %s", change.Name, change.To, within, last)
			}
			return fmt.Errorf("%s waits for %s; the size stays asked for", change.Name, last)
		case <-pause.C:
		}
	}
}

// line is what a member waits for, in a line.
func line(e *explain.Explanation) string {
	if e.WaitsFor == "" {
		return e.Summary
	}
	return fmt.Sprintf("%s (%s): %s", e.WaitsFor, e.Reason, e.Summary)
}

// wanted is the desired size of a group of a member, 0 where there is no such group any more.
func wanted(m *v1alpha1.EnsembleMember, group string) int32 {
	if of := v1alpha1.GroupOf(m, group); of != nil {
		return of.Size
	}
	return 0
}

// reached reports whether a member has the size that is desired and waits for nothing.
func reached(m *v1alpha1.EnsembleMember) bool {
	return m.Status.ObservedGeneration >= m.Generation && m.Status.Size == m.Spec.Size &&
		meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha1.ConditionReady)
}

// lastRequest says what became of the last request.
func lastRequest(m *v1alpha1.EnsembleMember) string {
	if r := m.Status.LastRequest; r != nil && r.Outcome != "" {
		return r.Outcome
	}
	return "another size was asked for"
}

// progress shows a line that changes: again and again in its place on a terminal, and elsewhere when numbers or the reason have changed.
type progress struct {
	out      io.Writer
	terminal bool
	// last is what has been shown last, lastKey the numbers and the reason of it.
	last, lastKey string
}

const barWidth = 20

// show shows how far a member is, with the reason and what it waits for in a sentence.
func (p *progress) show(m *v1alpha1.EnsembleMember, reason, text string) {
	numbers := fmt.Sprintf("%s  nodes %d/%d  pods %d/%d", bar(m), m.Status.Nodes, m.Status.Reserved, m.Status.Running, m.Spec.Size)
	text, key := numbers+"  "+text, numbers+reason
	switch {
	case p.terminal && text != p.last:
		_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", cli.Fit(p.out, text)) // A line that cannot be shown ends no wait.
	case !p.terminal && key != p.lastKey:
		_, _ = fmt.Fprintln(p.out, text)
	}
	p.last, p.lastKey = text, key
}

// end leaves the line where it is.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		_, _ = fmt.Fprintln(p.out)
	}
}

// bar has a half for the nodes and one for the pods.
func bar(m *v1alpha1.EnsembleMember) string {
	full := 0
	if m.Spec.Size > 0 {
		full += barWidth / 2 * int(min(m.Status.Running, m.Spec.Size)) / int(m.Spec.Size)
	}
	if m.Status.Reserved > 0 {
		full += barWidth / 2 * int(min(m.Status.Nodes, m.Status.Reserved)) / int(m.Status.Reserved)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "]"
}
