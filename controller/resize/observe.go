package resize

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// observer reads the cluster. It remembers what it has made of each object.
type observer struct {
	reader client.Reader
	kinds  member.Kinds
	// stores are read in place of lists of the reader; nil for none.
	stores    *stores
	workloads *memory[workloadReading]
	pools     *memory[plan.Pool]
	jobs      *memory[needs]
	nodes     *identified[corev1.Node, nodeReading]
	ledger    *ledger
	notMade   *notMade
	clock     clock.PassiveClock
	told      *departures
	// awaited are pods of which is to be known how far they were read; nil for none.
	awaited func() []types.NamespacedName

	// daemons are the DaemonSets, of the versions that the pools were read with.
	daemons        []reading.DaemonSet
	daemonVersions map[types.UID]daemonVersion

	// good are the workloads as they could be read last.
	good map[types.UID]*member.Workload
}

// daemonVersion tells apart what matters of two versions of a DaemonSet: its status, which changes often, does not.
type daemonVersion struct {
	generation int64
	deleting   bool
}

func newObserver(
	kinds member.Kinds, reader client.Reader, store *pods.Store, clock clock.PassiveClock, notMade *notMade,
) *observer {
	return &observer{
		kinds: kinds, reader: reader, clock: clock, told: &departures{}, workloads: newMemory[workloadReading](), pools: newMemory[plan.Pool](),
		jobs:  newMemory[needs](),
		nodes: newIdentified[corev1.Node, nodeReading](), ledger: newLedger(store), notMade: notMade,
		good: map[types.UID]*member.Workload{},
	}
}

// workloadReading is what is read off a workload.
type workloadReading struct {
	workload *member.Workload
	invalid  error
	// needs are those of its groups.
	needs []needs
}

// needs is what one pod of a member needs of a node, as its template says.
type needs struct {
	requests    plan.Resources
	selects     plan.Selector
	tolerations []corev1.Toleration
}

func needsOf(pod *corev1.PodSpec) needs {
	return needs{requests: reading.Requests(pod), selects: reading.Selects(pod.NodeSelector, pod.Affinity), tolerations: pod.Tolerations}
}

// seen is what a pass has read.
type seen struct {
	entries map[types.NamespacedName]*entry
	pools   []plan.Pool
	byName  map[string]*plan.Pool
	// poolUIDs are the UIDs of the pools by their names.
	poolUIDs map[string]types.UID
	nodes    []plan.Node
	// hosts are the nodes of pools by their names.
	hosts map[string]host
	// foreign are members of kinds that are not switched on.
	foreign []*v1alpha1.EnsembleMember
	// namespaces are all that the cluster has.
	namespaces map[string]namespace
	// owners are the members that Jobs are of, and those whose pods no Job makes.
	owners map[pods.JobKey]*entry
	// strangers are the nodes that carry the label of a pool and are no machine of it.
	strangers []stranger
	// departing are the machines that go without anybody here having asked for it, by their nodes.
	departing map[string]types.UID
	// holders are the members whose status lists a node as held; nil until somebody asks.
	holders map[string]*entry
	// next is when a pass is due because of what was read; zero when none is.
	next time.Time
	// strays are pods behind our gate that belong to no member.
	strays []*pods.Pod
	// podVersions are the resource versions of the awaited pods as they were read, empty for one that is not there.
	podVersions map[types.NamespacedName]string
}

// host is a node of a pool.
type host struct {
	// name is its host name, by which pods select it.
	name string
	pool string
}

// namespace is what matters of a namespace.
type namespace struct {
	labels   map[string]string
	deleting bool
}

// entry is what a pass has read of one workload and its member; either may be missing.
type entry struct {
	// key is that of the member.
	key      types.NamespacedName
	kind     member.Kind
	workload *member.Workload
	// invalid is what is wrong with the workload, nil for nothing.
	invalid error
	member  *v1alpha1.EnsembleMember
	// groups are its groups of pods, at least one.
	groups []group
	// unreadable says why the workload cannot be read; workload is then what was read last.
	unreadable string
	// namespace is that of the member.
	namespace namespace
	// skip is set when this pass has changed or failed to change the member's spec: what is planned for it
	// waits for the next pass.
	skip bool
	// due is when a write that this pass has put off is to be made; zero for none.
	due time.Time
}

// observe reads everything from the caches. Nothing that it returns may be changed.
func (o *observer) observe(ctx context.Context) (*seen, error) {
	s := &seen{
		entries: map[types.NamespacedName]*entry{}, poolUIDs: map[string]types.UID{}, hosts: map[string]host{}, departing: map[string]types.UID{},
		namespaces: map[string]namespace{}, owners: map[pods.JobKey]*entry{}, byName: map[string]*plan.Pool{},
	}
	for _, read := range []func(context.Context, *seen) error{
		o.readMembers, o.readWorkloads, o.readNamespaces, o.readPools, o.readJobs, o.readPodsAndNodes,
	} {
		if err := read(ctx, s); err != nil {
			return nil, err
		}
	}
	o.notMade.read(ctx, s, o.clock.Now())
	o.workloads.forget()
	o.pools.forget()
	o.jobs.forget()
	o.nodes.forget()
	return s, nil
}

func (s *seen) entry(key types.NamespacedName) *entry {
	e := s.entries[key]
	if e == nil {
		e = &entry{key: key}
		s.entries[key] = e
	}
	return e
}

func (o *observer) readMembers(ctx context.Context, s *seen) error {
	var members v1alpha1.EnsembleMemberList
	if err := o.reader.List(ctx, &members, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list EnsembleMembers: %w", err)
	}
	for i := range members.Items {
		kind := o.kinds.Of(&members.Items[i])
		if kind == nil {
			// It is of a kind that this controller was not told to manage. What it has reserved stays its own.
			s.foreign = append(s.foreign, &members.Items[i])
			continue
		}
		e := s.entry(client.ObjectKeyFromObject(&members.Items[i]))
		e.kind, e.member = kind, &members.Items[i]
	}
	return nil
}

// readWorkloads reads the workloads of each kind that are managed, or have a member.
func (o *observer) readWorkloads(ctx context.Context, s *seen) error {
	good := make(map[types.UID]*member.Workload, len(s.entries))
	for _, kind := range o.kinds {
		list := kind.NewList()
		if err := o.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list %s: %w", kind.Words().Kinds, err)
		}
		if err := meta.EachListItem(list, func(item runtime.Object) error {
			object, is := item.(client.Object)
			if !is {
				return fmt.Errorf("a list of %s has a %T", kind.Words().Kinds, item)
			}
			o.readWorkload(s, kind, object, good)
			return nil
		}); err != nil {
			return err
		}
	}
	o.good = good
	for _, e := range s.entries {
		if e.workload == nil {
			e.groups = recordedGroups(e.member)
		}
	}
	return nil
}

func (o *observer) readWorkload(s *seen, kind member.Kind, object client.Object, good map[types.UID]*member.Workload) {
	key := types.NamespacedName{Namespace: object.GetNamespace(), Name: member.Name(kind, object.GetName())}
	if s.entries[key] == nil && !member.Managed(object) {
		return
	}
	e := s.entry(key)
	if e.kind != nil && e.kind != kind {
		// One of another kind that is called as if it were of this one.
		return
	}
	read := o.workloads.of(object, func() workloadReading {
		read := workloadReading{}
		if read.workload, read.invalid = kind.Parse(object); read.invalid == nil {
			read.invalid = read.workload.CheckGroups()
		}
		if read.workload != nil {
			read.needs = needsOfGroups(read.workload)
		}
		return read
	})
	e.kind, e.workload, e.invalid = kind, read.workload, read.invalid
	if e.workload != nil {
		good[object.GetUID()], e.groups = e.workload, groupsOf(e.workload, read.needs)
		return
	}
	// What cannot be read is there all the same: it is as it was.
	e.unreadable = e.invalid.Error()
	e.workload = member.Unreadable(kind, object, o.good[object.GetUID()], e.member)
	good[object.GetUID()], e.groups = e.workload, groupsOf(e.workload, needsOfGroups(e.workload))
}

// readNamespaces reads the labels of namespaces.
func (o *observer) readNamespaces(ctx context.Context, s *seen) error {
	var list corev1.NamespaceList
	if err := o.reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for i := range list.Items {
		s.namespaces[list.Items[i].Name] = namespace{list.Items[i].Labels, list.Items[i].DeletionTimestamp != nil}
	}
	for _, e := range s.entries {
		e.namespace = s.namespaces[e.key.Namespace]
	}
	return nil
}

func (o *observer) readPools(ctx context.Context, s *seen) error {
	var pools v1alpha1.NodePoolList
	if err := o.reader.List(ctx, &pools, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list NodePools: %w", err)
	}
	if err := o.readDaemonSets(ctx); err != nil {
		return err
	}
	for i := range pools.Items {
		s.poolUIDs[pools.Items[i].Name] = pools.Items[i].UID
		s.pools = append(s.pools, o.pools.of(&pools.Items[i], func() plan.Pool { return reading.Pool(&pools.Items[i], o.daemons) }))
	}
	return nil
}

// readDaemonSets reads the DaemonSets. When one of them has changed, what is known of the pools is no longer so.
func (o *observer) readDaemonSets(ctx context.Context) error {
	var sets appsv1.DaemonSetList
	if err := o.reader.List(ctx, &sets, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list DaemonSets: %w", err)
	}
	versions := make(map[types.UID]daemonVersion, len(sets.Items))
	for i := range sets.Items {
		versions[sets.Items[i].UID] = daemonVersion{sets.Items[i].Generation, sets.Items[i].DeletionTimestamp != nil}
	}
	if o.daemonVersions == nil || !maps.Equal(versions, o.daemonVersions) {
		o.daemons, o.daemonVersions, o.pools = reading.DaemonSets(sets.Items), versions, newMemory[plan.Pool]()
	}
	return nil
}

// readJobs finds the Jobs of each workload.
func (o *observer) readJobs(ctx context.Context, s *seen) error {
	var jobs batchv1.JobList
	if err := o.reader.List(ctx, &jobs, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list Jobs: %w", err)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		kind, owner := o.kinds.Owner(job)
		if owner == nil || owner.Job != job.Name {
			continue
		}
		key := types.NamespacedName{Namespace: job.Namespace, Name: member.Name(kind, owner.Name)}
		e := s.entries[key]
		if e == nil || e.kind != kind || e.uid() != owner.UID || (e.workload != nil && !e.workload.HasJob(owner)) {
			continue
		}
		if g := e.group(owner.Group); g != nil {
			g.jobs = append(g.jobs, job)
			// The operator of a kind may add containers of its own; the Job has them all. Jobs of one group are alike.
			g.needs = o.jobs.of(job, func() needs { return needsOf(&job.Spec.Template.Spec) })
			s.owners[keyOf(job)] = e
		}
	}
	for _, e := range s.entries {
		if !e.byJobs() {
			s.owners[pods.MemberKey(e.key)] = e
		}
		for i := range e.groups {
			// A cache lists in no order, and what was counted of Jobs in another one would be counted again.
			slices.SortFunc(e.groups[i].jobs, func(a, b *batchv1.Job) int { return cmp.Compare(a.Name, b.Name) })
		}
	}
	return nil
}

// name is that of the workload.
func (e *entry) name() string {
	if e.workload != nil {
		return e.workload.Key.Name
	}
	return member.TargetName(e.member)
}

// uid is that of the workload, known from its member when the workload itself is gone.
func (e *entry) uid() types.UID {
	if e.workload != nil {
		return e.workload.UID
	}
	if e.member != nil {
		if owner := metav1.GetControllerOf(e.member); owner != nil {
			return owner.UID
		}
	}
	return ""
}

// readPodsAndNodes gives each member its pods, and says of each node what the pods on it request. A pod of a member that was released
// for a node counts as one that is on it.
func (o *observer) readPodsAndNodes(ctx context.Context, s *seen) error {
	nodes, err := o.listNodes(ctx)
	if err != nil {
		return err
	}
	machines, err := o.readMachines(ctx, nodes)
	if err != nil {
		return err
	}
	foreign := s.foreignNodes()
	for i := range s.pools {
		pool := &s.pools[i]
		pool.MaxSize = max(0, pool.MaxSize-foreign[pool.Name])
		s.byName[pool.Name], pool.Coming = pool, machines.coming[pool.Name]
		if until := machines.toldUntil(&pool.OutOfStock); o.clock.Now().Before(until) {
			s.wake(until)
			pool.OutOfStock = plan.Stockout{}
		}
	}
	s.podVersions = map[types.NamespacedName]string{}
	o.ledger.store.Look(func(view *pods.View) {
		if o.awaited != nil {
			for _, key := range o.awaited() {
				s.podVersions[key] = view.Version(key)
			}
		}
		expected := o.readPods(s, view)
		o.readNodes(s, view, nodes, machines, expected)
	})
	o.ledger.end(s)
	return nil
}

// readPods gives each member its pods, and returns what is on its way to each node.
func (o *observer) readPods(s *seen, view *pods.View) (expected map[string]plan.Resources) {
	expected = map[string]plan.Resources{}
	for _, e := range s.entries {
		o.ledger.count(view, e)
		for i := range e.groups {
			for _, p := range e.groups[i].ranks.released {
				if expected[p.node] == nil {
					expected[p.node] = plan.Resources{}
				}
				expected[p.node].Add(p.requests)
			}
		}
	}
	for _, pod := range view.Gated() {
		job, _ := pod.Maker()
		if e := s.owners[job]; e == nil || e.unmanageable() {
			s.strays = append(s.strays, pod)
		}
	}
	return expected
}

// wake makes sure that a pass comes when time alone changes what is seen.
func (s *seen) wake(at time.Time) {
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
	}
}
