// Package cluster reads the live objects with the rights of the user. What the rights do not let be read is kept as a [Gap], which is told
// beside what could be read: a missing right is named and never looks like an absence of objects.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// Gap is a right that the user lacks, and what is not known for it.
type Gap struct {
	// Verb is that of the request, such as list.
	Verb string `json:"verb"`
	// Resource is the plural with its group, such as nodepools.autoscaling.flux-framework.org.
	Resource string `json:"resource"`
	// Namespace is empty for all namespaces, and for what has none.
	Namespace string `json:"namespace,omitempty"`
	// Message is what the API server said.
	Message string `json:"message"`
}

// String says which right is missing.
func (g Gap) String() string {
	where := ""
	if g.Namespace != "" {
		where = " in namespace " + g.Namespace
	}
	return fmt.Sprintf("no right to %s %s%s", g.Verb, g.Resource, where)
}

// The resources, as a [Gap] names them.
var (
	ResourceEnsembleMembers = "ensemblemembers." + v1alpha1.Group
	ResourceNodePools       = "nodepools." + v1alpha1.Group
	ResourcePoolMachines    = "poolmachines." + v1alpha1.Group
	ResourceMiniClusters    = "miniclusters." + minicluster.GroupVersionKind.Group
)

// The resources of Kubernetes itself.
const (
	ResourceNodes      = "nodes"
	ResourcePods       = "pods"
	ResourceConfigMaps = "configmaps"
)

// Reader reads what the user may read. It is safe for several goroutines.
type Reader struct {
	// Client reads and writes with the user's rights, straight from the API server.
	Client client.Client
	// Config is how it reaches the API server.
	Config *rest.Config

	autoscalers []string

	mutex sync.Mutex
	gaps  []Gap
}

// New returns a Reader. autoscalers are the namespaces in which the status of Cluster Autoscaler is looked for, in that order.
func New(config *rest.Config, autoscalers []string) (*Reader, error) {
	config = rest.CopyConfig(config)
	// The API server's priority and fairness limits us.
	config.QPS = -1
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	return newReader(config, transport, autoscalers)
}

func newReader(config *rest.Config, transport *http.Client, autoscalers []string) (*Reader, error) {
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), ensemblev1alpha1.AddToScheme(scheme))
	if err != nil {
		return nil, fmt.Errorf("register the kinds: %w", err)
	}
	c, err := client.New(config, client.Options{HTTPClient: transport, Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return &Reader{Client: c, Config: config, autoscalers: autoscalers}, nil
}

// Afresh is the same reader with no gaps yet.
func (r *Reader) Afresh() *Reader {
	return &Reader{Client: r.Client, Config: r.Config, autoscalers: r.autoscalers}
}

// Gaps are the rights that reads so far have lacked, each once, in the order of their first lack.
func (r *Reader) Gaps() []Gap {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.gaps)
}

// EnsembleMembers are those of a namespace, or of all with "".
func (r *Reader) EnsembleMembers(ctx context.Context, namespace string) ([]v1alpha1.EnsembleMember, error) {
	list := &v1alpha1.EnsembleMemberList{}
	err := r.list(ctx, list, ResourceEnsembleMembers, namespace)
	return list.Items, err
}

// EnsembleMember is one member, nil when there is none or it may not be read.
func (r *Reader) EnsembleMember(ctx context.Context, namespace, name string) (*v1alpha1.EnsembleMember, error) {
	return get(ctx, r, &v1alpha1.EnsembleMember{}, ResourceEnsembleMembers, namespace, name)
}

// MiniClusters are those of a namespace, or of all with "".
func (r *Reader) MiniClusters(ctx context.Context, namespace string) ([]unstructured.Unstructured, error) {
	list := minicluster.NewList()
	err := r.list(ctx, list, ResourceMiniClusters, namespace)
	return list.Items, err
}

// MiniCluster is one of them, nil when there is none or it may not be read.
func (r *Reader) MiniCluster(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	return get(ctx, r, minicluster.New(), ResourceMiniClusters, namespace, name)
}

// Workload is one of a kind, nil when there is none or it may not be read.
func (r *Reader) Workload(ctx context.Context, kind member.Kind, namespace, name string) (client.Object, error) {
	resource := strings.ToLower(kind.Words().Kinds) + "." + kind.GroupVersionKind().Group
	return get(ctx, r, kind.New(), resource, namespace, name)
}

// NodePools are all.
func (r *Reader) NodePools(ctx context.Context) ([]v1alpha1.NodePool, error) {
	list := &v1alpha1.NodePoolList{}
	err := r.list(ctx, list, ResourceNodePools, "")
	return list.Items, err
}

// NodePool is one of them, nil when there is none or it may not be read.
func (r *Reader) NodePool(ctx context.Context, name string) (*v1alpha1.NodePool, error) {
	return get(ctx, r, &v1alpha1.NodePool{}, ResourceNodePools, "", name)
}

// PoolMachines are those of a pool, or all with "".
func (r *Reader) PoolMachines(ctx context.Context, pool string) ([]v1alpha1.PoolMachine, error) {
	list := &v1alpha1.PoolMachineList{}
	err := r.list(ctx, list, ResourcePoolMachines, "", ofPool(pool)...)
	return list.Items, err
}

// PoolMachine is one of them, nil when there is none or it may not be read.
func (r *Reader) PoolMachine(ctx context.Context, name string) (*v1alpha1.PoolMachine, error) {
	return get(ctx, r, &v1alpha1.PoolMachine{}, ResourcePoolMachines, "", name)
}

// Nodes are those of a pool, or all with "", that options select.
func (r *Reader) Nodes(ctx context.Context, pool string, options ...client.ListOption) ([]corev1.Node, error) {
	list := &corev1.NodeList{}
	err := r.list(ctx, list, ResourceNodes, "", append(options, ofPool(pool)...)...)
	return list.Items, err
}

// Node is one of them, nil when there is none or it may not be read.
func (r *Reader) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return get(ctx, r, &corev1.Node{}, ResourceNodes, "", name)
}

// Pods are those of a namespace, or of all with "", that options select.
func (r *Reader) Pods(ctx context.Context, namespace string, options ...client.ListOption) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	err := r.list(ctx, list, ResourcePods, namespace, options...)
	return list.Items, err
}

// Pod is one of them, nil when there is none or it may not be read.
func (r *Reader) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return get(ctx, r, &corev1.Pod{}, ResourcePods, namespace, name)
}

func ofPool(pool string) []client.ListOption {
	if pool == "" {
		return nil
	}
	return []client.ListOption{client.MatchingLabels{v1alpha1.LabelNodePool: pool}}
}

// list reads a list and keeps the right that lacks for it.
func (r *Reader) list(ctx context.Context, list client.ObjectList, resource, namespace string, options ...client.ListOption) error {
	options = append(options, client.InNamespace(namespace))
	return r.allowed(r.Client.List(ctx, list, options...), "list", resource, namespace)
}

func get[T client.Object](ctx context.Context, r *Reader, object T, resource, namespace, name string) (T, error) {
	var none T
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
	if apierrors.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, r.allowed(err, "get", resource, namespace)
	}
	return object, nil
}

// allowed keeps an error for want of a right as a gap, and says of a resource that does not exist what has to be installed.
func (r *Reader) allowed(err error, verb, resource, namespace string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		r.lacks(Gap{Verb: verb, Resource: resource, Namespace: namespace, Message: err.Error()})
		return nil
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		group := schema.ParseGroupResource(resource).Group
		owner := "ensemble-autoscaler"
		if group == minicluster.GroupVersionKind.Group {
			owner = "the Flux Operator"
		}
		return fmt.Errorf("the cluster does not serve %s: is %s installed in it?", resource, owner)
	default:
		return fmt.Errorf("%s %s: %w", verb, resource, err)
	}
}

func (r *Reader) lacks(gap Gap) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	same := func(g Gap) bool {
		return g.Verb == gap.Verb && g.Resource == gap.Resource && g.Namespace == gap.Namespace
	}
	if !slices.ContainsFunc(r.gaps, same) {
		r.gaps = append(r.gaps, gap)
	}
}

// Describe says the gaps in one line, and nothing when there are none.
func Describe(gaps []Gap) string {
	var all []string
	for _, g := range gaps {
		all = append(all, g.String())
	}
	return strings.Join(all, "; ")
}
