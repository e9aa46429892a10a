package resize

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// actionOf is what a request asked for, and of which group where it named one.
func actionOf(request *v1alpha1.Request) string {
	action := strings.ToLower(string(request.Action))
	if request.Group != "" {
		action += " group " + request.Group
	}
	return action
}

// sizesOf are the sizes that a status has recorded, by the groups.
func sizesOf(status *v1alpha1.EnsembleMemberStatus) member.Sizes {
	if len(status.Groups) == 0 {
		return member.Sizes{"": status.Size}
	}
	sizes := make(member.Sizes, len(status.Groups))
	for i := range status.Groups {
		sizes[status.Groups[i].Name] = status.Groups[i].Size
	}
	return sizes
}

// longestMessage is the greatest length of the message of a decision, in bytes.
const longestMessage = 1024

// record returns the decisions of a status with those that a pass adds: what was asked for, the size that the member has
// got since, and the steps that the pass takes. status is that of before the pass, and kind what its workload is called.
//
// A resize is told of when its size is seen, not when it is decided: the pass that decides it may write no status, and
// somebody else may resize too.
func record(
	status *v1alpha1.EnsembleMemberStatus, kind string, request *v1alpha1.Request, sizes member.Sizes, notes []plan.Note, now time.Time,
) []v1alpha1.DecisionRecord {
	decisions := status.Decisions
	at := metav1.MicroTime{Time: now.Truncate(time.Microsecond)}
	add := func(at metav1.MicroTime, reason, message string) {
		decisions = append(decisions, v1alpha1.DecisionRecord{At: at, Reason: reason, Message: pods.Shortened(message, longestMessage)})
	}
	if asked := status.LastRequest; request != nil && (asked == nil || asked.At.Before(&request.At)) &&
		request.Action != v1alpha1.RequestGiveUp {
		add(
			request.At, v1alpha1.ReasonRequested,
			fmt.Sprintf("%s by %d to size %d, by %s", actionOf(request), request.Amount, request.Size, request.By),
		)
	}
	if status.ObservedGeneration > 0 && (status.Size != sizes.Sum() || len(status.Groups) > 0) {
		if before := sizesOf(status); !before.Same(sizes) {
			add(at, v1alpha1.ReasonResized, fmt.Sprintf("the %s has size %s now, after %s", kind, sizes, before))
		}
	}
	for i := range notes {
		if notes[i].Reason == v1alpha1.ReasonResizing {
			continue
		}
		if last := len(decisions) - 1; last >= 0 && decisions[last].Reason == notes[i].Reason && decisions[last].Message == pods.Shortened(
			notes[i].Message, longestMessage,
		) {
			// The writes that it led to have failed, and are tried again.
			continue
		}
		add(at, notes[i].Reason, notes[i].Message)
	}
	return decisions[max(0, len(decisions)-v1alpha1.MaxDecisions):]
}
