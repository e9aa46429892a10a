package karpenter

import (
	"cmp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestRead: what a claim says of its machine.
func TestRead(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	ours, theirs := []string{Finalizer, finalizerTermination}, []string{finalizerTermination}
	yes := func(kind string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: kind}
	}
	not := func(reason string) metav1.Condition {
		return metav1.Condition{Type: conditionLaunched, Status: metav1.ConditionUnknown, Reason: reason, Message: "because"}
	}
	launched, registered := yes(conditionLaunched), yes(conditionRegistered)
	for name, row := range map[string]struct {
		finalizers []string
		deleted    time.Duration // after it was made; zero for not
		conditions []metav1.Condition
		shortage   string
		now        time.Duration
		first      time.Duration // when it was seen in its stage, if not now

		class   v1alpha1.FailureClass
		code    string
		again   time.Duration
		going   bool
		leaving time.Duration
	}{
		"just made":     {finalizers: []string{Finalizer}, now: time.Minute},
		"nothing tried": {finalizers: ours, conditions: []metav1.Condition{not(reasonAwaiting)}, now: time.Minute},
		"launched":      {finalizers: ours, conditions: []metav1.Condition{launched}, now: time.Hour},
		"cannot be launched, may yet": {
			finalizers: ours, conditions: []metav1.Condition{not("LaunchFailed")}, now: time.Second, first: time.Second, again: 11 * time.Second,
		},
		"cannot be launched": {
			finalizers: ours, conditions: []metav1.Condition{not("LaunchFailed")}, now: 11 * time.Second, first: time.Second,
			class: v1alpha1.FailureOther, code: "LaunchFailed",
		},
		"cannot be launched, for long": {
			finalizers: ours, conditions: []metav1.Condition{not("LaunchFailed")}, now: time.Minute, class: v1alpha1.FailureOther,
			code: "LaunchFailed",
		},
		"their clock is behind": {
			finalizers: ours, conditions: []metav1.Condition{not("LaunchFailed")}, now: 50 * time.Second, first: 49 * time.Second,
			again: 59 * time.Second,
		},
		"their clock is ahead": {
			finalizers: ours, conditions: []metav1.Condition{not("LaunchFailed")}, now: -20 * time.Second, first: -30 * time.Second,
			class: v1alpha1.FailureOther, code: "LaunchFailed",
		},
		"deleted, their clock is behind": {
			finalizers: ours, deleted: time.Second, now: 30 * time.Second, again: 30*time.Second + eventAgain(1),
		},
		"deleted, their clock is ahead": {
			finalizers: ours, deleted: time.Second, now: -20 * time.Second, first: -24 * time.Second, class: v1alpha1.FailureOther,
			code: codeNotLaunched,
		},
		"no machine left": {
			finalizers: ours, deleted: time.Second, shortage: "none", now: time.Second, class: v1alpha1.FailureOutOfResources,
			code: codeInsufficientCapacity,
		},
		"deleted, and the event is to come": {finalizers: ours, deleted: time.Second, now: 2 * time.Second, again: 2*time.Second + eventAgain(1)},
		"deleted, and no event came": {
			finalizers: []string{Finalizer}, deleted: time.Second, now: 6 * time.Second, first: 2 * time.Second, class: v1alpha1.FailureOther,
			code: codeNotLaunched,
		},
		"launch timeout": {
			finalizers: ours, deleted: 5 * time.Minute, conditions: []metav1.Condition{not("Own")}, now: 5 * time.Minute,
			class: v1alpha1.FailureOther, code: "Own",
		},
		"registration timeout": {
			finalizers: ours, deleted: 15 * time.Minute, conditions: []metav1.Condition{launched}, now: 15 * time.Minute,
			class: v1alpha1.FailureOther, code: codeRegistrationTimeout,
		},
		"deleted before it registered": {
			finalizers: ours, deleted: time.Minute, conditions: []metav1.Condition{launched}, now: time.Minute, class: v1alpha1.FailureOther,
			code: codeClaimDeleted,
		},
		"taken away": {
			finalizers: ours, deleted: time.Hour, conditions: []metav1.Condition{launched, registered}, now: time.Hour,
			leaving: time.Hour + noticeOf,
		},
		"taken away, gone": {
			finalizers: []string{Finalizer}, deleted: time.Hour, conditions: []metav1.Condition{launched, registered}, now: time.Hour,
			class: v1alpha1.FailureOther, code: codeClaimDeleted,
		},
		"told to go": {
			finalizers: theirs, deleted: time.Hour, conditions: []metav1.Condition{launched, registered}, now: time.Hour, going: true,
		},
		"told to go before it was launched": {finalizers: theirs, deleted: time.Second, now: time.Second, going: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim := &NodeClaim{}
			claim.CreationTimestamp, claim.Finalizers, claim.Status.Conditions = metav1.NewTime(made), row.finalizers, row.conditions
			if row.deleted > 0 {
				claim.DeletionTimestamp = new(metav1.NewTime(made.Add(row.deleted)))
			}
			var remembered memory
			now := made.Add(row.now)
			remembered.see(claim, made.Add(cmp.Or(row.first, row.now)))
			remembered.looked([]types.UID{claim.UID}, map[types.UID]string{claim.UID: row.shortage}, nil, now)
			s := remembered.see(claim, now)
			got := read(claim, &s, now)
			var class v1alpha1.FailureClass
			var code string
			if got.Failure != nil {
				class, code = got.Failure.Class, got.Failure.Code
			}
			if class != row.class || code != row.code || got.Going != row.going {
				t.Errorf("it is %+v with %q %q", got, class, code)
			}
			if want := at(made, row.again); !got.LookAgain.Equal(want) {
				t.Errorf("it is looked at again at %s, not %s", got.LookAgain, want)
			}
			if want := at(made, row.leaving); !got.LeavingAt.Equal(want) {
				t.Errorf("it leaves at %s, not %s", got.LeavingAt, want)
			}
		})
	}
}

func at(made time.Time, after time.Duration) time.Time {
	if after == 0 {
		return time.Time{}
	}
	return made.Add(after)
}

// TestClaim: what is asked of Karpenter for a machine.
func TestClaim(t *testing.T) {
	t.Parallel()
	machine := &v1alpha1.PoolMachine{}
	machine.Name = "hpc-7"
	machine.Spec.Purpose = v1alpha1.PurposeReservation
	machine.Spec.Template = v1alpha1.NodeTemplate{
		Labels: map[string]string{"a": "b", corev1.LabelArchStable: "arm64", labelNodePool: "general"},
		Taints: []corev1.Taint{{Key: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110"), "example.com/gpu": resource.MustParse("2"),
		},
	}
	config := &v1alpha1.KarpenterMachines{
		NodeClassRef:  v1alpha1.KarpenterNodeClass{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "hpc"},
		StartupTaints: []corev1.Taint{{Key: "agent", Effect: corev1.TaintEffectNoExecute}},
	}
	claim, err := claimFor("uid", "hpc", "token", "topology.kubernetes.io/zone=z", machine, config)
	if err != nil {
		t.Fatal(err)
	}
	if claim.Labels[labelNodePool] != "" || claim.Labels["a"] != "b" || claim.Labels[v1alpha1.LabelMachine] != "hpc-7" ||
		claim.Spec.ExpireAfter != never {
		t.Errorf("the claim is %+v", claim)
	}
	if len(claim.Spec.Taints) != 1 || len(claim.Spec.StartupTaints) != 2 || claim.Spec.StartupTaints[1].Key != v1alpha1.TaintRegistration {
		t.Errorf("the taints are %v and %v", claim.Spec.Taints, claim.Spec.StartupTaints)
	}
	if r := claim.Spec.Requirements; len(r) != 2 || r[0].Key != corev1.LabelArchStable || r[1].Values[0] != "z" {
		t.Errorf("the requirements are %+v", r)
	}
	requests := claim.Spec.Resources.Requests
	if _, pods := requests[corev1.ResourcePods]; pods || len(requests) != 2 {
		t.Errorf("the requests are %v", requests)
	}
	// Where the instance type is named, its cpu and memory are known.
	config.Requirements = []v1alpha1.KarpenterRequirement{
		{Key: corev1.LabelInstanceTypeStable, Operator: "In", Values: []string{"hpc7a.96xlarge"}},
		{Key: corev1.LabelTopologyZone, Operator: "In", Values: []string{"y"}},
	}
	const zone = "topology.kubernetes.io/zone=z"
	if _, err := claimFor("uid", "hpc", "token", zone, machine, config); err == nil || !strings.Contains(err.Error(), "requirements[1]") {
		t.Errorf("a machine in a zone that the pool is not in: %v", err)
	}
	const elsewhere = "kubernetes.io/arch=amd64"
	if _, err := claimFor(
		"uid", "hpc", "token", elsewhere, machine, config,
	); err == nil || !strings.Contains(err.Error(), "template.labels[kubernetes.io/arch]") {
		t.Errorf("a machine that the pool's labels exclude: %v", err)
	}
	if claim, err = claimFor("uid", "hpc", "token", "", machine, config); err != nil {
		t.Fatal(err)
	}
	if requests := claim.Spec.Resources.Requests; len(requests) != 1 || requests.Name("example.com/gpu", resource.DecimalSI).Value() != 2 {
		t.Errorf("the requests are %v", requests)
	}
	// Nothing is shared with what it was made of.
	claim.Spec.Requirements[0].Values[0], claim.Spec.Taints[0].Key = "other", "other"
	if config.Requirements[0].Values[0] == "other" || machine.Spec.Template.Taints[0].Key == "other" {
		t.Error("the claim shares its fields with the pool")
	}
}
