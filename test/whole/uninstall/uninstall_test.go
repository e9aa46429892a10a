package uninstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestDeployAndUndeploy: what make deploy brings make undeploy takes away, all of it and nothing else. Both may be repeated. A
// cluster that gets to Kubernetes 1.36 has the policy that gives pods their gate from the next make deploy on, and no webhook. Where
// an earlier version has left KwokMachines nothing is deployed; where it has left their definition alone, that goes.
func TestDeployAndUndeploy(t *testing.T) {
	t.Parallel()
	plane := controlplanetest.Start(t, controlplane.Options{Parts: controlplane.All})
	config := plane.AdminConfig()
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	kubectl, err := plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{kubectl: kubectl, kubeconfig: filepath.Join(plane.Directory(), "admin.kubeconfig"), config: config}
	if c.client, err = client.New(config, client.Options{Scheme: scheme, HTTPClient: transport}); err != nil {
		t.Fatal(err)
	}
	if err := controlplane.WriteKubeconfig(c.kubeconfig, config); err != nil {
		t.Fatal(err)
	}
	c.addNode(t)
	before := c.everythingOfNew(t)
	c.former(t)

	const (
		overlay = "MANIFESTS=manifests/overlays/pod-webhook"
		webhook = "MutatingWebhookConfiguration.admissionregistration.k8s.io /ensemble-autoscaler-gates"
		policy  = "MutatingAdmissionPolicy.admissionregistration.k8s.io /ensemble-autoscaler-gates"
	)
	if said := c.must(
		t, "deploy", "KUBECTL="+c.older(t),
	); !strings.Contains(said, "manifests/overlays/pod-webhook: Kubernetes v1.35.4 serves no MutatingAdmissionPolicies") {
		t.Error("it does not say why it chose the overlay")
	}
	if _, err := c.formerMachines(t); !apierrors.IsNotFound(err) {
		t.Errorf("the definition of KwokMachines is there (%v)", err)
	}
	if installed := c.everything(t); !installed.Has(webhook) || installed.Has(policy) {
		t.Errorf("with the overlay the webhook is there: %t, the policy: %t", installed.Has(webhook), installed.Has(policy))
	}
	c.must(t, "undeploy", overlay)
	if left := c.everything(t).Difference(before); left.Len() > 0 {
		t.Errorf("of the overlay these are left:\n  %s", strings.Join(sets.List(left), "\n  "))
	}
	if said := c.must(t, "deploy", overlay); !strings.Contains(said, "manifests/overlays/pod-webhook: MANIFESTS says so") {
		t.Error("it does not say why it chose the overlay that it was told")
	}

	const image = "images.example:5000/ensemble-autoscaler@sha256:0123"
	if said := c.must(t, "deploy", "IMAGE="+image); !strings.Contains(said, " serves MutatingAdmissionPolicies") {
		t.Error("it does not say why it chose the manifests")
	}
	for _, name := range []string{"provider", "controller"} {
		var deployment appsv1.Deployment
		if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: system.Namespace, Name: name}, &deployment); err != nil {
			t.Fatal(err)
		}
		if is := deployment.Spec.Template.Spec.Containers[0].Image; is != image {
			t.Errorf("%s has the image %s", name, is)
		}
	}
	installed := c.everything(t)
	if installed.Has(webhook) {
		t.Error("the webhook is there beside the policy")
	}
	for _, name := range []string{
		policy,
		"CustomResourceDefinition.apiextensions.k8s.io /nodepools.autoscaling.flux-framework.org",
		"ValidatingWebhookConfiguration.admissionregistration.k8s.io /ensemble-autoscaler",
		"Deployment.apps ensemble-autoscaler-system/controller", "Deployment.apps ensemble-autoscaler-system/provider",
	} {
		if !installed.Has(name) {
			t.Errorf("make deploy did not bring %s", name)
		}
	}
	c.must(t, "deploy")

	c.must(t, "undeploy")
	if left := c.everything(t).Difference(before); left.Len() > 0 {
		t.Errorf("these are left:\n  %s", strings.Join(sets.List(left), "\n  "))
	}
	if missing := before.Difference(c.everything(t)); missing.Len() > 0 {
		t.Errorf("these were not ours:\n  %s", strings.Join(sets.List(missing), "\n  "))
	}
	c.must(t, "undeploy")

	// The chart brings the same, and a release leaves nothing behind either.
	h := helm.New(t, c.kubeconfig)
	if _, err := h.Run(
		t.Context(), "install", "release", "../../../manifests/chart", "--namespace", system.Namespace, "--create-namespace", "--wait",
		"--timeout", patience.String(),
	); err != nil {
		t.Fatal(err)
	}
	release := "Secret. " + system.Namespace + "/sh.helm.release.v1.release.v1"
	if charted := c.everything(t); !charted.Has(release) || len(ofOurs(charted)) != len(ofOurs(installed))+1 {
		t.Errorf("the chart brought something else than make deploy (deploy, chart):\n  %s",
			strings.Join(sets.List(sets.New(ofOurs(charted)...).SymmetricDifference(sets.New(ofOurs(installed)...))), "\n  "))
	}
	c.must(t, "undeploy")
	if left := c.everything(t).Difference(before); left.Len() > 0 {
		t.Errorf("of the chart these are left:\n  %s", strings.Join(sets.List(left), "\n  "))
	}
}

// older writes a kubectl to which the cluster is one of Kubernetes 1.35, and returns its path.
func (c *cluster) older(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubectl")
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in
'get --raw /version') echo '{"major": "1", "minor": "35", "gitVersion": "v1.35.4"}' ;;
'get --raw /apis/admissionregistration.k8s.io/v1') exec '%[1]s' "$@" | sed 's/mutatingadmissionpolic/others/g' ;;
*) exec '%[1]s' "$@" ;;
esac
`, c.kubectl)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// former leaves the definition of KwokMachines behind, after it has seen that with one of them nothing is deployed.
func (c *cluster) former(t *testing.T) {
	t.Helper()
	c.apply(t, "crd/autoscaling.flux-framework.org_kwokmachines.yaml", 1)
	c.apply(t, "objects/kwokmachine.yaml", 2)
	before := c.everything(t)
	said, err := c.run(t, "deploy")
	if err == nil {
		t.Error("there are KwokMachines, and make deploy went on")
	}
	for _, part := range []string{
		"There are 2 KwokMachines, the simulated machines of an earlier version, and this version does not take them over.",
		"make undeploy of the version that is installed", "delete the NodePools", "This run has changed nothing.",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q", part)
		}
	}
	if changed := c.everything(t).SymmetricDifference(before); changed.Len() > 0 {
		t.Errorf("it was refused, and these have come or gone:\n  %s", strings.Join(sets.List(changed), "\n  "))
	}
	machines, err := c.formerMachines(t)
	if err != nil {
		t.Fatal(err)
	}
	for i := range machines {
		if err := c.client.Delete(t.Context(), &machines[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// apply creates the objects of a file of an earlier version. Its definitions may take a moment.
func (c *cluster) apply(t *testing.T, path string, count int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "upgrade", "testdata", "v1alpha1-2026-11", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := system.Objects(text)
	if err != nil || len(objects) != count {
		t.Fatalf("%s has %d objects, not %d (%v)", path, len(objects), count, err)
	}
	for _, object := range objects {
		until(t, func(ctx context.Context) (string, error) { return reason(c.client.Create(ctx, object.DeepCopy())), nil })
	}
}

// formerMachines are the KwokMachines that there are.
func (c *cluster) formerMachines(t *testing.T) ([]metav1.PartialObjectMetadata, error) {
	t.Helper()
	definition := &metav1.PartialObjectMetadata{}
	definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := c.client.Get(t.Context(), client.ObjectKey{Name: "kwokmachines." + v1alpha1.Group}, definition); err != nil {
		return nil, err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("KwokMachineList"))
	err := c.client.List(t.Context(), list)
	return list.Items, err
}

// work are MiniClusters, the one of an Ensemble among them.
var work = []string{"demo", "hello-world-0"}

// TestUndeployWithRunningWork: who uninstalls while MiniClusters run is told so, and nothing happens. Who insists keeps
// every pod on its node, whatever waited for nodes is scheduled, and nothing that is ours is left.
func TestUndeployWithRunningWork(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.applyExamples(t, "minicluster", "ensemble-hello-world")
	until(t, func(ctx context.Context) (string, error) {
		pods, err := d.podsOf(ctx)
		if err != nil {
			return "", err
		}
		for _, name := range work {
			if len(pods[name]) != 2 {
				return fmt.Sprintf("%d of 2 pods of %s run", len(pods[name]), name), nil
			}
		}
		return "", nil
	})
	waiting := d.waitingPod(t)
	d.lingeringInstance(t)
	before, err := d.podsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := d.everything(t)

	said, err := d.run(t, "undeploy")
	if err == nil {
		t.Fatal("work was on the nodes, and make undeploy went on")
	}
	for _, part := range []string{
		"NodePool hpc-a has 4 pods on its nodes:", "default/demo-0-", " on hpc-a-", "This run has changed nothing.", "KEEP_NODES=1",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q", part)
		}
	}
	if missing := all.Difference(d.everything(t)); missing.Len() > 0 {
		t.Errorf("it was refused, and these are gone:\n  %s", strings.Join(sets.List(missing), "\n  "))
	}

	d.must(t, "undeploy", "KEEP_NODES=1")
	d.nothingOfOurs(t)
	after, err := d.podsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the pods were %v and are %v", before, after)
	}
	for _, name := range work {
		cluster := miniCluster(name)
		if err := d.Client.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster); err != nil || cluster.GetDeletionTimestamp() != nil {
			t.Errorf("MiniCluster %s was not left alone: %v", name, err)
		}
	}
	until(t, func(ctx context.Context) (string, error) {
		var pod corev1.Pod
		if err := d.Client.Get(ctx, client.ObjectKeyFromObject(waiting), &pod); err != nil {
			return "", err
		}
		if pod.Spec.NodeName == "" || pod.Status.Phase != corev1.PodRunning {
			return fmt.Sprintf(
				"the pod that waited has the gates %v and is %s on %q", pod.Spec.SchedulingGates, pod.Status.Phase, pod.Spec.NodeName,
			), nil
		}
		return "", nil
	})
	d.nodesAreNobodys(t)

	d.must(t, "undeploy", "KEEP_NODES=1")
	d.must(t, "undeploy")
}

// TestUndeployAfterWork: nodes that are held for pods which never came go, with the machines of all pools, before the
// provider does. The namespace stays for as long as somebody else works in it.
func TestUndeployAfterWork(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	// Without the Flux Operator no pod comes.
	if err := d.Operator.Kill(); err != nil {
		t.Fatal(err)
	}
	d.applyExamples(t, "minicluster")
	cluster := miniCluster("demo")
	until(t, func(ctx context.Context) (string, error) {
		var nodes corev1.NodeList
		if err := d.Client.List(ctx, &nodes, client.HasLabels{v1alpha1.LabelNodePool}); err != nil {
			return "", err
		}
		held := 0
		for i := range nodes.Items {
			if nodes.Items[i].Annotations[v1alpha1.AnnotationHeldBy] == "default/demo" {
				held++
			}
		}
		if held != 2 {
			return fmt.Sprintf("%d of 2 nodes are held", held), nil
		}
		return "", nil
	})
	waiting := d.waitingPod(t)
	guest := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace, Name: "guest"},
		Spec:       restricted(),
	}
	if err := d.Client.Create(t.Context(), guest); err != nil {
		t.Fatal(err)
	}

	// What a later step needs is missed before anything has changed.
	for _, missing := range []string{"CONTROLLER=false", "MANIFESTS=manifests/overlays/mistyped", "KUBECONFIG=" + d.withoutContext(t)} {
		said, err := d.run(t, "undeploy", missing)
		if err == nil || strings.Contains(said, "2/8") || !strings.Contains(said, "This run has changed nothing.") {
			t.Errorf("with %s it began (%v)", missing, err)
		}
	}

	// One that fails half-way leaves what comes later as it was, and is run again. That some other API is down is not in its way.
	if err := d.Apply(t.Context(), downAPI()); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "controller")
	if err := os.WriteFile(half, []byte("#!/bin/sh\n[ \"$1\" = --version ]\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if said, err := d.run(t, "undeploy", "CONTROLLER="+half); err == nil || !strings.Contains(said, "4/8") || strings.Contains(said, "5/8") {
		t.Errorf("the gates were not taken away, and it went on or did not get there (%v)", err)
	}
	member := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: "demo"}}
	if err := d.Client.Get(t.Context(), client.ObjectKeyFromObject(member), member); err != nil || !d.Provider.Running() {
		t.Errorf("it stopped half-way, and the provider or the reservations are gone (%v)", err)
	}

	said, err := d.run(t, "undeploy")
	if err == nil {
		t.Fatal("the namespace was deleted with a pod in it that is not ours")
	}
	for _, part := range []string{"EnsembleMember", `"hpc-a" deleted`, "The namespace ensemble-autoscaler-system stays", "pod/guest"} {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q", part)
		}
	}
	for _, kind := range []string{"poolmachine", "kwokinstance"} {
		if strings.Contains(said, kind+"."+v1alpha1.Group+"/") && strings.Contains(said, "patched") {
			t.Errorf("the provider ended before it had ended the machines: a %s was deleted by force", kind)
		}
	}
	var nodes corev1.NodeList
	if err := d.Client.List(t.Context(), &nodes, client.HasLabels{v1alpha1.LabelNodePool}); err != nil || len(nodes.Items) > 0 {
		t.Errorf("%d nodes of pools are left (%v)", len(nodes.Items), err)
	}
	if err := d.Client.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster); err != nil || cluster.GetDeletionTimestamp() != nil {
		t.Errorf("the MiniCluster was not left alone: %v", err)
	}
	if err := d.Client.Get(t.Context(), client.ObjectKeyFromObject(waiting), waiting); err != nil || len(waiting.Spec.SchedulingGates) > 0 {
		t.Errorf("the pod that waited has the gates %v (%v)", waiting.Spec.SchedulingGates, err)
	}

	// Kubernetes itself deletes no namespace while it cannot know all that may be in it.
	if err := errors.Join(
		d.Client.Delete(t.Context(), guest, client.GracePeriodSeconds(0)), d.Client.Delete(t.Context(), downAPI()),
	); err != nil {
		t.Fatal(err)
	}
	d.must(t, "undeploy")
	d.nothingOfOurs(t)
}

// applyExamples applies the pools of the examples, whose machines boot at once, and then other examples.
func (d *deployed) applyExamples(t *testing.T, names ...string) {
	t.Helper()
	pools, err := d.ObjectsOf("examples/nodepools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, pool := range pools {
		if err := unstructured.SetNestedField(pool.Object, "0s", "spec", "machines", "kwok", "bootDelay"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Apply(t.Context(), pools...); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		objects, err := d.ObjectsOf("examples/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		// The API server has the webhook's authority only when the controller has told it.
		until(t, func(ctx context.Context) (string, error) {
			return reason(d.Apply(ctx, objects...)), nil
		})
	}
}

// waitingPod creates a pod that waits for the controller as those of members do, and may run on the plain node.
func (d *deployed) waitingPod(t *testing.T) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceDefault, Name: "waiting", Labels: map[string]string{v1alpha1.LabelMember: "another"},
		},
		Spec: corev1.PodSpec{
			Containers:      []corev1.Container{{Name: "flux", Image: "ubuntu:noble"}},
			NodeSelector:    map[string]string{corev1.LabelHostname: "plain"},
			SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}},
		},
	}
	if err := d.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// lingeringInstance creates a machine of the simulated cloud that nobody asks to be let go of: only a finalizer keeps it.
func (d *deployed) lingeringInstance(t *testing.T) {
	t.Helper()
	instance := &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{Name: "lingering", Finalizers: []string{v1alpha1.Group + "/kwok-instance"}},
		Spec: v1alpha1.KwokInstanceSpec{
			NodePool: "hpc-a", ProviderID: "kwok://hpc-a/lingering", NodeName: "lingering", LaunchedAt: metav1.NowMicro(),
			Fate: v1alpha1.FateOutOfStock,
			Template: v1alpha1.NodeTemplate{
				Capacity: corev1.ResourceList{corev1.ResourceCPU: {}, corev1.ResourceMemory: {}, corev1.ResourcePods: {}},
			},
		},
	}
	if err := d.Client.Create(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
}

// restricted is a pod as the namespace's label wants it.
func restricted() corev1.PodSpec {
	return corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "guest", Image: "ubuntu:noble",
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}

// podsOf are the pods of MiniClusters that run, each with its node, by the name of the MiniCluster.
func (d *deployed) podsOf(ctx context.Context) (map[string][]string, error) {
	var pods corev1.PodList
	if err := d.Client.List(ctx, &pods, client.InNamespace(corev1.NamespaceDefault), client.HasLabels{"job-name"}); err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			name := pod.Labels["job-name"]
			found[name] = append(found[name], fmt.Sprintf("%s (%s) on %s", pod.Name, pod.UID, pod.Spec.NodeName))
		}
	}
	return found, nil
}

// nothingOfOurs checks that none of our objects is left, and that no pod has the gate.
func (d *deployed) nothingOfOurs(t *testing.T) {
	t.Helper()
	if left := ofOurs(d.everything(t)); len(left) > 0 {
		t.Errorf("these are left:\n  %s", strings.Join(left, "\n  "))
	}
	err := d.Client.Get(t.Context(), client.ObjectKey{Name: system.Namespace}, &corev1.Namespace{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the namespace is there (%v)", err)
	}
	if err := d.Client.List(t.Context(), &v1alpha1.NodePoolList{}); !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		t.Errorf("NodePools are served (%v)", err)
	}
	var pods corev1.PodList
	if err := d.Client.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		for _, gate := range pods.Items[i].Spec.SchedulingGates {
			t.Errorf("pod %s has the gate %s", client.ObjectKeyFromObject(&pods.Items[i]), gate.Name)
		}
	}
}

// nodesAreNobodys checks that nodes which stay are ordinary ones: nothing that is ours says anything to Cluster Autoscaler.
func (d *deployed) nodesAreNobodys(t *testing.T) {
	t.Helper()
	var nodes corev1.NodeList
	if err := d.Client.List(t.Context(), &nodes, client.HasLabels{v1alpha1.LabelNodePool}); err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 4 {
		t.Errorf("%d of 4 nodes are left", len(nodes.Items))
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		for name := range node.Annotations {
			if strings.HasPrefix(name, v1alpha1.Group) || name == v1alpha1.AnnotationScaleDownDisabled {
				t.Errorf("node %s has the annotation %s", node.Name, name)
			}
		}
		for _, taint := range node.Spec.Taints {
			if taint.Key == v1alpha1.TaintToBeDeleted {
				t.Errorf("node %s has the taint %s", node.Name, taint.Key)
			}
		}
	}
}

// downAPI is one that nobody serves.
func downAPI() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
		"metadata": map[string]any{"name": "v1.down.example.com"},
		"spec": map[string]any{
			"group": "down.example.com", "version": "v1", "groupPriorityMinimum": int64(1000), "versionPriority": int64(15),
			"insecureSkipTLSVerify": true,
			"service":               map[string]any{"namespace": corev1.NamespaceDefault, "name": "down"},
		},
	}}
}

func miniCluster(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("flux-framework.org/v1alpha2")
	u.SetKind("MiniCluster")
	u.SetNamespace(corev1.NamespaceDefault)
	u.SetName(name)
	return u
}
