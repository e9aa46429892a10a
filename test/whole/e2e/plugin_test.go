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
	var out bytes.Buffer
	cmd := plugin.New(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out}, "test")
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
	last := ""
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		var c conditionText
		x.look(func(s *history.State) { c = condition(s.Members[cluster], v1alpha1.ConditionCapacityReserved) })
		if last = fmt.Sprintf("the claim is %s: %s", c.reason, c.message); c.reason != reason {
			return false, nil
		}
		e := &explain.Explanation{}
		if err := x.plugin(e, "explain", "member/"+cluster.Name); err != nil {
			return false, err
		}
		last += fmt.Sprintf(", and is explained as %+v", e)
		cause := e.Cause()
		told := cause != nil && e.Reason == reason && strings.Contains(cause.Message, c.message) && strings.Contains(cause.Message, pool)
		return told && e.Do != "", nil
	}); err != nil {
		x.Fatalf("%s is to wait for %s of %s: %v: %s", cluster, reason, pool, err, last)
	}
}
