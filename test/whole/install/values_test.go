package install

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
)

// property is what the schema says of a value.
type property struct {
	Description string              `json:"description"`
	Properties  map[string]property `json:"properties"`
}

// TestEveryValue: values.yaml has each value of the schema and no other, testdata/every.yaml sets each to another one, the API server
// takes what the chart makes of these, and each is where it belongs.
func TestEveryValue(t *testing.T) {
	t.Parallel()
	var schema property
	var defaults, every map[string]any
	text := func(path string) []byte {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	if err := errors.Join(json.Unmarshal(text(filepath.Join(chart, "values.schema.json")), &schema),
		yaml.UnmarshalStrict(
			text(filepath.Join(chart, "values.yaml")), &defaults,
		), yaml.UnmarshalStrict(text("testdata/every.yaml"), &every)); err != nil {
		t.Fatal(err)
	}
	delete(schema.Properties, "global") // of the chart that this one is a part of
	compareValues(t, "", &schema, defaults, every)

	h := helm.New(t, "")
	const in = "hpc"
	rendered, err := h.Run(
		t.Context(), "template", "release", chart, "--namespace", in, "--kube-version", "1.35.0", "--values", "testdata/every.yaml",
	)
	if err != nil {
		t.Fatal(err)
	}
	got := objects(t, []byte(rendered))
	c := connect(t)
	for _, name := range []string{in, "fleet", "autoscaling"} {
		if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	for name, object := range got {
		if object.GetKind() == "Namespace" {
			continue
		}
		if err := c.Create(
			t.Context(), object.DeepCopy(), client.DryRunAll, client.FieldValidation("Strict"),
		); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Errorf("the API server says of %s: %v", name, err)
		}
	}
	for _, name := range []string{"provider", "controller"} {
		checkDeployment(t, got["Deployment "+in+"/"+name], name)
	}
	for _, name := range []string{
		"Namespace /" + in, "MutatingWebhookConfiguration /ensemble-autoscaler-gates", "Role fleet/ensemble-autoscaler-machines",
		"ClusterRole /ensemble-autoscaler-provider-karpenter", "ClusterRole /ensemble-autoscaler-metrics-auth",
	} {
		if got[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for name, object := range got {
		switch object.GetKind() {
		case "CustomResourceDefinition", "NetworkPolicy", "FlowSchema", "PriorityLevelConfiguration", "MutatingAdmissionPolicy", "Secret":
			t.Errorf("there is %s", name)
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			var configuration admissionregistrationv1.MutatingWebhookConfiguration
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &configuration); err != nil {
				t.Fatal(err)
			}
			if len(configuration.Webhooks) == 0 || configuration.Annotations["cert-manager.io/inject-ca-from"] != "hpc/controller" {
				t.Errorf("%s has the annotations %v and %d webhooks", name, configuration.Annotations, len(configuration.Webhooks))
			}
			for i := range configuration.Webhooks {
				if bundle := configuration.Webhooks[i].ClientConfig.CABundle; string(bundle) != "example" {
					t.Errorf("a webhook of %s trusts %q", name, bundle)
				}
			}
		}
	}
}

// connect starts a control plane and is its administrator's client.
func connect(t *testing.T) client.Client {
	t.Helper()
	config := controlplanetest.Start(t, controlplane.Options{}).AdminConfig()
	config.QPS = -1
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(config, client.Options{HTTPClient: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// compareValues checks that values are there where the schema has them, and are not those by default in every.
func compareValues(t *testing.T, path string, schema *property, defaults, every any) {
	t.Helper()
	if schema.Description == "" && path != "" && len(schema.Properties) == 0 {
		t.Errorf("the schema does not say what %s is", path)
	}
	values, isMap := defaults.(map[string]any)
	// {} is any value of its kind.
	if len(schema.Properties) == 0 || isMap && len(values) == 0 {
		if reflect.DeepEqual(defaults, every) {
			t.Errorf("%s is %v in both", path, every)
		}
		return
	}
	other, _ := every.(map[string]any)
	if want, has := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(values)); !slices.Equal(want, has) {
		t.Errorf("%s: the schema has %q and values.yaml %q", path, want, has)
	}
	for name, inner := range schema.Properties {
		compareValues(t, path+"."+name, &inner, values[name], other[name])
	}
}

// checkDeployment looks for what testdata/every.yaml says in a Deployment.
func checkDeployment(t *testing.T, object *unstructured.Unstructured, name string) {
	t.Helper()
	var deployment appsv1.Deployment
	if object == nil {
		t.Fatalf("there is no Deployment %s", name)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment); err != nil {
		t.Fatal(err)
	}
	template := &deployment.Spec.Template
	container := &template.Spec.Containers[0]
	env := map[string]string{}
	for _, variable := range container.Env {
		env[variable.Name] = variable.Value
	}
	want := map[string]any{
		"args": map[string][]string{"provider": {
			"--client-names=cluster-autoscaler", "--karpenter", "--cluster-api=fleet", "--metrics-authorization",
			"--tls-cert-file=/tls/tls.crt", "--tls-key-file=/tls/tls.key", "--client-ca-file=/tls/ca.crt",
			"--trace-endpoint=collector.tracing.svc:4317",
		}, "controller": {
			"--max-member-requests-per-second=10", "--kinds=MiniCluster,Job", "--kinds=MiniCluster,JobSet", "--metrics-authorization",
			"--tls-cert-file=/tls/tls.crt", "--tls-key-file=/tls/tls.key",
			"--trace-endpoint=collector.tracing.svc:4317",
		}}[name],
		"env":      map[string]string{"GOGC": "75", "GOMEMLIMIT": "3686MiB", "HTTPS_PROXY": "proxy.example:3128"},
		"image":    "images.example/hpc/ensemble-autoscaler@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"pull":     corev1.PullAlways,
		"pullWith": []corev1.LocalObjectReference{{Name: "images"}},
		"secret":   name + "-certificate",
		"replicas": int32(3), "memory": "4Gi", "cpu": "1", "priority": "",
		"labels":      map[string]string{"app.kubernetes.io/name": "ensemble-autoscaler-" + name, "team": "hpc"},
		"annotations": map[string]string{"example.com/scrape": "true"},
		"selector":    map[string]string{"kubernetes.io/os": "linux"},
		"tolerations": []corev1.Toleration{
			{Key: "example.com/system", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		},
		"affinity": true, "spread": "topology.kubernetes.io/zone",
	}
	if len(template.Spec.Volumes) != 1 || len(template.Spec.TopologySpreadConstraints) != 1 {
		t.Fatalf("%s has %d volumes and %d spreads", name, len(template.Spec.Volumes), len(template.Spec.TopologySpreadConstraints))
	}
	got := map[string]any{
		"args": container.Args, "env": env, "image": container.Image, "pull": container.ImagePullPolicy,
		"pullWith": template.Spec.ImagePullSecrets,
		"secret":   template.Spec.Volumes[0].Secret.SecretName, "replicas": *deployment.Spec.Replicas,
		"memory": container.Resources.Limits.Memory().String(), "cpu": container.Resources.Requests.Cpu().String(),
		"priority": template.Spec.PriorityClassName,
		"labels":   template.Labels, "annotations": template.Annotations, "selector": template.Spec.NodeSelector,
		"tolerations": template.Spec.Tolerations,
		"affinity":    template.Spec.Affinity != nil && template.Spec.Affinity.NodeAffinity != nil,
		"spread":      template.Spec.TopologySpreadConstraints[0].TopologyKey,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}
