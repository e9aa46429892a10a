package docs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// What the chart is installed as, as the first lines of values.yaml have it.
const (
	chartVersion = "9.59.0"
	namespace    = "ensemble-autoscaler-system"
	release      = "cluster-autoscaler"
)

// chartValues are those of the chart's values that are used here.
type chartValues struct {
	NameOverride  string `json:"nameOverride"`
	CloudProvider string `json:"cloudProvider"`
	AutoDiscovery struct {
		ClusterName string `json:"clusterName"`
	} `json:"autoDiscovery"`
	Image struct {
		Tag string `json:"tag"`
	} `json:"image"`
	ExtraArgs          map[string]any `json:"extraArgs"`
	ExtraVolumeSecrets map[string]struct {
		Name      string `json:"name"`
		MountPath string `json:"mountPath"`
	} `json:"extraVolumeSecrets"`
	ExtraVolumes      []corev1.Volume      `json:"extraVolumes"`
	ExtraVolumeMounts []corev1.VolumeMount `json:"extraVolumeMounts"`
	ExtraObjects      []corev1.ConfigMap   `json:"extraObjects"`
	RBAC              struct {
		AdditionalRules []rbacv1.PolicyRule `json:"additionalRules"`
	} `json:"rbac"`
	SecurityContext          *corev1.PodSecurityContext  `json:"securityContext"`
	ContainerSecurityContext *corev1.SecurityContext     `json:"containerSecurityContext"`
	Resources                corev1.ResourceRequirements `json:"resources"`
}

// registration is what matters of a Cluster Autoscaler that is registered with the provider.
type registration struct {
	Flags map[string]string
	// Volumes are what is mounted, by path.
	Volumes   map[string]string
	Config    map[string]string
	Pod       *corev1.PodSecurityContext
	Container *corev1.SecurityContext
	Resources corev1.ResourceRequirements
	Version   string
}

// TestValuesOfChart: the values for the chart say key by key what the manifests beside them say, and name only keys that the chart has.
func TestValuesOfChart(t *testing.T) {
	t.Parallel()
	content := read(t, "examples/cluster-autoscaler/values.yaml")
	var values chartValues
	if err := yaml.UnmarshalStrict(content, &values); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "--version "+chartVersion+" ") {
		t.Errorf("the comment does not say how to install version %s of the chart", chartVersion)
	}
	got := registration{
		Flags: map[string]string{
			// What the chart makes of values of its own.
			"cloud-provider": values.CloudProvider, "namespace": namespace,
		},
		Volumes: map[string]string{}, Config: map[string]string{},
		Pod: values.SecurityContext, Container: values.ContainerSecurityContext, Resources: values.Resources,
		Version: strings.TrimPrefix(values.Image.Tag, "v"),
	}
	for name, value := range values.ExtraArgs {
		got.Flags[name] = strings.TrimSpace(marshal(t, value))
	}
	sources := map[string]string{}
	for name, secret := range values.ExtraVolumeSecrets {
		got.Volumes[secret.MountPath] = "Secret " + secret.Name
		sources[name] = got.Volumes[secret.MountPath]
	}
	for i := range values.ExtraVolumes {
		sources[values.ExtraVolumes[i].Name] = source(&values.ExtraVolumes[i])
	}
	for _, mount := range values.ExtraVolumeMounts {
		got.Volumes[mount.MountPath] = sources[mount.Name]
	}
	for i := range values.ExtraObjects {
		got.Config[values.ExtraObjects[i].Namespace+"/"+values.ExtraObjects[i].Name] = values.ExtraObjects[i].Data["cloud-config.yaml"]
	}
	if diff := cmp.Diff(manifests(t), got, compareConfig); diff != "" {
		t.Errorf("the values do not say what the manifests say (-manifests +values):\n%s", diff)
	}

	if more := without(rights(values.RBAC.AdditionalRules), neededRights(t)); len(more) > 0 {
		t.Errorf("the values add rights that the manifests do not have:\n%s", strings.Join(more, "\n"))
	}

	// The name of the chart becomes the label by which the NetworkPolicy of the provider admits pods.
	if admitted := admittedNames(t); !slices.Contains(admitted, values.NameOverride) {
		t.Errorf("pods are labelled %q, and the NetworkPolicy admits %q", values.NameOverride, admitted)
	}
	if values.AutoDiscovery.ClusterName == "" {
		t.Error("without autoDiscovery.clusterName the chart makes no Deployment")
	}

	var tree map[string]any
	if err := yaml.Unmarshal(content, &tree); err != nil {
		t.Fatal(err)
	}
	known := strings.Fields(string(read(t, "test/whole/docs/testdata/chart-"+chartVersion+"-keys.txt")))
	for _, key := range keys(tree) {
		if !slices.Contains(known, key) {
			t.Errorf("the chart has no %s", key)
		}
	}
}

// opaque are keys of the chart whose content is the user's.
var opaque = []string{
	"extraArgs", "extraVolumeSecrets", "extraVolumes", "extraVolumeMounts", "extraObjects", "rbac.additionalRules", "securityContext",
	"containerSecurityContext", "resources",
}

// keys are the paths of values, without what is the user's.
func keys(tree map[string]any) []string {
	var out []string
	var walk func(prefix string, tree map[string]any)
	walk = func(prefix string, tree map[string]any) {
		for name, value := range tree {
			path := prefix + name
			if inner, is := value.(map[string]any); is && len(inner) > 0 && !slices.Contains(opaque, path) {
				walk(path+".", inner)
				continue
			}
			out = append(out, path)
		}
	}
	walk("", tree)
	slices.Sort(out)
	return out
}

// compareConfig compares the files for --cloud-config by what they say, without their comments.
var compareConfig = cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Config" && len(p) == 2 },
	cmp.Transformer("parse", func(files map[string]string) map[string]map[string]string {
		out := map[string]map[string]string{}
		for name, text := range files {
			var said map[string]string
			if err := yaml.Unmarshal([]byte(text), &said); err != nil {
				said = map[string]string{"fault": err.Error()}
			}
			out[name] = said
		}
		return out
	}))

// manifests are what examples/cluster-autoscaler says without Helm.
func manifests(t *testing.T) registration {
	t.Helper()
	var deployment appsv1.Deployment
	config := map[string]string{}
	for text := range strings.SplitSeq(string(read(t, "examples/cluster-autoscaler/deployment.yaml")), "\n---\n") {
		switch kind(t, text) {
		case "Deployment":
			parse(t, text, &deployment)
		case "ConfigMap":
			var object corev1.ConfigMap
			parse(t, text, &object)
			config[object.Namespace+"/"+object.Name] = object.Data["cloud-config.yaml"]
		}
	}
	out := registered(t, &deployment)
	out.Config = config
	return out
}

// registered reads a Deployment of Cluster Autoscaler.
func registered(t *testing.T, deployment *appsv1.Deployment) registration {
	t.Helper()
	if len(deployment.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("the Deployment has %d containers", len(deployment.Spec.Template.Spec.Containers))
	}
	pod := &deployment.Spec.Template.Spec
	container := &pod.Containers[0]
	_, version, _ := strings.Cut(container.Image, ":")
	out := registration{
		Flags: map[string]string{}, Volumes: map[string]string{}, Config: map[string]string{},
		Pod: pod.SecurityContext, Container: container.SecurityContext, Resources: container.Resources, Version: strings.TrimPrefix(version, "v"),
	}
	command := container.Command
	if at := slices.Index(command, "--"); at >= 0 {
		// What restarts it when its certificate was renewed, which the chart has no place for.
		command = command[at+1:]
	}
	for _, arg := range append(slices.Clone(command), container.Args...) {
		if flag, is := strings.CutPrefix(arg, "--"); is {
			name, value, has := strings.Cut(flag, "=")
			if !has {
				value = "true"
			}
			out.Flags[name] = value
		}
	}
	sources := map[string]string{}
	for i := range pod.Volumes {
		sources[pod.Volumes[i].Name] = source(&pod.Volumes[i])
	}
	for _, mount := range container.VolumeMounts {
		if mount.Name == "tools" {
			continue
		}
		out.Volumes[mount.MountPath] = sources[mount.Name]
	}
	return out
}

func source(volume *corev1.Volume) string {
	switch {
	case volume.Secret != nil:
		return "Secret " + volume.Secret.SecretName
	case volume.ConfigMap != nil:
		return "ConfigMap " + volume.ConfigMap.Name
	}
	return "something else"
}

// admittedNames are the values of app.kubernetes.io/name that the NetworkPolicy of the provider admits to its gRPC port.
func admittedNames(t *testing.T) []string {
	t.Helper()
	var names []string
	for text := range strings.SplitSeq(string(read(t, "manifests/provider/availability.yaml")), "\n---\n") {
		if kind(t, text) != "NetworkPolicy" {
			continue
		}
		var policy networkingv1.NetworkPolicy
		parse(t, text, &policy)
		for _, rule := range policy.Spec.Ingress {
			if !slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port != nil && p.Port.StrVal == "grpc" }) {
				continue
			}
			for _, from := range rule.From {
				names = append(names, from.PodSelector.MatchLabels["app.kubernetes.io/name"])
			}
		}
	}
	return names
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "..", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func kind(t *testing.T, text string) string {
	t.Helper()
	var object struct {
		Kind string `json:"kind"`
	}
	parse(t, text, &object)
	return object.Kind
}

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rights are what rules allow, each as a verb, a resource and what it is limited to.
func rights(rules []rbacv1.PolicyRule) map[string]bool {
	out := map[string]bool{}
	for i := range rules {
		names := rules[i].ResourceNames
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, group := range rules[i].APIGroups {
			for _, resource := range rules[i].Resources {
				for _, verb := range rules[i].Verbs {
					for _, name := range names {
						out[strings.Join([]string{verb, group + "/" + resource, name}, " ")] = true
					}
				}
			}
		}
	}
	return out
}

// neededRights are those that examples/cluster-autoscaler gives without Helm.
func neededRights(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for text := range strings.SplitSeq(string(read(t, "examples/cluster-autoscaler/rbac.yaml")), "\n---\n") {
		addRights(t, out, text)
	}
	return out
}

// addRights adds those of a role; other objects have none.
func addRights(t *testing.T, to map[string]bool, text string) {
	t.Helper()
	if !strings.HasSuffix(kind(t, text), "Role") {
		return
	}
	var role rbacv1.ClusterRole
	parse(t, text, &role)
	maps.Copy(to, rights(role.Rules))
}

// without are the rights of one set that another lacks.
func without(all, those map[string]bool) []string {
	missing := maps.Clone(all)
	maps.DeleteFunc(missing, func(right string, _ bool) bool {
		parts := strings.Split(right, " ")
		return those[right] || those[strings.Join([]string{parts[0], parts[1], "*"}, " ")]
	})
	return slices.Sorted(maps.Keys(missing))
}
