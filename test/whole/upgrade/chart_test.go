package upgrade

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

const chart = "../../../manifests/chart"

// TestChartUpgrade: a release of a chart with older definitions is upgraded. The definitions are those of now, objects stay as they were,
// and so does what the programs have written into objects of the release. With KwokMachines there the upgrade is refused. Uninstalling
// leaves the objects, and a release may take over what kubectl has applied.
func TestChartUpgrade(t *testing.T) {
	t.Parallel()
	plane := controlplanetest.Start(t, controlplane.Options{})
	c, _ := connect(t, plane.AdminConfig())
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, plane.AdminConfig()); err != nil {
		t.Fatal(err)
	}
	h := helm.New(t, kubeconfig)
	notes := ""
	run := func(verb, chart string, more ...string) (err error) {
		notes, err = h.Run(t.Context(), append([]string{verb, "release", chart, "--namespace", system.Namespace, "--create-namespace",
			"--set", "clusterAutoscaler.namespace=kube-system"}, more...)...)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	release := filepath.Join("testdata", "v1alpha1-2026-11")
	before, now := definitions(t, filepath.Join(release, "crd")), definitions(t, filepath.Join("..", "..", "..", "manifests", "crd"))
	if err := c.Create(
		t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}},
	); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	must(run("install", previous(t, release)))
	written := read(t, filepath.Join(release, "objects"), before, now)
	for _, object := range written {
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			err := c.Create(ctx, object.Unstructured, strict)
			if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
				return err.Error(), nil // The definition is not served yet.
			}
			return "", err
		})
	}

	err := run("upgrade", chart)
	if err == nil || !strings.Contains(err.Error(), "there are 2 KwokMachines") || !strings.Contains(err.Error(), "delete their NodePools") {
		t.Fatalf("there are KwokMachines, and the upgrade says: %v", err)
	}
	written = slices.DeleteFunc(written, func(object *golden) bool {
		if object.GetKind() == former {
			must(c.Delete(t.Context(), object.Unstructured))
		}
		return object.GetKind() == former
	})
	must(run("upgrade", chart))
	for _, part := range []string{
		"gate by a MutatingAdmissionPolicy.", "for the provider, in kube-system", "address: provider.ensemble-autoscaler-system.svc:8086",
	} {
		if !strings.Contains(notes, part) {
			t.Errorf("the notes do not say %q:\n%s", part, notes)
		}
	}
	defined(t, c, now)
	var deployment appsv1.Deployment
	must(c.Get(t.Context(), client.ObjectKey{Namespace: system.Namespace, Name: "provider"}, &deployment))
	if image := deployment.Spec.Template.Spec.Containers[0].Image; image == "ensemble-autoscaler:v0.0.9" {
		t.Errorf("the provider is %s as before", image)
	}

	// What the programs write.
	var webhooks admissionregistrationv1.ValidatingWebhookConfiguration
	must(c.Get(t.Context(), client.ObjectKey{Name: "ensemble-autoscaler"}, &webhooks))
	for i := range webhooks.Webhooks {
		webhooks.Webhooks[i].ClientConfig.CABundle = plane.AdminConfig().CAData
	}
	must(c.Update(t.Context(), &webhooks))
	var secret corev1.Secret
	certificate := client.ObjectKey{Namespace: "kube-system", Name: "cluster-autoscaler-provider-tls"}
	must(c.Get(t.Context(), certificate, &secret))
	secret.Data = map[string][]byte{corev1.TLSCertKey: []byte("certificate")}
	must(c.Update(t.Context(), &secret))
	must(run("upgrade", chart, "--set", "provider.replicas=3"))
	must(errors.Join(c.Get(t.Context(), client.ObjectKeyFromObject(&webhooks), &webhooks), c.Get(t.Context(), certificate, &secret),
		c.Get(t.Context(), client.ObjectKeyFromObject(&deployment), &deployment)))
	if len(webhooks.Webhooks) == 0 || len(
		webhooks.Webhooks[0].ClientConfig.CABundle,
	) == 0 || string(secret.Data[corev1.TLSCertKey]) != "certificate" {
		t.Errorf("an upgrade takes away what the controller and the provider have written: %+v, %v", webhooks.Webhooks, secret.Data)
	}
	if *deployment.Spec.Replicas != 3 {
		t.Errorf("the provider has %d replicas", *deployment.Spec.Replicas)
	}

	_, err = h.Run(t.Context(), "uninstall", "release", "--namespace", system.Namespace)
	must(err)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(&deployment), &deployment); !apierrors.IsNotFound(err) {
		t.Errorf("uninstalled, the provider is there (%v)", err)
	}
	defined(t, c, now)

	// What somebody has applied before there was a chart.
	kubectl, err := plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	apply := exec.CommandContext(
		t.Context(), kubectl, "--kubeconfig="+kubeconfig, "apply", "--server-side", "--force-conflicts", "-k", "../../../manifests",
	)
	if said, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if err := run("install", chart); err == nil || !strings.Contains(err.Error(), "cannot be imported into the current release") {
		t.Errorf("there is what Helm has not installed, and it says: %v", err)
	}
	// Helm applies on the server, where the fields of who has applied before are not taken without being told to.
	must(run("install", chart, "--take-ownership", "--force-conflicts"))
	defined(t, c, now)
	for _, object := range written {
		if is := object.read(t, c); is.GetResourceVersion() != object.GetResourceVersion() || is.GetUID() != object.GetUID() {
			t.Errorf("%s was written, or made again", name(object.Unstructured))
		}
	}
}

// previous makes a chart of a version before, with the definitions of a release and without the webhooks, so that objects can be written
// with no controller there.
func previous(t *testing.T, release string) string {
	t.Helper()
	directory := t.TempDir()
	link := func(path, from string) {
		from, err := filepath.Abs(from)
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(directory, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(from, path)); err != nil {
			t.Fatal(err)
		}
	}
	entries := func(path string) []os.DirEntry {
		found, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, entry := range entries(chart) {
		if name := entry.Name(); name != "files" && name != "Chart.yaml" {
			link(name, filepath.Join(chart, name))
		}
	}
	for _, entry := range entries(filepath.Join(chart, "files")) {
		if name := entry.Name(); name != "crd" && name != "controller" {
			link("files/"+name, filepath.Join(chart, "files", name))
		}
	}
	for _, entry := range entries(filepath.Join(chart, "files", "controller")) {
		if name := entry.Name(); name != "admission.yaml" {
			link("files/controller/"+name, filepath.Join(chart, "files", "controller", name))
		}
	}
	link("files/crd", filepath.Join(release, "crd"))
	about := "apiVersion: v2\nname: ensemble-autoscaler\nversion: 0.0.9\nappVersion: v0.0.9\n"
	if err := os.WriteFile(filepath.Join(directory, "Chart.yaml"), []byte(about), 0o600); err != nil {
		t.Fatal(err)
	}
	return directory
}

// defined checks that the definitions are those that are given, and are not for Helm to delete.
func defined(t *testing.T, c client.Client, want map[string]*apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	for kind, definition := range want {
		var is apiextensionsv1.CustomResourceDefinition
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(definition), &is); err != nil {
			t.Error(err)
			continue
		}
		if !equality.Semantic.DeepEqual(is.Spec.Versions[0].Schema, definition.Spec.Versions[0].Schema) {
			t.Errorf("the definition of %s is not the one of the chart", kind)
		}
		if is.Annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("Helm may delete the definition of %s", kind)
		}
	}
}
