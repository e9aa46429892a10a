package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/crew"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// grouped is a Crew with a pool of its name, and what the provider and the controller of Crews do for it.
type grouped struct{ *scene }

// groups is what a user sees of it.
type groups struct {
	workload *member.Workload
	member   *v1alpha1.EnsembleMember
	// running are the numbers of pods that run, by their groups.
	running map[string]int
	// ip is the address of one that runs, empty for none.
	ip string
}

func newGrouped(t *testing.T, name string, of ...crew.Group) *grouped {
	t.Helper()
	if _, err := envtest.InstallCRDs(
		cluster.Config, envtest.CRDInstallOptions{MaxTime: time.Minute, CRDs: []*apiextensionsv1.CustomResourceDefinition{crew.Definition()}},
	); err != nil {
		t.Fatal(err)
	}
	pool := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 8, ProvisionTimeout: metav1.Duration{Duration: time.Hour},
			Template: v1alpha1.NodeTemplate{Capacity: capacity()},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	object := crew.New(corev1.NamespaceDefault, name, name, of...)
	if err := errors.Join(cluster.Client.Create(t.Context(), pool), cluster.Client.Create(t.Context(), object)); err != nil {
		t.Fatal(err)
	}
	return &grouped{&scene{T: t, key: types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: name}}}
}

func (x *grouped) memberKey() types.NamespacedName {
	return types.NamespacedName{Namespace: x.key.Namespace, Name: member.Name(crew.Kind{}, x.key.Name)}
}

// look reads everything, and does what the provider and the controller of Crews do.
func (x *grouped) look(ctx context.Context) (*groups, error) {
	g := &groups{member: &v1alpha1.EnsembleMember{}, running: map[string]int{}}
	if err := cluster.Client.Get(ctx, x.memberKey(), g.member); client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err := errors.Join(x.provide(ctx, &seen{member: g.member}), x.operate(ctx)); err != nil {
		return nil, err
	}
	object := crew.Reference(x.key.Namespace, x.key.Name)
	if err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
		return nil, err
	}
	var err error
	if g.workload, err = (crew.Kind{}).Parse(object); err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := cluster.Client.List(ctx, &pods, client.InNamespace(x.key.Namespace)); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Labels[v1alpha1.LabelMember] != g.member.Name || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
			continue
		}
		group, _ := crew.Kind{}.Place(pod.Labels, 0)
		g.running[group]++
		g.ip = pod.Status.PodIP
	}
	return g, nil
}

// operate gives the Jobs of the Crew its sizes.
func (x *grouped) operate(ctx context.Context) error {
	object := crew.Reference(x.key.Namespace, x.key.Name)
	if err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
		return err
	}
	jobs, err := crew.Jobs(object, []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")},
	}}})
	if err != nil {
		return err
	}
	for _, job := range jobs {
		size, now := job.Spec.Parallelism, &batchv1.Job{}
		switch err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(job), now); {
		case apierrors.IsNotFound(err):
			if err := cluster.Client.Create(ctx, job); client.IgnoreAlreadyExists(err) != nil {
				return err
			}
		case err != nil:
			return err
		case *now.Spec.Parallelism != *size:
			now.Spec.Parallelism, now.Spec.Completions = size, size
			if err := cluster.Client.Update(ctx, now); err != nil && !apierrors.IsConflict(err) {
				return err
			}
		}
	}
	return nil
}

// comes waits until it has sizes, each with a node, and all of its pods run.
func (x *grouped) comes(sizes string, alive func()) *groups {
	x.Helper()
	var last *groups
	inprocess.Until(x.T, func(ctx context.Context) (string, error) {
		if alive != nil {
			alive()
		}
		g, err := x.look(ctx)
		if err != nil {
			return "", err
		}
		last = g
		running := member.Sizes{}
		for group, count := range g.running {
			running[group] = int32(count)
		}
		m := g.member
		switch {
		case g.workload.Sizes().String() != sizes || !g.workload.Applied.Same(g.workload.Sizes()):
			return fmt.Sprintf("the sizes are %s, and %s are the controller's: %s", g.workload.Sizes(), g.workload.Applied, message(m)), nil
		case running.String() != sizes:
			return fmt.Sprintf("%s run: %s", running, message(m)), nil
		case !ready(m) || m.Status.Growth != nil || held(m) != int(running.Sum()) || m.Status.Size != running.Sum():
			return fmt.Sprintf("the member holds %d nodes: %s", held(m), message(m)), nil
		}
		return "", nil
	})
	return last
}

// desireOf sets the desired size of a group.
func (x *grouped) desireOf(group string, size int32) {
	x.Helper()
	m := &v1alpha1.EnsembleMember{}
	if err := cluster.Client.Get(x.Context(), x.memberKey(), m); err != nil {
		x.Fatal(err)
	}
	before := m.DeepCopy()
	v1alpha1.SetGroupSize(m, group, size)
	if err := cluster.Client.Patch(x.Context(), m, client.MergeFrom(before)); err != nil {
		x.Fatal(err)
	}
}

// TestGroups: a workload with several groups of pods starts, is asked for more of one of them by name, grows, shrinks, and has each size
// written as the controller's, by a controller that is killed and started again meanwhile.
// It is not parallel: two controllers would do each other's work.
func TestGroups(t *testing.T) {
	x := newGrouped(t, "groups", crew.Group{Name: "leader", Size: 1, Max: 1}, crew.Group{Name: "workers", Size: 2, Max: 6, Unit: 2})
	begin := func(most int64) *process {
		return startKinds(t, most, endpoint.Rate{}, member.Kinds{minicluster.Kind{}, crew.Kind{}})
	}
	p := begin(-1)
	defer func() { p.Stop() }()
	g := x.comes("leader=1,workers=2", nil)
	for group, want := range map[string]string{"leader": "1 1 1", "workers": "2 2 2"} {
		if of := v1alpha1.RecordOf(g.member, group); fmt.Sprint(of.Size, of.Nodes, of.Running) != want {
			t.Errorf("group %s is %+v, want size, nodes and pods %s", group, of, want)
		}
	}

	ask := func(payload string) *ensemble.Response {
		t.Helper()
		request := &ensemble.ActionRequest{Member: "crew", Name: x.key.Name, Action: "grow", Payload: payload}
		response, err := p.server.RequestAction(from(t.Context(), g.ip), request)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	if r := ask(`{"grow":1,"group":"example.com","version":"v1"}`); r.GetStatus() != ensemble.Response_DENIED ||
		!strings.Contains(r.GetPayload(), "has several groups of pods, leader, workers, and the payload does not name one") {
		t.Errorf("a request that names no group is answered with %s", r)
	}
	if r := ask(`{"grow":1,"group":"others"}`); r.GetStatus() != ensemble.Response_ERROR ||
		!strings.Contains(r.GetPayload(), "the groups of pods are leader, workers") {
		t.Errorf("one that names another is answered with %s", r)
	}
	if r := ask(`{"grow":1,"group":"leader"}`); r.GetStatus() != ensemble.Response_DENIED ||
		!strings.Contains(r.GetPayload(), "the desired size is 1 already, which is max of group leader of the Crew") {
		t.Errorf("one for more than there may be is answered with %s", r)
	}
	if r := ask(`{"grow":1,"group":"workers"}`); r.GetStatus() != ensemble.Response_SUCCESS ||
		!strings.Contains(r.GetPayload(), `"group":"workers","from":2,"wants":4,"has":2`) {
		t.Errorf("one for a worker is answered with %s", r)
	}
	x.comes("leader=1,workers=4", nil)

	// The controller dies before one of its writes, and another one goes on from there.
	for most := range int64(7) {
		p.Stop()
		p = begin(most)
		size := []int32{6, 2}[most%2]
		x.desireOf("workers", size)
		x.comes(fmt.Sprintf("leader=1,workers=%d", size), func() {
			if p.Killed() {
				p.Stop()
				p = begin(-1)
			}
		})
	}
	if err := cluster.Client.Delete(t.Context(), crew.Reference(x.key.Namespace, x.key.Name)); err != nil {
		t.Fatal(err)
	}
}
