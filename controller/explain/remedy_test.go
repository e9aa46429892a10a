package explain

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestRemedies: each reason for which a member can wait, as docs/troubleshooting.md has them, has a remedy here.
func TestRemedies(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	from, to := strings.Index(text, "### Nodes are not reserved"), strings.Index(text, "### Nothing is wrong")
	if from < 0 || to < from {
		t.Fatal("the sections with the reasons are not found")
	}
	// Events tell of what has happened; a member that is at its end waits for nothing.
	passed := []string{
		v1alpha1.ReasonFellBack, v1alpha1.ReasonGaveUp, v1alpha1.ReasonNodesLost, "MachineLeaves", v1alpha1.ReasonPodStranded,
		v1alpha1.ReasonFinished, v1alpha1.ReasonDeleting,
	}
	rows := regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\|").FindAllStringSubmatch(text[from:to], -1)
	if len(rows) < 20 {
		t.Fatalf("%d reasons are found, want all", len(rows))
	}
	for _, row := range rows {
		if _, has := remedies[row[1]]; !has && !slices.Contains(passed, row[1]) {
			t.Errorf("%s has no remedy", row[1])
		}
	}
}

// TestRemediesNameWhatIsMeant: no placeholder is left where the facts have a name for it.
func TestRemediesNameWhatIsMeant(t *testing.T) {
	t.Parallel()
	f := &Facts{Member: &v1alpha1.EnsembleMember{}, Pools: []v1alpha1.NodePool{{}}}
	f.Member.Name, f.Member.Namespace, f.Member.Spec.NodePools, f.Pools[0].Name = "demo", "default", []string{"hpc-a"}, "hpc-a"
	for reason := range remedies {
		text := remedy(f, &Step{State: Blocked, Reason: reason})
		for _, placeholder := range []string{"POOL", "MEMBER", "NAMESPACE", "KIND"} {
			if strings.Contains(text, placeholder) {
				t.Errorf("%s: %q has %s left", reason, text, placeholder)
			}
		}
	}
}

// TestRemedyNamesKind: what a remedy says of the workload, it says of one of its kind.
func TestRemedyNamesKind(t *testing.T) {
	t.Parallel()
	f := &Facts{Member: &v1alpha1.EnsembleMember{}}
	for kind, target := range map[string]*v1alpha1.MemberTarget{"workload": nil, "Job": {APIVersion: "batch/v1", Kind: "Job", Name: "sweep"}} {
		f.Member.Spec.Target = target
		if text := remedy(f, &Step{State: Blocked, Reason: v1alpha1.ReasonPoolNotFound}); !strings.HasSuffix(text, " of the "+kind+".") {
			t.Errorf("of a %s it is %q", kind, text)
		}
	}
}

// TestReasonsAreDocumented: each reason that no object states is in docs/kubectl-ensemble.md.
func TestReasonsAreDocumented(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/kubectl-ensemble.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{
		ReasonNotObserved, ReasonAutoscalerMissing, ReasonAutoscalerSilent, ReasonGroupUnknown, ReasonGroupUnhealthy, ReasonGroupBackoff,
		ReasonFloorIgnored, ReasonNodeNotReady, ReasonNodeTainted, ReasonNodeCordoned, ReasonGated,
	} {
		if !strings.Contains(string(content), "`"+reason+"`") {
			t.Errorf("%s is not explained there", reason)
		}
		if remedies[reason] == "" {
			t.Errorf("%s has no remedy", reason)
		}
	}
}
