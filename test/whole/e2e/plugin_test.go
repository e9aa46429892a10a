package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/plugin"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// plugin asks kubectl ensemble, and reads its answer.
func (x *tenant) plugin(answer any, arguments ...string) error {
	return x.pluginReading("", answer, arguments...)
}

// pluginReading is plugin with a text at standard input.
func (x *tenant) pluginReading(text string, answer any, arguments ...string) error {
	var out bytes.Buffer
	cmd := plugin.New(genericiooptions.IOStreams{In: strings.NewReader(text), Out: &out, ErrOut: &out}, "test")
	cmd.SetArgs(append(arguments, "--kubeconfig="+shared.Kubeconfig, "--namespace="+x.namespace, "--output=json"))
	if err := cmd.ExecuteContext(x.Context()); err != nil {
		return fmt.Errorf("kubectl ensemble %s: %w", strings.Join(arguments, " "), err)
	}
	return json.Unmarshal(out.Bytes(), answer)
}

// plan is what kubectl ensemble plan answers about another size of a member.
func (x *tenant) plan(cluster types.NamespacedName, change string, amount int) *whatif.Answer {
	x.Helper()
	answer := &whatif.Answer{}
	if err := x.plugin(answer, "plan", cluster.Name, fmt.Sprintf("--%s=%d", change, amount)); err != nil {
		x.Fatal(err)
	}
	return answer
}

// planNew is what kubectl ensemble plan answers about a MiniCluster that does not exist yet.
func (x *tenant) planNew(manifest string) *whatif.Answer {
	x.Helper()
	answer := &whatif.Answer{}
	if err := x.pluginReading(manifest, answer, "plan", "--filename=-"); err != nil {
		x.Fatal(err)
	}
	return answer
}

// granted checks that a plan is to grant nodes, so many of each pool, as "pool 2".
func (x *tenant) granted(answer *whatif.Answer, want ...string) {
	x.Helper()
	var got []string
	for i := range answer.Pools {
		if p := &answer.Pools[i]; p.After > 0 {
			got = append(got, fmt.Sprintf("%s %d", p.Name, p.After))
		}
	}
	if answer.Outcome != whatif.Granted || !slices.Equal(got, want) {
		x.Errorf("the plan is %s with %v, not %s with %v: %s", answer.Outcome, got, whatif.Granted, want, answer.Message)
	}
}

// asPlanned checks that as many nodes of each pool are reserved for a member as was answered.
func (x *tenant) asPlanned(cluster types.NamespacedName, answer *whatif.Answer) {
	x.Helper()
	var want []string
	for i := range answer.Pools {
		if p := &answer.Pools[i]; p.After > 0 {
			want = append(want, fmt.Sprintf("%s %d", p.Name, p.After))
		}
	}
	x.until(func(s *history.State) string {
		var got []string
		for _, r := range s.Members[cluster].Status.Reservations {
			if r.Nodes > 0 {
				got = append(got, fmt.Sprintf("%s %d", r.NodePool, r.Nodes))
			}
		}
		return unless(slices.Equal(got, want), "%s has reserved %v, and the plan was %v: %s", cluster, got, want, answer.Message)
	})
}

// refusedAsPlanned waits until a growth waits for its claim, and checks that this was answered, with that pool, and is explained so.
func (x *tenant) refusedAsPlanned(cluster types.NamespacedName, reason, pool string, answer *whatif.Answer) {
	x.Helper()
	if answer.Outcome != whatif.Refused || answer.Reason != reason || !strings.Contains(answer.Message, pool) {
		x.Errorf("the plan for %s was %s %s: %s, not %s for %s", cluster, answer.Outcome, answer.Reason, answer.Message, reason, pool)
	}
	x.explained(cluster, reason, pool)
}

// explained waits until a member waits for its claim for a reason, and kubectl ensemble explain says so, in the words of its condition,
// with the pool, and with something to do.
func (x *tenant) explained(cluster types.NamespacedName, reason, pool string) {
	x.Helper()
	x.explainedAs(cluster, v1alpha1.ConditionCapacityReserved, []string{reason}, pool)
}

// explainedAs waits until a condition of a member is False for one of some reasons, and kubectl ensemble explain says so: it waits, and a
// step says it in the words of the condition, with a text, and with something to do. What a member waits for its claim for is the cause.
func (x *tenant) explainedAs(cluster types.NamespacedName, kind string, reasons []string, text string) {
	x.Helper()
	last := ""
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		var c conditionText
		x.look(func(s *history.State) { c = condition(s.Members[cluster], kind) })
		last = fmt.Sprintf("%s is %s %s: %s", kind, c.status, c.reason, c.message)
		if c.status != "False" || !slices.Contains(reasons, c.reason) {
			return false, nil
		}
		e, err := x.explain(cluster)
		if err != nil {
			return false, err
		}
		last += fmt.Sprintf(", and is explained as %+v", e)
		steps := e.Steps
		if kind == v1alpha1.ConditionCapacityReserved {
			cause := e.Cause()
			if cause == nil || cause.Reason != c.reason {
				return false, nil
			}
			steps = []explain.Step{*cause}
		}
		says := slices.ContainsFunc(steps, func(s explain.Step) bool {
			return strings.Contains(s.Message, c.message) && strings.Contains(s.Message, text)
		})
		return says && e.WaitsFor != "" && e.Reason != "" && e.Do != "", nil
	}); err != nil {
		x.Fatalf("%s is to wait for %v with %q: %v: %s", cluster, reasons, text, err, last)
	}
}

// explain is what kubectl ensemble explain answers about a member.
func (x *tenant) explain(cluster types.NamespacedName) (*explain.Explanation, error) {
	e := &explain.Explanation{}
	return e, x.plugin(e, "explain", "member/"+cluster.Name)
}

// atRest waits until kubectl ensemble explain says of a member that it waits for nothing.
func (x *tenant) atRest(cluster types.NamespacedName) {
	x.Helper()
	var e *explain.Explanation
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(context.Context) (_ bool, err error) {
		e, err = x.explain(cluster)
		return err == nil && e.WaitsFor == "", err
	}); err != nil {
		x.Fatalf("%s is to wait for nothing: %v: it is explained as %+v", cluster, err, e)
	}
}
