package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// operator runs the stand-in on a control plane with the Job controller, whose pods stay unscheduled.
type operator struct {
	*testing.T
	client client.Client
}

func startOperator(t *testing.T) operator {
	t.Helper()
	plane := controlplanetest.Start(t, controlplane.Options{Parts: controlplane.ControllerManager})
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(crd.MiniClusters, definition); err != nil {
		t.Fatal(err)
	}
	_, err := envtest.InstallCRDs(
		plane.AdminConfig(), envtest.CRDInstallOptions{MaxTime: time.Minute, CRDs: []*apiextensionsv1.CustomResourceDefinition{definition}},
	)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, plane.AdminConfig()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"--kubeconfig=" + kubeconfig}, t.Output()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the operator ended with %v", err)
		}
	})
	transport, err := rest.HTTPClientFor(plane.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(plane.AdminConfig(), client.Options{HTTPClient: transport})
	if err != nil {
		t.Fatal(err)
	}
	return operator{T: t, client: c}
}

// create creates a MiniCluster; spec is the YAML of its spec without containers.
func (o operator) create(name, spec string) *unstructured.Unstructured {
	o.Helper()
	object := newMiniCluster()
	object.SetName(name)
	object.SetNamespace("default")
	var fields map[string]any
	if err := yaml.UnmarshalStrict([]byte(spec), &fields); err != nil {
		o.Fatal(err)
	}
	fields["containers"] = []any{map[string]any{"image": "flux", "runFlux": true}}
	object.Object["spec"] = fields
	if err := o.client.Create(o.Context(), object); err != nil {
		o.Fatal(err)
	}
	return object
}

// patch applies a merge patch in JSON to the spec of a MiniCluster.
func (o operator) patch(object *unstructured.Unstructured, spec string) {
	o.Helper()
	err := o.client.Patch(o.Context(), object, client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+spec+`}`)))
	if err != nil {
		o.Fatal(err)
	}
}

// state is what a user sees of a MiniCluster: its sizes, those of the Job, and the indexes of the pods.
func (o operator) state(ctx context.Context, name string) (string, error) {
	object := newMiniCluster()
	if err := o.client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, object); err != nil {
		return "", err
	}
	cluster, err := readMiniCluster(object)
	if err != nil {
		return "", err
	}
	job := &batchv1.Job{}
	if err := o.client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, job); err != nil {
		return "", err
	}
	pods := &corev1.PodList{}
	if err := o.client.List(ctx, pods, client.InNamespace("default"), client.MatchingLabels{labelHPA: name}); err != nil {
		return "", err
	}
	indexes := map[string]bool{}
	for _, pod := range pods.Items {
		indexes[pod.Labels["batch.kubernetes.io/job-completion-index"]] = true
	}
	return fmt.Sprintf("size %d/%d, maximum %d, job %d/%d, pods %v", cluster.Spec.Size, cluster.Status.Size, cluster.Status.MaximumSize,
		*job.Spec.Parallelism, *job.Spec.Completions, slices.Sorted(maps.Keys(indexes))), nil
}

// becomes waits until a MiniCluster has a state.
func (o operator) becomes(name, want string) {
	o.Helper()
	var last string
	o.eventually(func(ctx context.Context) (bool, error) {
		got, err := o.state(ctx, name)
		last = fmt.Sprint(got, " ", err)
		return err == nil && got == want, nil
	}, func() string { return "state is " + last + ", want " + want })
}

func (o operator) eventually(check wait.ConditionWithContextFunc, otherwise func() string) {
	o.Helper()
	if err := wait.PollUntilContextTimeout(o.Context(), 20*time.Millisecond, 5*time.Minute, true, check); err != nil {
		o.Fatalf("%v: %s", err, otherwise())
	}
}

func TestOperatorFollowsItsMiniClusters(t *testing.T) {
	o := startOperator(t)

	t.Run("a Job and pods, grown and shrunk", func(t *testing.T) {
		o := operator{t, o.client}
		object := o.create("demo", "{size: 2, minSize: 1, maxSize: 4, pod: {labels: {color: red}}}")
		// The size in the status is 0 until the first resize, as the real operator has it.
		o.becomes("demo", "size 2/0, maximum 4, job 2/2, pods [0 1]")
		o.patch(object, `{"size": 4}`)
		o.becomes("demo", "size 4/4, maximum 4, job 4/4, pods [0 1 2 3]")
		o.patch(object, `{"size": 1}`)
		o.becomes("demo", "size 1/1, maximum 4, job 1/1, pods [0]")

		job := &batchv1.Job{}
		if err := o.client.Get(t.Context(), client.ObjectKeyFromObject(object), job); err != nil {
			t.Fatal(err)
		}
		owner := metav1.GetControllerOf(job)
		if owner == nil || owner.Kind != "MiniCluster" || owner.UID != object.GetUID() {
			t.Errorf("controller of the Job is %v, want MiniCluster demo", owner)
		}
		service := &corev1.Service{}
		if err := o.client.Get(t.Context(), client.ObjectKeyFromObject(object), service); err != nil || service.Spec.ClusterIP != "None" {
			t.Errorf("service with cluster IP %q (%v), want a headless one named demo", service.Spec.ClusterIP, err)
		}
		if err := o.client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
		cluster, err := readMiniCluster(object)
		if err != nil {
			t.Fatal(err)
		}
		if cluster.Status.Selector != "hpa-selector=demo" {
			t.Errorf("selector %q, want hpa-selector=demo", cluster.Status.Selector)
		}
		for _, c := range cluster.Status.Conditions {
			if (c.Type == conditionReady) != (c.Status == metav1.ConditionTrue) {
				t.Errorf("condition %s is %s", c.Type, c.Status)
			}
		}
	})

	t.Run("a size outside the bounds changes nothing and stays in the spec", func(t *testing.T) {
		o := operator{t, o.client}
		object := o.create("bounds", "{size: 2, minSize: 2, maxSize: 4}")
		o.becomes("bounds", "size 2/0, maximum 4, job 2/2, pods [0 1]")
		// The operator takes MiniClusters in the order of their changes: when it has served a later one, it
		// has seen the size.
		o.patch(object, `{"size": 5}`)
		o.create("after-five", "{size: 1}")
		o.becomes("after-five", "size 1/0, maximum 1, job 1/1, pods [0]")
		o.becomes("bounds", "size 5/0, maximum 4, job 2/2, pods [0 1]")
		o.patch(object, `{"size": 3}`)
		o.becomes("bounds", "size 3/3, maximum 4, job 3/3, pods [0 1 2]")
		o.patch(object, `{"size": 1}`)
		o.create("after-one", "{size: 1}")
		o.becomes("after-one", "size 1/0, maximum 1, job 1/1, pods [0]")
		o.becomes("bounds", "size 1/3, maximum 4, job 3/3, pods [0 1 2]")
	})

	t.Run("above the maximum size it is written back", func(t *testing.T) {
		o := operator{t, o.client}
		object := o.create("fixed", "{size: 2}")
		o.becomes("fixed", "size 2/0, maximum 2, job 2/2, pods [0 1]")
		o.patch(object, `{"size": 5}`)
		o.becomes("fixed", "size 2/2, maximum 2, job 2/2, pods [0 1]")
		o.patch(object, `{"maxSize": 8, "size": 5}`)
		o.becomes("fixed", "size 2/2, maximum 2, job 2/2, pods [0 1]")
	})

	t.Run("every pod of the namespace gets the index label", func(t *testing.T) {
		o := operator{t, o.client}
		foreign := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web-7", Namespace: "default"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
		}
		if err := o.client.Create(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		o.eventually(func(ctx context.Context) (bool, error) {
			err := o.client.Get(ctx, client.ObjectKeyFromObject(foreign), foreign)
			return foreign.Labels[labelIndex] == "web", err
		}, func() string { return fmt.Sprintf("labels %v, want job-index=web", foreign.Labels) })
	})

	t.Run("with cleanup it goes when the lead broker has ended", func(t *testing.T) {
		o := operator{t, o.client}
		object := o.create("passing", "{size: 2, cleanup: true}")
		o.becomes("passing", "size 2/0, maximum 2, job 2/2, pods [0 1]")
		pods := &corev1.PodList{}
		if err := o.client.List(t.Context(), pods, client.InNamespace("default"),
			client.MatchingLabels{labelHPA: "passing", "batch.kubernetes.io/job-completion-index": "0"}); err != nil || len(pods.Items) != 1 {
			t.Fatalf("%d pods of index 0 (%v), want 1", len(pods.Items), err)
		}
		running := pods.Items[0].DeepCopy()
		pods.Items[0].Status.Phase = corev1.PodSucceeded
		if err := o.client.Status().Patch(t.Context(), &pods.Items[0], client.MergeFrom(running)); err != nil {
			t.Fatal(err)
		}
		o.eventually(func(ctx context.Context) (bool, error) {
			err := o.client.Get(ctx, client.ObjectKeyFromObject(object), object)
			return err != nil && client.IgnoreNotFound(err) == nil, client.IgnoreNotFound(err)
		}, func() string { return "the MiniCluster is still there" })
	})
}

func TestOperatorWithoutAClusterSaysWhichKubeconfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	if _, err := os.Stat(path); err == nil {
		t.Fatal("the file is there")
	}
	err := run(t.Context(), []string{"--kubeconfig", path}, t.Output())
	if err == nil {
		t.Fatal("no error")
	}
	if want := fmt.Sprintf("--kubeconfig %q", path); len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
		t.Errorf("error %v, want one that begins with %s", err, want)
	}
}
