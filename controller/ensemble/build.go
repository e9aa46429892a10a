package ensemble

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// Where the ensemble.yaml of a member is, as the ensemble-operator has it.
const (
	fileName  = "ensemble.yaml"
	directory = "/ensemble-entrypoint"
)

// repository is where a branch of ensemble-python is cloned from.
const repository = "https://github.com/converged-computing/ensemble-python"

// Settings are what all Ensembles have in common.
type Settings struct {
	// Endpoint is the host:port at which members reach the ensemble endpoint.
	Endpoint string
	// DefaultNodePools are the pools of members that name none. There may be none.
	DefaultNodePools []string
}

// memberName is that of the ConfigMap and the MiniCluster of a member.
func memberName(e *v1alpha1.Ensemble, i int) string { return e.Name + "-" + strconv.Itoa(i) }

// desired is what one member is made of.
type desired struct {
	configMap *corev1.ConfigMap
	cluster   *unstructured.Unstructured
	// minSize is nil where the template has none.
	minSize *int64
}

// build makes what a member of a valid Ensemble is made of.
func build(e *v1alpha1.Ensemble, i int, settings *Settings) (*desired, error) {
	member, name := &e.Spec.Members[i], memberName(e, i)
	template, faults := minicluster.ParseTemplate(member.MiniCluster.Raw, nil)
	if len(faults) > 0 {
		return nil, faults.ToAggregate()
	}
	host, port, err := net.SplitHostPort(settings.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the endpoint of members is %q: %w", settings.Endpoint, err)
	}
	owner := *metav1.NewControllerRef(e, v1alpha1.GroupVersion.WithKind("Ensemble"))
	labels := map[string]string{v1alpha1.LabelEnsemble: e.Name}
	cluster := template.Build(&minicluster.Entrypoint{
		Install: install(member.Branch),
		Command: fmt.Sprintf("ensemble run --kubernetes --executor minicluster --host %s --port %s --name %s %s",
			host, port, name, path.Join(directory, fileName)),
		ConfigMap: name, Path: directory, File: fileName, HeadlessName: name,
	})
	applied, err := digests(member)
	if err != nil {
		return nil, err
	}
	annotations := policies(member, settings)
	annotations[v1alpha1.AnnotationAppliedSpec] = applied
	cluster.SetNamespace(e.Namespace)
	cluster.SetName(name)
	cluster.SetLabels(labels)
	cluster.SetAnnotations(annotations)
	cluster.SetOwnerReferences([]metav1.OwnerReference{owner})
	d := &desired{
		configMap: &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name, Labels: labels, OwnerReferences: []metav1.OwnerReference{owner}},
			Data:       map[string]string{fileName: member.Ensemble},
		},
		cluster: cluster,
	}
	if template.MinSize > 0 {
		d.minSize = &template.MinSize
	}
	return d, nil
}

// policyAnnotations are those that may change while a MiniCluster is there.
var policyAnnotations = []string{autoscaling.AnnotationNodePools, autoscaling.AnnotationGrowthPolicy, autoscaling.AnnotationPlacement,
	autoscaling.AnnotationRequestPolicy,
	autoscaling.AnnotationPodsPerNode, autoscaling.AnnotationGiveUpAfter, autoscaling.AnnotationTopologyKey}

// policyFields are the fields of a member that set them.
var policyFields = map[string]string{
	autoscaling.AnnotationNodePools: "nodePools", autoscaling.AnnotationGrowthPolicy: "growthPolicy",
	autoscaling.AnnotationPlacement:     "placement",
	autoscaling.AnnotationRequestPolicy: "requestPolicy", autoscaling.AnnotationPodsPerNode: "podsPerNode",
	autoscaling.AnnotationGiveUpAfter: "giveUpAfter",
	autoscaling.AnnotationTopologyKey: "topologyKey",
}

func policies(member *v1alpha1.Member, settings *Settings) map[string]string {
	pools := member.NodePools
	if len(pools) == 0 {
		pools = settings.DefaultNodePools
	}
	share, attempts := "", ""
	if member.PodsPerNode != nil {
		share = member.PodsPerNode.String()
	}
	if member.GiveUpAfter != nil {
		attempts = strconv.Itoa(int(*member.GiveUpAfter))
	}
	annotations := map[string]string{}
	for key, value := range map[string]string{
		autoscaling.AnnotationNodePools:     strings.Join(pools, ","),
		autoscaling.AnnotationGrowthPolicy:  string(member.GrowthPolicy),
		autoscaling.AnnotationPlacement:     string(member.Placement),
		autoscaling.AnnotationRequestPolicy: string(member.RequestPolicy),
		autoscaling.AnnotationPodsPerNode:   share,
		autoscaling.AnnotationGiveUpAfter:   attempts,
		autoscaling.AnnotationTopologyKey:   member.TopologyKey,
	} {
		if value != "" {
			annotations[key] = value
		}
	}
	return annotations
}

// install is what brings ensemble-python into a container, or ends it: without that it would stand there and run nothing.
// pip, and the cffi that Flux's Python bindings need, come from the packages of the distribution. An image that has all
// of it goes on without a network, unless a branch is asked for.
func install(branch string) string {
	// Distributions keep pip from what is theirs (PEP 668), which a variable overrules that older ones read over. What it
	// cannot replace because it came with the distribution, it can put beside that.
	const pip = "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install"
	packages, clone, from := "python3-pip python3-cffi", "", "ensemble-python"
	if branch != "" {
		packages, from = packages+" git", "/tmp/ensemble-python"
		// The name was found to be one word to a shell.
		clone = fmt.Sprintf("git clone --depth 1 --branch %s %s %s && ", branch, repository, from)
	}
	script := fmt.Sprintf(`
if command -v apt-get >/dev/null; then
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends %[1]s; } ||
    echo "could not install %[1]s" >&2
elif command -v yum >/dev/null; then
  yum install -y %[1]s || echo "could not install %[1]s" >&2
fi
%[2]s{ %[3]s %[4]s || %[3]s --ignore-installed %[4]s; } || {
  echo "could not install ensemble-python: an image without it needs a network, and python3 with pip or the right to install them" >&2
  exit 1
}
`, packages, clone, pip, from)
	if branch != "" {
		return script
	}
	return "\nif ! { command -v ensemble && python3 -c 'import cffi'; } >/dev/null 2>&1; then" + script + "fi\n"
}

// digests are short sums of the parts of a member that cannot change, in JSON.
func digests(member *v1alpha1.Member) (string, error) {
	sums := map[string]string{}
	for path, value := range partsOf(member) {
		sum := sha256.Sum256(value)
		sums[path] = hex.EncodeToString(sum[:8])
	}
	encoded, err := json.Marshal(sums)
	if err != nil {
		return "", fmt.Errorf("encode the digests of a member: %w", err)
	}
	return string(encoded), nil
}

// outdated are the paths, below the member, of the parts that a MiniCluster was created with and that are others now.
func outdated(cluster *unstructured.Unstructured, member *v1alpha1.Member) []string {
	var was, is map[string]string
	now, err := digests(member)
	if err != nil || json.Unmarshal([]byte(now), &is) != nil {
		return nil
	}
	if json.Unmarshal([]byte(cluster.GetAnnotations()[v1alpha1.AnnotationAppliedSpec]), &was) != nil {
		return nil
	}
	return differences(was, is)
}
