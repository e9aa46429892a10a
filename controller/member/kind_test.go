package member_test

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// other is a kind beside MiniClusters.
type other struct{ minicluster.Kind }

func (other) GroupVersionKind() schema.GroupVersionKind {
	return batchv1.SchemeGroupVersion.WithKind("Job")
}

func (other) Words() *member.Words {
	return &member.Words{Kind: "Job", Kinds: "Jobs", Callers: []string{"job"}, Prefix: "job."}
}

func (other) Owner(job metav1.Object) *member.Owner {
	if metav1.GetControllerOf(job) != nil {
		return nil
	}
	return &member.Owner{Name: job.GetName(), UID: job.GetUID(), Job: job.GetName()}
}

// TestKindOfMember: a member is of the kind that its target says, of a MiniCluster where it says none, and of no kind that is not switched on.
func TestKindOfMember(t *testing.T) {
	t.Parallel()
	one, both := member.Kinds{minicluster.Kind{}}, member.Kinds{other{}, minicluster.Kind{}}
	of := func(version, kind string) *v1alpha1.MemberTarget {
		return &v1alpha1.MemberTarget{APIVersion: version, Kind: kind, Name: "m"}
	}
	for name, row := range map[string]struct {
		kinds  member.Kinds
		target *v1alpha1.MemberTarget
		want   string
	}{
		"one from before targets":    {one, nil, "MiniCluster"},
		"the same, beside others":    {both, nil, "MiniCluster"},
		"a MiniCluster":              {one, of("flux-framework.org/v1alpha2", "MiniCluster"), "MiniCluster"},
		"one of another version":     {one, of("flux-framework.org/v1", "MiniCluster"), "MiniCluster"},
		"a Job":                      {both, of("batch/v1", "Job"), "Job"},
		"a Job, not switched on":     {one, of("batch/v1", "Job"), ""},
		"one of another group":       {both, of("example.com/v1", "Job"), ""},
		"an apiVersion that is none": {both, of("a/b/c", "Job"), ""},
	} {
		got := ""
		if kind := row.kinds.Of(&v1alpha1.EnsembleMember{Spec: v1alpha1.EnsembleMemberSpec{Target: row.target}}); kind != nil {
			got = kind.Words().Kind
		}
		if got != row.want {
			t.Errorf("%s is of %q, not %q", name, got, row.want)
		}
	}
}

// TestKindOfOwner: a member is of the kind of the object that controls it, whatever its target says, and also where that was dropped.
func TestKindOfOwner(t *testing.T) {
	t.Parallel()
	one, both := member.Kinds{minicluster.Kind{}}, member.Kinds{other{}, minicluster.Kind{}}
	for name, row := range map[string]struct {
		kinds  member.Kinds
		owner  schema.GroupVersionKind
		target *v1alpha1.MemberTarget
		want   string
	}{
		"a Job":                                 {both, other{}.GroupVersionKind(), member.Target(other{}, "m"), "Job"},
		"a Job without a target":                {both, other{}.GroupVersionKind(), nil, "Job"},
		"the same, not switched on":             {one, other{}.GroupVersionKind(), nil, ""},
		"a Job that says it is a MiniCluster":   {one, other{}.GroupVersionKind(), member.Target(minicluster.Kind{}, "m"), ""},
		"a MiniCluster that says it is a Job":   {both, minicluster.GroupVersionKind, member.Target(other{}, "m"), "MiniCluster"},
		"a MiniCluster, as from before targets": {one, minicluster.GroupVersionKind, nil, "MiniCluster"},
	} {
		of := &v1alpha1.EnsembleMember{
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "m"}, row.owner),
			}}, Spec: v1alpha1.EnsembleMemberSpec{Target: row.target},
		}
		got := ""
		if kind := row.kinds.Of(of); kind != nil {
			got = kind.Words().Kind
		}
		if got != row.want {
			t.Errorf("%s is of %q, not %q", name, got, row.want)
		}
	}
}

// TestNames: the member of a MiniCluster has its name, and none of another kind has that of a MiniCluster which can have pods.
func TestNames(t *testing.T) {
	t.Parallel()
	if got := member.Name(minicluster.Kind{}, "m"); got != "m" {
		t.Errorf("the member of MiniCluster m is called %q", got)
	}
	if got := member.Name(other{}, "m"); got != "job.m" {
		t.Errorf("the member of Job m is called %q", got)
	}
	target := member.Target(other{}, "m")
	if want := (v1alpha1.MemberTarget{APIVersion: "batch/v1", Kind: "Job", Name: "m"}); *target != want {
		t.Errorf("its target is %+v, not %+v", *target, want)
	}
	found := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Name: "job.m"}, Spec: v1alpha1.EnsembleMemberSpec{Target: target}}
	before := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Name: "m"}}
	if got := []string{member.TargetName(found), member.TargetName(before)}; got[0] != "m" || got[1] != "m" {
		t.Errorf("the members are of %q", got)
	}
	if got := (other{}).Selector("m", ""); got != "batch.kubernetes.io/job-name=m" {
		t.Errorf("its pods are selected by %q", got)
	}
}

// TestOwner: the Job of a MiniCluster is not taken for a workload of its own as well.
func TestOwner(t *testing.T) {
	t.Parallel()
	kinds := member.Kinds{other{}, minicluster.Kind{}}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "m", UID: "j"}}
	if kind, owner := kinds.Owner(job); owner == nil || kind.Words().Kind != "Job" || owner.UID != "j" {
		t.Errorf("a Job by itself is of %v", owner)
	}
	job.OwnerReferences = []metav1.OwnerReference{
		*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "m", UID: "c"}, minicluster.GroupVersionKind),
	}
	if kind, owner := kinds.Owner(job); owner == nil || kind.Words().Kind != "MiniCluster" || owner.UID != "c" {
		t.Errorf("the Job of a MiniCluster is of %v", owner)
	}
	if kind, owner := (member.Kinds{}).Owner(job); kind != nil || owner != nil {
		t.Errorf("without kinds it is of %v", owner)
	}
	if kind := kinds.Called("miniclusters"); kind == nil || kind.Words().Kind != "MiniCluster" || kinds.Called("") != nil {
		t.Error("a caller's word is not understood")
	}
}
