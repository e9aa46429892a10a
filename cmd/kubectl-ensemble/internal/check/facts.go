package check

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
)

// Namespace is where the shipped manifests install provider and controller.
const Namespace = "ensemble-autoscaler-system"

// What the programs are known by.
const (
	labelName       = "app.kubernetes.io/name"
	nameProvider    = "ensemble-autoscaler-provider"
	nameController  = "ensemble-autoscaler-controller"
	nameAutoscaler  = "cluster-autoscaler"
	serviceProvider = "provider"
	serviceExpander = "expander"
)

// Unknown is something that could not be looked at.
type Unknown struct {
	cluster.Gap `json:",inline"`
	// What is not known for it.
	What string `json:"what"`
}

// Facts are what is known of a cluster. What the user may not read is not among them, and told in Unknown.
type Facts struct {
	// Now is when they were read.
	Now time.Time
	// Namespace is where provider and controller are installed.
	Namespace string
	// Kubernetes is the version of the API server, as v1.37.2.
	Kubernetes string
	// Served are the resources that the API server serves, of the groups that matter.
	Served map[schema.GroupVersionResource]bool
	// Namespaces are the labels of namespaces by their names.
	Namespaces map[string]map[string]string
	// Provider and Controller are the pods of the two.
	Provider, Controller []Pod
	// Autoscalers are the pods that run a Cluster Autoscaler, whatever its cloud.
	Autoscalers []Autoscaler
	// Pools are the NodePools.
	Pools []v1alpha1.NodePool
	// Members are the members, as namespace/name, by the kinds of their workloads.
	Members map[string][]string
	// ForeignNodes are the nodes of pools that carry the mark of another autoscaler, by the mark.
	ForeignNodes map[string][]string
	// Secrets are those with certificates, by namespace/name; nil for one that does not exist.
	Secrets map[string]*Secret
	// NetworkPolicies are those of the namespace.
	NetworkPolicies []networkingv1.NetworkPolicy
	// Webhooks are those of the configurations that are shipped, and are installed.
	Webhooks []Webhook
	// Endpoints are the numbers of ready addresses of Services, by namespace/name.
	Endpoints map[string]int
	// Uncalled are the webhooks that the API server could not ask when it had to.
	Uncalled []Uncalled
	// Services are those of the provider, by namespace/name, with their ports; without those that do not exist.
	Services map[string][]corev1.ServicePort
	// Policies are the admission policies that are installed, and the bindings.
	Policies []Policy
	// Rights are what the programs may do, of what they need.
	Rights []Right

	// Unknown is what could not be read.
	Unknown []Unknown
}

// Pod is what matters of a pod of a program.
type Pod struct {
	Namespace, Name string
	Labels          map[string]string
	// Flags are those of its main container, with their values.
	Flags Flags
	// Ports are those of the main container.
	Ports []corev1.ContainerPort
	// Ready is its condition, Waits why one of its containers does not run.
	Ready bool
	Waits string
	// Image is that of the main container, StartedAt when it was started.
	Image     string
	StartedAt time.Time
	// Owner tells replicas of one workload from those of others.
	Owner string
	// TLSSecret is the name of the Secret that has the file of --tls-cert-file; empty where none has.
	TLSSecret string
}

// Autoscaler is a pod that runs a Cluster Autoscaler.
type Autoscaler struct {
	Pod
	// CloudConfig is what the file of --cloud-config says, where it comes from a ConfigMap; nil where that is not known.
	CloudConfig *CloudConfig
	// Secrets are the names of the Secrets that it mounts.
	Secrets []string
	// Restarts is set where it is started again when its certificate changes.
	Restarts bool
}

// Ours reports whether it asks the provider for its node groups.
func (a *Autoscaler) Ours() bool { return a.Flags.Value("cloud-provider", "") == "externalgrpc" }

// lease is what its replicas elect a leader by.
func (a *Autoscaler) lease() string {
	return a.Flags.Value("namespace", "kube-system") + "/" + a.Flags.Value("leader-elect-resource-name", nameAutoscaler)
}

// CloudConfig is the file of --cloud-config.
type CloudConfig struct {
	// ConfigMap is where it comes from, as namespace/name.
	ConfigMap string `json:"-"`
	Address   string `json:"address"`
	Key       string `json:"key"`
	Cert      string `json:"cert"`
	CACert    string `json:"cacert"`
}

// Secret is one with certificates.
type Secret struct {
	CreatedAt time.Time
	// Certificate is what tls.crt has, Authorities what ca.crt has; Fault says why one of them cannot be read.
	Certificate Certificates
	Authorities Certificates
	Fault       string
}

// Webhook is one of a configuration.
type Webhook struct {
	// Configuration is its kind and name, Name that of the webhook.
	Configuration, Name string
	// Service is the namespace/name of the Service that is asked; empty for a URL.
	Service string
	// CABundle are the authorities that the API server trusts; Fault says why they cannot be read.
	CABundle Certificates
	Fault    string
	// Closed is set where what it judges is refused while it does not answer.
	Closed bool
}

// Policy is an admission policy, or a binding of one.
type Policy struct {
	Kind, Name string
	// Binds is the name of the policy that a binding is of, Denies whether what the policy refuses is refused.
	Binds  string
	Denies bool
}

// Right is one that a program needs.
type Right struct {
	Program, Namespace, Verb, Group, Resource, Name string
	Allowed                                         bool
}

// Installed reports whether anything is installed: a definition is served, or a pod of one of the programs is there.
func (f *Facts) Installed() bool {
	return f.Serves(v1alpha1.GroupVersion.WithResource("nodepools")) || len(f.Provider)+len(f.Controller) > 0
}

// Serves reports whether the API server serves a resource.
func (f *Facts) Serves(resource schema.GroupVersionResource) bool { return f.Served[resource] }

// knows reports whether a resource could be read. Where it could not be created is another matter.
func (f *Facts) knows(resource string) bool {
	return !slices.ContainsFunc(f.Unknown, func(u Unknown) bool { return u.Resource == resource && u.Verb != "create" })
}

// ours are the Cluster Autoscalers that ask the provider.
func (f *Facts) ours() []*Autoscaler {
	var out []*Autoscaler
	for i := range f.Autoscalers {
		if f.Autoscalers[i].Ours() {
			out = append(out, &f.Autoscalers[i])
		}
	}
	return out
}

// issues reports whether a program issues its certificates itself.
func issues(of []Pod) bool {
	return !slices.ContainsFunc(of, func(p Pod) bool { return p.Flags.Value("tls-cert-file", "") != "" })
}

func (p *Pod) object() string { return "Pod " + p.Namespace + "/" + p.Name }

// Flags are those of a program. One without a value has "true".
type Flags map[string]string

// Value is that of a flag, or of its default.
func (f Flags) Value(name, otherwise string) string {
	if value, is := f[name]; is {
		return value
	}
	return otherwise
}

// Has reports whether a flag without a value is set.
func (f Flags) Has(name string) bool { return f.Value(name, "false") == "true" }

// lists are the flags that may be repeated, each time with one or more values.
var lists = []string{flagClusterAPI, flagKinds, "client-names"}

// ParseFlags reads the command line of a container: what follows a -- of another program is that of the program which that one runs. The
// values of a flag that may be repeated are joined with commas.
func ParseFlags(command, args []string) Flags {
	line := slices.Concat(command, args)
	if at := slices.Index(line, "--"); at >= 0 {
		line = line[at+1:]
	}
	flags := Flags{}
	for i := 0; i < len(line); i++ {
		name, is := strings.CutPrefix(strings.TrimPrefix(line[i], "-"), "-")
		if !is && !strings.HasPrefix(line[i], "-") {
			continue
		}
		name, value, has := strings.Cut(name, "=")
		switch {
		case has:
		case i+1 < len(line) && !strings.HasPrefix(line[i+1], "-"):
			i++
			value = line[i]
		default:
			value = "true"
		}
		if before, is := flags[name]; is && slices.Contains(lists, name) {
			value = before + "," + value
		}
		flags[name] = value
	}
	return flags
}

// waits says why a container of a pod does not run; empty while all do.
func waits(pod *corev1.Pod) string {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if w := statuses[i].State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
				return strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
			}
		}
	}
	return ""
}
