package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/plugin"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// server is the API server of all tests here. TestMain sets it once.
var server inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &server, 0) }

// desk is a user at a terminal, in a namespace that no other test uses, with pools that none uses either.
type desk struct {
	namespace, kubeconfig string
}

// newDesk is a user with the rights of a configuration.
func newDesk(t testing.TB, config *rest.Config) *desk {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "desk-"}}
	create(t, namespace)
	d := &desk{namespace: namespace.Name, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := controlplane.WriteKubeconfig(d.kubeconfig, config); err != nil {
		t.Fatal(err)
	}
	return d
}

// as is the same desk with other rights.
func (d *desk) as(t testing.TB, user string) *desk {
	t.Helper()
	config, err := server.Plane.UserConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(path, config); err != nil {
		t.Fatal(err)
	}
	return &desk{namespace: d.namespace, kubeconfig: path}
}

// run runs the program as main does.
func (d *desk) run(t testing.TB, arguments ...string) (out string, err error) {
	t.Helper()
	return d.raw(t, append(arguments, "--kubeconfig", d.kubeconfig, "--namespace", d.namespace, "--autoscaler-namespace", d.namespace)...)
}

// raw is run without the flags of the desk.
func (*desk) raw(t testing.TB, arguments ...string) (out string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := plugin.New(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &stdout, ErrOut: &stderr}, version)
	cmd.SetArgs(arguments)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String() + stderr.String(), err
}

// must is run that may not fail.
func (d *desk) must(t testing.TB, arguments ...string) string {
	t.Helper()
	out, err := d.run(t, arguments...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", arguments, err, out)
	}
	return out
}

// allowed is must for a user who has just been given rights: the API server learns of them by watching.
func (d *desk) allowed(t testing.TB, arguments ...string) (out string) {
	t.Helper()
	inprocess.Until(t, func(context.Context) (string, error) {
		said, refusal := d.run(t, arguments...)
		out = said
		missing := ""
		if refusal != nil {
			missing = refusal.Error()
		}
		return missing, nil
	})
	return out
}

// says checks that a text has all parts.
func says(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

// refused checks that an error has all parts.
func refused(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	says(t, err.Error(), parts...)
}

// create creates an object for the time of the test, with its status.
func create(t testing.TB, object client.Object) {
	t.Helper()
	wanted, is := object.DeepCopyObject().(client.Object)
	if !is {
		t.Fatalf("%T is no object", object)
	}
	if err := server.Client.Create(t.Context(), object); err != nil {
		t.Fatalf("create %T %s: %v", object, wanted.GetName(), err)
	}
	switch wanted.(type) {
	case *v1alpha1.EnsembleMember, *v1alpha1.NodePool, *v1alpha1.PoolMachine, *corev1.Node, *corev1.Pod:
		wanted.SetName(object.GetName())
		wanted.SetResourceVersion(object.GetResourceVersion())
		wanted.SetUID(object.GetUID())
		if err := server.Client.Status().Update(t.Context(), wanted); err != nil {
			t.Fatalf("write the status of %T %s: %v", object, wanted.GetName(), err)
		}
	}
	t.Cleanup(func() {
		// The context of the test has ended by now.
		if err := client.IgnoreNotFound(server.Client.Delete(context.Background(), object)); err != nil {
			t.Error(err)
		}
	})
}

// conditions are those of a member: the first open one with its reason and message, those before it True.
func conditions(open, reason, message string) []metav1.Condition {
	var all, out []metav1.Condition
	for _, kind := range []string{
		v1alpha1.ConditionCapacityReserved, v1alpha1.ConditionCapacityReady, v1alpha1.ConditionResized, v1alpha1.ConditionPodsRunning,
	} {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: kind, Message: kind}
		if kind == open {
			c.Status, c.Reason, c.Message = metav1.ConditionFalse, reason, message
		}
		all = append(all, c)
	}
	v1alpha1.SetConditions(&out, 1, metav1.NewTime(time.Now()), "all pods run", all...)
	return out
}

// member is one that waits for the nodes of a pool.
func (d *desk) member(name, pool string) *v1alpha1.EnsembleMember {
	return &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: name},
		Spec:       v1alpha1.EnsembleMemberSpec{Size: 8, MinSize: 2, MaxSize: 10, NodePools: []string{pool}},
		Status: v1alpha1.EnsembleMemberStatus{
			ObservedGeneration: 1, Size: 2, Reserved: 8, Nodes: 2, Running: 2, Pools: pool + " 8",
			Reservations: []v1alpha1.Reservation{{NodePool: pool, Nodes: 8}},
			Growth:       &v1alpha1.Growth{From: 2, Size: 8, Since: metav1.NewMicroTime(time.Now().Add(-time.Minute))},
			Conditions: conditions(v1alpha1.ConditionCapacityReady, v1alpha1.ReasonWaitingForNodes,
				"2 of 8 nodes are Ready in "+pool+"; the others have until 2026-11-23T12:14:00Z"),
		},
	}
}

// gated is a pod of a member that waits behind its gate.
func (d *desk) gated(member string, rank int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: fmt.Sprintf("%s-%d", member, rank), Labels: map[string]string{
			v1alpha1.LabelMember: member, "batch.kubernetes.io/job-name": member,
		}},
		Spec: corev1.PodSpec{
			Containers:      []corev1.Container{{Name: "flux", Image: "ubuntu"}},
			SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}},
		},
	}
}

func template() v1alpha1.NodeTemplate {
	return v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}}
}

// pool is one with a floor of 8 machines, of which two are Ready.
func pool(name string, target int32) *v1alpha1.NodePool {
	p := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 10, Replicas: target, Template: template(), ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
		Status: v1alpha1.NodePoolStatus{ObservedGeneration: 1, Floor: 8, Reserved: 8, Replicas: target, Ready: 2},
	}
	met := metav1.Condition{Type: v1alpha1.ConditionFloorMet, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFloorMet, Message: "met"}
	if target < 8 {
		met.Status, met.Reason = metav1.ConditionFalse, v1alpha1.ReasonFloorNotMet
		met.Message = fmt.Sprintf("the target size %d is below the floor 8", target)
	}
	// It has been so for longer than Cluster Autoscaler needs.
	v1alpha1.SetConditions(&p.Status.Conditions, 1, metav1.NewTime(time.Now().Add(-5*time.Minute)), "at rest", met)
	return p
}

// machine is one that boots.
func machine(pool string, number int) *v1alpha1.PoolMachine {
	return &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", pool, number), Labels: map[string]string{v1alpha1.LabelNodePool: pool}},
		Spec: v1alpha1.PoolMachineSpec{
			NodePool: pool, Purpose: v1alpha1.PurposeReservation, Order: v1alpha1.MachineOrder{ID: "floor", Size: 1},
			OrderedAt: metav1.NewMicroTime(time.Now().Add(-40 * time.Second)), TemplateHash: "x", Template: template(),
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
		Status: v1alpha1.PoolMachineStatus{Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonMachineBooting,
			LastTransitionTime: metav1.NewTime(time.Now()),
		}}},
	}
}

// autoscaler is the status of a Cluster Autoscaler that has just looked.
func (d *desk) autoscaler(pool string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: cluster.StatusConfigMap},
		Data: map[string]string{"status": `time: ` + time.Now().UTC().Format("2006-01-02 15:04:05.999999999 -0700 MST") + `
autoscalerStatus: Running
clusterWide:
  health: {status: Healthy}
nodeGroups:
- name: ` + pool + `
  health: {status: Healthy, cloudProviderTarget: 2, minSize: 8, maxSize: 10}
  scaleUp:
    status: Backoff
    backoffInfo: {errorCode: QUOTA_EXCEEDED, errorMessage: no quota}
    lastTransitionTime: "2026-11-23T12:00:00Z"
  scaleDown: {status: NoCandidates}
`},
	}
}

// allow binds rules to a user, in the namespace of a desk, or everywhere with "".
func allow(t testing.TB, user, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	if namespace == "" {
		create(t, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules})
		create(t, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user}, Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		})
		return
	}
	create(t, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: user}, Rules: rules})
	create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: user}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
	})
}
