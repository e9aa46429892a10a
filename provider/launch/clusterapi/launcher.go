// Package clusterapi makes machines by Cluster API: each machine is a Machine (cluster.x-k8s.io/v1beta2) of its own, beside an
// infrastructure object and, where one is asked for, a bootstrap object, which are cloned from templates. All of them have the name of
// the machine. No Machine belongs to a MachineSet: a set that is made smaller chooses which of its machines goes.
//
// The Machines may be in another cluster than their nodes are. What is said here of Cluster API was read in version 1.14.2 of
// sigs.k8s.io/cluster-api, and seen by running it (test/parts/clusterapi); none of it is imported.
package clusterapi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// machineKind is the kind of Machines, in the version that Cluster API has since 1.11, and clusterKind that of the Clusters they are of.
var (
	machineKind = schema.GroupVersionKind{Group: "cluster.x-k8s.io", Version: "v1beta2", Kind: "Machine"}
	clusterKind = machineKind.GroupVersion().WithKind("Cluster")
)

const (
	// poll is how often Machines are listed though nothing is heard of them; cacheLag is how far the cache, which they are listed
	// from, may be behind the API server.
	poll, cacheLag = time.Minute, 5 * time.Second
	// replaceAfter is how long after its order a machine that has failed is replaced at the earliest, where no autoscaler decides:
	// infrastructure providers remember for some minutes that a cloud has no capacity.
	replaceAfter = 3 * time.Minute
	// inParallel is how many machines of one call are made or ended at a time.
	inParallel = 16
)

// Launcher makes Machines exist and go.
type Launcher struct {
	cache  cache.Cache
	client client.Client
	live   client.Reader
	mapper meta.RESTMapper
	// namespaces are those that Machines may be in, host the API server that has them.
	namespaces []string
	host       string
}

var (
	_ launch.Cached = (*Launcher)(nil)
	_ launch.Finder = (*Launcher)(nil)
)

// NewCluster is the cluster that Machines are in, with a cache of nothing but the Machines of pools in some namespaces. It is to be
// added to the manager. It is one of its own also where the Machines are beside their nodes: no watch is wider than the rights in
// those namespaces. The error names what is to be installed where the cluster has no Machines.
func NewCluster(config *rest.Config, namespaces []string, options ...cluster.Option) (cluster.Cluster, error) {
	ofPools, err := labels.NewRequirement(v1alpha1.LabelNodePool, selection.Exists, nil)
	if err != nil {
		return nil, fmt.Errorf("select Machines of pools: %w", err)
	}
	watched := make(map[string]cache.Config, len(namespaces))
	for _, namespace := range namespaces {
		watched[namespace] = cache.Config{LabelSelector: labels.NewSelector().Add(*ofPools)}
	}
	c, err := cluster.New(config, append([]cluster.Option{func(o *cluster.Options) {
		o.Scheme = runtime.NewScheme()
		// Whoever manages which field is of no interest here, and is a large part of an object.
		o.Cache = cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: map[client.Object]cache.ByObject{
			newMachine(): {Namespaces: watched},
		}}
	}}, options...)...)
	switch {
	case meta.IsNoMatchError(err):
		return nil, noMachines(config)
	case err != nil:
		return nil, fmt.Errorf("connect to the API server that has the Machines, %s: %w", config.Host, err)
	}
	return c, nil
}

// noMachines is the error of a cluster that has no Machines.
func noMachines(config *rest.Config) error {
	return fmt.Errorf("the API server %s has no Machines of Cluster API (%s): install Cluster API 1.11 or later there, name the cluster that "+
		"has it with --machines-kubeconfig, or run without --cluster-api", config.Host, machineKind.GroupVersion())
}

// New returns a launcher of Machines in some namespaces of a cluster, which is one of NewCluster.
func New(c cluster.Cluster, namespaces []string) *Launcher {
	return &Launcher{
		cache: c.GetCache(), client: c.GetClient(), live: c.GetAPIReader(), mapper: c.GetRESTMapper(), namespaces: namespaces,
		host: c.GetConfig().Host,
	}
}

// Traits implements launch.Launcher. Nodes register as their bootstrap says, which is the user's: that they do with the taint of the
// registration is not relied upon.
func (l *Launcher) Traits(*launch.Pool) launch.Traits {
	return launch.Traits{ByName: true, Poll: poll, Lag: cacheLag, ReplaceAfter: replaceAfter}
}

// Objects implements launch.Launcher.
func (l *Launcher) Objects() []client.Object { return []client.Object{newMachine()} }

// Cache implements launch.Cached.
func (l *Launcher) Cache() cache.Cache { return l.cache }

func newMachine() *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(machineKind)
	return out
}

func newMachines() *unstructured.UnstructuredList {
	out := &unstructured.UnstructuredList{}
	out.SetGroupVersionKind(machineKind.GroupVersion().WithKind(machineKind.Kind + "List"))
	return out
}

// errNoConfig is the error of a call about a pool of another kind of cloud.
var errNoConfig = errors.New("spec.machines.clusterAPI is not set")

// errNotWatched is the error of a call about a namespace that the provider was not told of.
type errNotWatched struct {
	namespace string
	watched   []string
}

func (e *errNotWatched) Error() string {
	return fmt.Sprintf("spec.machines.clusterAPI.namespace is %s, and the provider runs with --cluster-api=%s: it makes Machines nowhere else",
		e.namespace, strings.Join(e.watched, ","))
}

func (l *Launcher) config(pool *launch.Pool) (*v1alpha1.ClusterAPIMachines, error) {
	config := pool.Machines.ClusterAPI
	switch {
	case config == nil:
		return nil, fmt.Errorf("NodePool %s: %w", pool.Name, errNoConfig)
	case !slices.Contains(l.namespaces, config.Namespace):
		return nil, fmt.Errorf("NodePool %s: %w", pool.Name, &errNotWatched{config.Namespace, l.namespaces})
	}
	return config, nil
}

// Marks of the objects of a machine, beside v1alpha1.LabelNodePool and v1alpha1.LabelMachine.
const (
	// annotationCluster is the UID of the namespace kube-system of the cluster that the machine is for, annotationOrder the token of
	// its order, annotationPurpose for whom it was ordered.
	annotationCluster = v1alpha1.Group + "/cluster"
	annotationOrder   = v1alpha1.Group + "/order"
	annotationPurpose = v1alpha1.Group + "/purpose"
	// annotationDomain is where it was asked for, as KEY=VALUE.
	annotationDomain = v1alpha1.Group + "/domain"
)

// mark marks an object as one of a machine.
func mark(object *unstructured.Unstructured, pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine) {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(labels, map[string]string{
		v1alpha1.LabelNodePool: pool.Name, v1alpha1.LabelMachine: machine.Name, labelCluster: pool.Machines.ClusterAPI.ClusterName,
	})
	maps.Copy(annotations, map[string]string{
		annotationCluster: pool.Cluster, annotationOrder: order.Token, annotationPurpose: string(machine.Spec.Purpose),
	})
	if machine.Spec.Purpose == v1alpha1.PurposeReservation {
		annotations[v1alpha1.AnnotationReserved] = "true"
	}
	object.SetLabels(labels)
	object.SetAnnotations(annotations)
}

// isOfPool reports whether an object bears the pool's mark.
func isOfPool(pool *launch.Pool, object metav1.Object) bool {
	return object.GetLabels()[v1alpha1.LabelNodePool] == pool.Name && object.GetAnnotations()[annotationCluster] == pool.Cluster
}

// isMachines reports whether an object is one of a machine, whichever order that was of.
func isMachines(pool *launch.Pool, machine string, object metav1.Object) bool {
	return isOfPool(pool, object) && object.GetLabels()[v1alpha1.LabelMachine] == machine
}

// isOurs reports whether an object is the one that was made for a machine by an order.
func isOurs(pool *launch.Pool, order *launch.Order, machine string, object metav1.Object) bool {
	return isMachines(pool, machine, object) && object.GetAnnotations()[annotationOrder] == order.Token
}

// domainOf is the failure domain of the machines of an order. Where the pool's machines are never there, problem says by which field, and
// what to do. That a failure domain of Cluster API is called as the zone of its nodes is so for most infrastructure providers.
func domainOf(config *v1alpha1.ClusterAPIMachines, template *v1alpha1.NodeTemplate, domain string) (failureDomain, problem string) {
	if domain == "" {
		return config.FailureDomain, ""
	}
	key, value, _ := strings.Cut(domain, "=")
	field := fmt.Sprintf("spec.template.labels[%s]", key)
	switch has, is := template.Labels[key]; {
	case is && has != value:
		return "", fmt.Sprintf("%s is %s: take this pool out of what may be in %s, or change the label", field, has, domain)
	case is:
		return config.FailureDomain, ""
	case key != corev1.LabelTopologyZone:
		return "", fmt.Sprintf("%s is not set, and no failure domain is called by it: set it to %s if all machines of the pool are there",
			field, value)
	case config.FailureDomain != "" && config.FailureDomain != value:
		return "", fmt.Sprintf("spec.machines.clusterAPI.failureDomain is %s: if that is the zone %s, set %s to %s", config.FailureDomain, value,
			field, value)
	}
	return value, ""
}
