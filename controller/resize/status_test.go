package resize

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestOutcomeOf: a request has the outcome that the member has, and keeps its last one when the size is set otherwise.
func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	asked := v1alpha1.Request{Action: v1alpha1.RequestGrow, Amount: 3, Size: 5, By: "pod ns/m-0", At: metav1.NewMicroTime(noon)}
	earlier := asked
	earlier.Size, earlier.At = 2, metav1.NewMicroTime(noon.Add(-1))
	for name, row := range map[string]struct {
		size int32
		last *v1alpha1.RequestOutcome
		want string
	}{
		"the desired size": {size: 5, want: "5 nodes are Ready"},
		"set otherwise since": {
			size: 6, last: &v1alpha1.RequestOutcome{Request: asked, Outcome: "2 of 5 nodes are Ready"}, want: "2 of 5 nodes are Ready",
		},
		"set otherwise before it was seen": {
			size: 6, last: &v1alpha1.RequestOutcome{Request: earlier, Outcome: "at size 2"}, want: "overtaken: the size was set to 6 otherwise",
		},
		"the first, and set otherwise": {size: 6, want: "overtaken: the size was set to 6 otherwise"},
	} {
		member := &v1alpha1.EnsembleMember{Spec: v1alpha1.EnsembleMemberSpec{Size: row.size, Request: &asked}}
		member.Status.LastRequest = row.last
		member.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Message: "5 nodes are Ready"}}
		got := outcomeOf(&asked, member)
		if got.Outcome != row.want || got.Size != asked.Size || !got.At.Equal(&asked.At) {
			t.Errorf("%s: %+v, want %s", name, got, row.want)
		}
	}
}
