package resize

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestRecord: what was asked for, the resize that is seen, and the steps of a pass, in that order, each once.
func TestRecord(t *testing.T) {
	t.Parallel()
	before := metav1.NewMicroTime(noon.Add(-time.Second))
	asked := &v1alpha1.Request{Action: v1alpha1.RequestGrow, Amount: 3, Size: 5, By: "pod ns/m-0", At: before}
	steps := []plan.Note{{Reason: v1alpha1.ReasonReserved, Message: "reserved 3"}, {Reason: v1alpha1.ReasonResizing, Message: "resizing"}}
	for name, row := range map[string]struct {
		status  v1alpha1.EnsembleMemberStatus
		request *v1alpha1.Request
		size    int32
		notes   []plan.Note
		want    []string
	}{
		"nothing new": {status: v1alpha1.EnsembleMemberStatus{ObservedGeneration: 1, Size: 2}, size: 2},
		"the first":   {size: 2},
		"a request": {
			status: v1alpha1.EnsembleMemberStatus{ObservedGeneration: 1, Size: 2}, size: 2, request: asked, notes: steps,
			want: []string{"Requested: grow by 3 to size 5, by pod ns/m-0", "Reserved: reserved 3"},
		},
		"seen before": {
			status: v1alpha1.EnsembleMemberStatus{ObservedGeneration: 1, Size: 2, LastRequest: &v1alpha1.RequestOutcome{Request: *asked}},
			size:   2, request: asked,
		},
		"a resize": {
			status: v1alpha1.EnsembleMemberStatus{ObservedGeneration: 1, Size: 2}, size: 5,
			want: []string{"Resized: the MiniCluster has size 5 now, after 2"},
		},
		"tried again": {
			status: v1alpha1.EnsembleMemberStatus{
				ObservedGeneration: 1, Size: 2, Decisions: []v1alpha1.DecisionRecord{{Reason: v1alpha1.ReasonReserved, Message: "reserved 3"}},
			},
			size: 2, notes: steps, want: []string{"Reserved: reserved 3"},
		},
		"our own desired size": {
			status: v1alpha1.EnsembleMemberStatus{ObservedGeneration: 1, Size: 2}, size: 2,
			request: &v1alpha1.Request{Action: v1alpha1.RequestGiveUp, Size: 2, At: before},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, d := range record(&row.status, "MiniCluster", row.request, member.Sizes{"": row.size}, row.notes, noon) {
				got = append(got, d.Reason+": "+d.Message)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRecordIsBounded: the last decisions stay, and none is longer than the API takes.
func TestRecordIsBounded(t *testing.T) {
	t.Parallel()
	status := &v1alpha1.EnsembleMemberStatus{}
	for n := range v1alpha1.MaxDecisions + 3 {
		status.Decisions = record(
			status, "MiniCluster", nil, member.Sizes{"": 0},
			[]plan.Note{{Reason: v1alpha1.ReasonReserved, Message: fmt.Sprint(n, " ", strings.Repeat("ä", 1024))}}, noon,
		)
	}
	if len(status.Decisions) != v1alpha1.MaxDecisions || !strings.HasPrefix(status.Decisions[0].Message, "3 ") {
		t.Errorf(
			"%d decisions, of which the first is %.10q; want the last %d", len(status.Decisions), status.Decisions[0].Message,
			v1alpha1.MaxDecisions,
		)
	}
	for _, d := range status.Decisions {
		if len(d.Message) > 1024 || !strings.HasSuffix(d.Message, "ä…") {
			t.Errorf("a message of %d bytes ends with %q", len(d.Message), d.Message[len(d.Message)-8:])
		}
	}
}
