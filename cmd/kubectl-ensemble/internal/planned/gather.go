package planned

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
)

// gathered is what the user may read of everything that a pass of the controller reads. It is the reader of a snapshot.
type gathered struct {
	members    v1alpha1.EnsembleMemberList
	clusters   *unstructured.UnstructuredList
	jobSets    *unstructured.UnstructuredList
	namespaces corev1.NamespaceList
	pools      v1alpha1.NodePoolList
	machines   v1alpha1.PoolMachineList
	jobs       batchv1.JobList
	daemonSets appsv1.DaemonSetList
	nodes      corev1.NodeList
	pods       corev1.PodList

	// missing are the rights that are lacking, needed those of them without which nothing can be planned.
	missing []whatif.MissingRight
	needed  []whatif.MissingRight
}

// wanted is one kind that is read.
type wanted struct {
	list     client.ObjectList
	resource string
	// namespaced is set for objects that can be read in the member's namespace alone, where they may not be read in all.
	namespaced bool
	// needed is set for objects without which nothing can be planned: of the member's namespace, where namespaced.
	needed bool
	// optional is set for what a cluster may not know.
	optional bool
	// without says what is not known without them, of other namespaces where namespaced.
	without string
}

func (g *gathered) kinds() []wanted {
	const elsewhere = ": what they have reserved is taken from status.reserved of the NodePools"
	return []wanted{
		{list: &g.members, resource: cluster.ResourceEnsembleMembers, namespaced: true, needed: true,
			without: "who waits before it: what others have reserved is taken from status.reserved of the NodePools"},
		{list: g.clusters, resource: cluster.ResourceMiniClusters, namespaced: true, needed: true,
			without: "the members of other namespaces" + elsewhere},
		{list: g.jobSets, resource: "jobsets." + jobset.GroupVersionKind.Group, namespaced: true, needed: true, optional: true,
			without: "the members of other namespaces" + elsewhere},
		{list: &g.pools, resource: "nodepools." + v1alpha1.Group, needed: true, without: "which pools there are"},
		{list: &g.machines, resource: "poolmachines." + v1alpha1.Group, needed: true,
			without: "which nodes are machines of a pool, and how long they took"},
		{list: &g.nodes, resource: "nodes", needed: true, without: "which nodes are there"},
		{list: &g.namespaces, resource: "namespaces", without: "the labels of namespaces, by which spec.allowedNamespaces of a NodePool selects"},
		{list: &g.jobs, resource: "jobs.batch", namespaced: true, needed: true,
			without: "the pods of members of other namespaces: what these have reserved is taken from status.reserved of the NodePools"},
		{list: &g.daemonSets, resource: "daemonsets.apps", without: "what pods of DaemonSets take of a new node"},
		{list: &g.pods, resource: "pods", namespaced: true, needed: true,
			without: "which nodes pods of other namespaces fill: they count as free, and what members there have reserved is taken from " +
				"status.reserved of the NodePools"},
	}
}

// gather reads all kinds at the same time: those of all namespaces, or where that is not allowed those of one. An error is about the API
// server, or names the rights without which nothing can be planned.
func gather(ctx context.Context, reader client.Reader, namespace string) (*gathered, error) {
	g := &gathered{clusters: minicluster.NewList(), jobSets: member.NewObjectList(jobset.GroupVersionKind)}
	kinds := g.kinds()
	failures, missing := make([]error, len(kinds)), make([]*whatif.MissingRight, len(kinds))
	var reading sync.WaitGroup
	for i := range kinds {
		reading.Go(func() { missing[i], failures[i] = kinds[i].read(ctx, reader, namespace) })
	}
	reading.Wait()
	for i := range kinds {
		if failures[i] != nil {
			return nil, failures[i]
		}
		if missing[i] == nil {
			continue
		}
		g.missing = append(g.missing, *missing[i])
		if kinds[i].needed && (!kinds[i].namespaced || missing[i].Namespace != "") {
			g.needed = append(g.needed, *missing[i])
		}
	}
	if len(g.needed) > 0 {
		return nil, lacking(g.needed)
	}
	if g.partly() {
		// Members without their MiniClusters would look like those that are being deleted, and those without their Jobs or pods like those
		// that nobody runs on: as if their nodes were given back.
		g.members.Items = slices.DeleteFunc(g.members.Items, func(m v1alpha1.EnsembleMember) bool { return m.Namespace != namespace })
		// Their nodes are in status.reserved already: they are neither free nor occupied by others.
		g.nodes.Items = slices.DeleteFunc(g.nodes.Items, func(node corev1.Node) bool {
			of, _, held := strings.Cut(node.Annotations[v1alpha1.AnnotationHeldBy], "/")
			return held && of != namespace
		})
	}
	if len(g.namespaces.Items) == 0 {
		g.readNamespace(ctx, reader, namespace)
	}
	return g, nil
}

// lacking is the error that names rights without which nothing can be planned.
func lacking(rights []whatif.MissingRight) error {
	words := make([]string, len(rights))
	for i := range rights {
		words[i] = fmt.Sprintf("%s; not known without it: %s", &rights[i], rights[i].Without)
	}
	return fmt.Errorf("the planner has to see what the controller sees:\n  %s\nAsk an administrator for these rights, or to run this command",
		strings.Join(words, "\n  "))
}

// read reads one kind.
func (w *wanted) read(ctx context.Context, reader client.Reader, namespace string) (*whatif.MissingRight, error) {
	err := reader.List(ctx, w.list)
	if err == nil {
		return nil, nil
	}
	var missing *whatif.MissingRight
	if apierrors.IsForbidden(err) {
		missing = &whatif.MissingRight{Verb: "list", Resource: w.resource, Message: err.Error(), Without: w.without}
		if !w.namespaced {
			return missing, nil
		}
		if err = reader.List(ctx, w.list, client.InNamespace(namespace)); err == nil {
			return missing, nil
		}
	}
	switch {
	case apierrors.IsForbidden(err):
		missing.Namespace, missing.Message = namespace, err.Error()
		return missing, nil
	case w.optional && (meta.IsNoMatchError(err) || apierrors.IsNotFound(err)):
		return nil, nil
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the cluster does not serve %s: kubectl ensemble check says what is not installed", w.resource)
	default:
		return nil, fmt.Errorf("list %s: %w", w.resource, err)
	}
}

// readNamespace reads the one namespace, where not all may be read.
func (g *gathered) readNamespace(ctx context.Context, reader client.Reader, name string) {
	var namespace corev1.Namespace
	if err := reader.Get(ctx, client.ObjectKey{Name: name}, &namespace); err == nil {
		g.namespaces.Items = append(g.namespaces.Items, namespace)
	}
}

// partly reports whether something of members of other namespaces is unknown: all that is namespaced and read is theirs.
func (g *gathered) partly() bool {
	return slices.ContainsFunc(g.kinds(), func(w wanted) bool {
		return w.namespaced && slices.ContainsFunc(g.missing, func(m whatif.MissingRight) bool { return m.Resource == w.resource })
	})
}

// store is one that knows the pods.
func (g *gathered) store() (*pods.Store, error) {
	store := pods.New(kinds.All().PodLabels()...)
	objects := make([]any, len(g.pods.Items))
	for i := range g.pods.Items {
		objects[i] = &g.pods.Items[i]
	}
	if err := store.Replace(objects, ""); err != nil {
		return nil, fmt.Errorf("read the pods: %w", err)
	}
	return store, nil
}

var _ client.Reader = (*gathered)(nil)

// List implements client.Reader. What it gives out is shared.
func (g *gathered) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *v1alpha1.EnsembleMemberList:
		list.Items = g.members.Items
	case *unstructured.UnstructuredList:
		list.Items = g.clusters.Items
		if list.GetKind() == g.jobSets.GetKind() {
			list.Items = g.jobSets.Items
		}
	case *corev1.NamespaceList:
		list.Items = g.namespaces.Items
	case *v1alpha1.NodePoolList:
		list.Items = g.pools.Items
	case *v1alpha1.PoolMachineList:
		list.Items = g.machines.Items
	case *batchv1.JobList:
		list.Items = g.jobs.Items
	case *appsv1.DaemonSetList:
		list.Items = g.daemonSets.Items
	case *corev1.NodeList:
		list.Items = g.nodes.Items
	default:
		return fmt.Errorf("a %T was not gathered", list)
	}
	return nil
}

// Get implements client.Reader. A snapshot asks for lists alone.
func (*gathered) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return fmt.Errorf("the %T %s was not gathered", object, key)
}

// world is what is planned with.
func (g *gathered) world(observed plan.Observed, clock clock.PassiveClock) *whatif.World {
	w := &whatif.World{Observed: observed, Pools: whatif.PoolsOf(g.pools.Items, g.machines.Items), Now: clock.Now()}
	if g.partly() {
		for name, hidden := range whatif.HideRoom(&w.Observed, g.pools.Items) {
			pool := w.Pools[name]
			pool.Hidden = hidden
			w.Pools[name] = pool
		}
	}
	return w
}
