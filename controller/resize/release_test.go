package resize

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// TestReleaseTolerates: a pod tolerates what is on all nodes of the pool that it is released to, and keeps what it tolerates.
func TestReleaseTolerates(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.pool(func(p *v1alpha1.NodePool) {
		p.Spec.Template.Taints = []corev1.Taint{
			{
				Key: "hpc", Value: "yes", Effect: corev1.TaintEffectNoSchedule,
			}, {Key: "gpu", Effect: corev1.TaintEffectNoExecute}, {Key: "soft", Effect: corev1.TaintEffectPreferNoSchedule},
		}
	})
	s.pods(0, 2)
	own := corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}
	s.podAt(1, func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{own} })
	s.settle()
	s.provide(0, 2)
	s.settle()
	hpc := corev1.Toleration{Key: "hpc", Operator: corev1.TolerationOpEqual, Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	for rank, want := range [][]corev1.Toleration{
		{hpc, {Key: "gpu", Operator: corev1.TolerationOpEqual, Effect: corev1.TaintEffectNoExecute}}, {own, hpc},
	} {
		s.podAt(rank, func(p *corev1.Pod) {
			if diff := cmp.Diff(want, p.Spec.Tolerations); diff != "" || len(p.Spec.SchedulingGates) > 0 ||
				p.Spec.NodeSelector[corev1.LabelHostname] == "" {
				t.Errorf("rank %d was released to %v and tolerates (-want +got):\n%s", rank, p.Spec.NodeSelector, diff)
			}
		})
	}
}

// TestLetGo: the gate of a pod that seems to belong to no member is taken away only where the API server itself says that nobody will
// ever plan for it, however old the pod is.
func TestLetGo(t *testing.T) {
	t.Parallel()
	unmanage := func(u *unstructured.Unstructured) { u.SetAnnotations(nil) }
	for name, row := range map[string]struct {
		hide   []client.ObjectList
		change func(*scene)
		want   bool
	}{
		"a Job that is not in the cache": {[]client.ObjectList{&batchv1.JobList{}}, func(*scene) {}, false},
		"a MiniCluster that is not in the cache": {
			[]client.ObjectList{&unstructured.UnstructuredList{}, &v1alpha1.EnsembleMemberList{}}, func(*scene) {}, false,
		},
		"one that is managed no more": {nil, func(s *scene) { s.cluster(unmanage) }, true},
		"and is being deleted": {nil, func(s *scene) {
			s.cluster(func(u *unstructured.Unstructured) { unmanage(u); u.SetFinalizers([]string{"x/y"}) })
			s.remove(member.Reference(minicluster.Kind{}, mine, ""))
		}, false},
		"and is gone": {nil, func(s *scene) {
			s.remove(member.Reference(minicluster.Kind{}, mine, ""))
			s.remove(&v1alpha1.EnsembleMember{ObjectMeta: metaIn(mine.Name)})
		}, false},
		"whose Job is being deleted": {nil, func(s *scene) {
			s.cluster(unmanage)
			s.job(func(j *batchv1.Job) { j.Finalizers = []string{"x/y"} })
			s.remove(&batchv1.Job{ObjectMeta: metaIn(mine.Name)})
		}, false},
		"whose Job is gone": {nil, func(s *scene) {
			s.cluster(unmanage)
			s.remove(&batchv1.Job{ObjectMeta: metaIn(mine.Name)})
		}, false},
		"whose Job is another one of that name": {nil, func(s *scene) {
			s.cluster(unmanage)
			s.job(func(j *batchv1.Job) { j.UID = "another" })
		}, false},
		"a MiniCluster of that name that is not the owner": {nil, func(s *scene) {
			s.cluster(func(u *unstructured.Unstructured) { unmanage(u); u.SetUID("another") })
		}, false},
		"a Job of its own": {nil, func(s *scene) { s.job(func(j *batchv1.Job) { j.OwnerReferences = nil }) }, true},
		"a Job of its own that is managed as a kind which is not switched on": {nil, func(s *scene) {
			s.cluster(unmanage)
			s.job(func(j *batchv1.Job) { j.OwnerReferences = nil })
			m := s.member()
			m.OwnerReferences, m.Spec.Target = nil, &v1alpha1.MemberTarget{APIVersion: "batch/v1", Kind: "Job", Name: mine.Name}
			s.update(m)
		}, false},
		"a Job of somebody else": {nil, func(s *scene) {
			s.job(func(j *batchv1.Job) { j.OwnerReferences[0].APIVersion = "evil.io/v1" })
		}, true},
		"without our label": {nil, func(s *scene) {
			s.cluster(unmanage)
			s.podAt(0, func(p *corev1.Pod) { delete(p.Labels, v1alpha1.LabelMember) })
		}, false},
		"that no Job has made": {nil, func(s *scene) {
			s.cluster(unmanage)
			s.podAt(0, func(p *corev1.Pod) { p.OwnerReferences = nil })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 1)
			var hide []client.ObjectList
			s.Client = hidden(s.world, &hide)
			s.begin()
			s.pods(0, 1)
			s.podAt(0, func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(noon) })
			s.settle()
			row.change(s)
			hide = row.hide
			let := func() bool {
				pod := &corev1.Pod{}
				if err := s.world.Get(t.Context(), types.NamespacedName{Namespace: mine.Namespace, Name: "m-0"}, pod); err != nil {
					t.Fatal(err)
				}
				return len(pod.Spec.SchedulingGates) == 0
			}
			s.clock.SetTime(noon.Add(strayAfter - time.Second))
			s.pass()
			s.pass()
			if let() {
				t.Error("it was let go when it was young")
			}
			s.clock.SetTime(noon.Add(time.Hour))
			s.pass()
			if let() != row.want {
				t.Errorf("it was let go: %t, want %t", let(), row.want)
			}
		})
	}
}
