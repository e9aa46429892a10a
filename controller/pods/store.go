package pods

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Store holds the pods of the cluster. It follows their watch, so that a pass costs what has changed and not what there is. Whose a Job
// is it does not know: a pod may be known before its Job is.
//
// It remembers what it was told last of each pod, and counts that again where something changes. Nothing is added up and subtracted
// over time: it says what a new one would that is told of all pods, in whatever order, and however often.
type Store struct {
	mu    sync.RWMutex
	pods  map[types.NamespacedName]*Pod
	nodes map[string]*tenants
	jobs  map[JobKey]*jobPods
	gated map[types.NamespacedName]*Pod
	// addresses has the pod at each address, and shared those at addresses that several say they have.
	addresses map[string]*Pod
	shared    map[string][]*Pod
	// version counts the changes of pods of Jobs.
	version uint64
	// foreign are the Jobs of which it is known that they are no member's.
	foreign map[JobKey]bool
	// changed is told of each change; before or after is nil for a pod that was not or is no more there.
	changed []func(before, after *Pod)
	// labels are those that are kept of pods beside those of every kind of workload.
	labels []string
	// filled is closed when it has been told of all pods for the first time.
	filled chan struct{}
	once   sync.Once
}

var _ toolscache.TransformingStore = (*Store)(nil)

// tenants are the pods on a node that have not ended.
type tenants struct {
	pods []*Pod
	// requested and daemons are what all of them and what those of DaemonSets request; nil until they are counted. They are shared.
	requested, daemons plan.Resources
}

// jobPods are the pods of a Job, or of a member that no Job has made, those that have ended too.
type jobPods struct {
	pods map[string]*Pod
	// version tells apart what they were at different times.
	version uint64
}

// touch gives the pods of a Job a version that they never had.
func (s *Store) touch(job *jobPods) {
	s.version++
	job.version = s.version
}

// New returns a store that knows no pod. It keeps some labels of pods beside those that are read of every kind of workload.
func New(labels ...string) *Store {
	return &Store{
		labels: labels, pods: map[types.NamespacedName]*Pod{}, nodes: map[string]*tenants{}, jobs: map[JobKey]*jobPods{},
		gated: map[types.NamespacedName]*Pod{}, addresses: map[string]*Pod{}, shared: map[string][]*Pod{}, foreign: map[JobKey]bool{},
		filled: make(chan struct{}),
	}
}

// Listen has a function called after each change, one call at a time; before or after is nil for a pod that was not or is no more
// there. It must not block, and must not ask the store. It has to be called before the store is fed.
func (s *Store) Listen(changed func(before, after *Pod)) { s.changed = append(s.changed, changed) }

// Filled is closed when the store knows all pods.
func (s *Store) Filled() <-chan struct{} { return s.filled }

// Transformer implements toolscache.TransformingStore: pods that wait to be told of are kept as small as the others.
func (s *Store) Transformer() toolscache.TransformFunc {
	return func(object any) (any, error) { return s.pod(object) }
}

// pod is what is kept of an object that a watch tells of.
func (s *Store) pod(object any) (*Pod, error) {
	switch object := object.(type) {
	case *Pod:
		return object, nil
	case *corev1.Pod:
		p := of(object, s.labels)
		if job, is := p.Job(); is && p.detail != nil && !p.gated && !p.labelled && s.isForeign(job) {
			p.detail = nil
		}
		return p, nil
	default:
		return nil, fmt.Errorf("the watch of pods tells of a %T", object)
	}
}

func (s *Store) isForeign(job JobKey) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.foreign[job]
}

// judge is told whether a Job is no member's. Of the pods of such a one only what is kept of every pod stays. It reports whether
// more is to be known of pods than is kept of them: those of a Job that was taken for one of nobody here.
func (s *Store) judge(job JobKey, foreign bool) (lacks bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.foreign[job]
	if !foreign {
		delete(s.foreign, job)
		return was
	}
	s.foreign[job] = true
	if of := s.jobs[job]; of != nil {
		for _, pod := range slices.Collect(maps.Values(of.pods)) {
			if !pod.gated && !pod.labelled {
				s.replace(pod, pod.slim())
			}
		}
	}
	return false
}

// forget is told of a Job that is there no more.
func (s *Store) forget(job JobKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.foreign, job)
}

// Add implements toolscache.ReflectorStore.
func (s *Store) Add(object any) error {
	pod, err := s.pod(object)
	if err != nil {
		return err
	}
	s.note(pod)
	return nil
}

// Update implements toolscache.ReflectorStore.
func (s *Store) Update(object any) error { return s.Add(object) }

// Delete implements toolscache.ReflectorStore. What is told of a pod that is gone may be old; its name is not.
func (s *Store) Delete(object any) error {
	pod, err := s.pod(object)
	if err != nil {
		return err
	}
	s.gone(pod.Key())
	return nil
}

// Replace implements toolscache.ReflectorStore: these are all pods that there are.
func (s *Store) Replace(objects []any, _ string) error {
	// The first time there is nobody who could have gone, and memory is scarcest.
	var left map[types.NamespacedName]bool
	if s.knowsAny() {
		left = make(map[types.NamespacedName]bool, len(objects))
	}
	for _, object := range objects {
		pod, err := s.pod(object)
		if err != nil {
			return err
		}
		if left != nil {
			left[pod.Key()] = true
		}
		s.note(pod)
	}
	if left != nil {
		for _, key := range s.missing(left) {
			s.gone(key)
		}
	}
	s.once.Do(func() { close(s.filled) })
	return nil
}

func (s *Store) knowsAny() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.pods) > 0
}

func (s *Store) missing(left map[types.NamespacedName]bool) []types.NamespacedName {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var gone []types.NamespacedName
	for key := range s.pods {
		if !left[key] {
			gone = append(gone, key)
		}
	}
	return gone
}

// Resync implements toolscache.ReflectorStore. There is nothing to be told again.
func (*Store) Resync() error { return nil }

// note is told of a pod as it is now.
func (s *Store) note(pod *Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.pods[pod.Key()]
	same := before != nil && before.uid == pod.uid && before.resourceVersion == pod.resourceVersion && pod.resourceVersion != ""
	if same && (before.detail != nil || pod.detail == nil) {
		// It was told again, as all are when a watch begins.
		return
	}
	s.replace(before, pod)
}

// gone is told of a pod that is there no more.
func (s *Store) gone(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.pods[key]; before != nil {
		s.replace(before, nil)
	}
}

// replace puts a pod, nil for none, in the place of another. The store is locked.
func (s *Store) replace(before, after *Pod) {
	if before != nil {
		s.drop(before)
	}
	if after != nil && !s.add(after) {
		after = nil
	}
	if before == nil && after == nil {
		return
	}
	for _, changed := range s.changed {
		changed(before, after)
	}
}

// add reports whether the pod is one to keep: one that has ended is of interest to its Job alone.
func (s *Store) add(pod *Pod) bool {
	job, is := pod.Maker()
	if pod.ended && (!is || pod.detail == nil) {
		return false
	}
	key := pod.Key()
	s.pods[key] = pod
	if is && pod.detail != nil {
		if s.jobs[job] == nil {
			s.jobs[job] = &jobPods{pods: map[string]*Pod{}}
		}
		s.jobs[job].pods[pod.name] = pod
		s.touch(s.jobs[job])
	}
	if node := pod.Node(); node != "" && !pod.ended {
		if s.nodes[node] == nil {
			s.nodes[node] = &tenants{}
		}
		on := s.nodes[node]
		on.pods, on.requested = append(on.pods, pod), nil
	}
	if pod.gated && !pod.ended && !pod.deleting && pod.Node() == "" {
		s.gated[key] = pod
	}
	for _, address := range pod.alone() {
		switch other := s.addresses[address]; {
		case len(s.shared[address]) > 0:
			s.shared[address] = append(s.shared[address], pod)
		case other != nil:
			s.shared[address] = []*Pod{other, pod}
			delete(s.addresses, address)
		default:
			s.addresses[address] = pod
		}
	}
	return true
}

func (s *Store) drop(pod *Pod) {
	key := pod.Key()
	delete(s.pods, key)
	delete(s.gated, key)
	if job, is := pod.Maker(); is && s.jobs[job] != nil {
		delete(s.jobs[job].pods, pod.name)
		s.touch(s.jobs[job])
		if len(s.jobs[job].pods) == 0 {
			delete(s.jobs, job)
		}
	}
	if on := s.nodes[pod.Node()]; on != nil {
		if at := slices.Index(on.pods, pod); at >= 0 {
			on.pods, on.requested = slices.Delete(on.pods, at, at+1), nil
		}
		if len(on.pods) == 0 {
			delete(s.nodes, pod.Node())
		}
	}
	for _, address := range pod.alone() {
		if s.addresses[address] == pod {
			delete(s.addresses, address)
		}
		if at := slices.Index(s.shared[address], pod); at >= 0 {
			rest := slices.Delete(s.shared[address], at, at+1)
			s.shared[address] = rest
			if len(rest) == 1 {
				s.addresses[address] = rest[0]
				delete(s.shared, address)
			}
		}
	}
}

// At are the pods that have an address for themselves.
func (s *Store) At(address string) []*Pod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if pod := s.addresses[address]; pod != nil {
		return []*Pod{pod}
	}
	return slices.Clone(s.shared[address])
}

// Get is the pod of a name, nil for none.
func (s *Store) Get(key types.NamespacedName) *Pod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pods[key]
}

// On are the pods on a node that have not ended.
func (s *Store) On(node string) []*Pod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if on := s.nodes[node]; on != nil {
		return slices.Clone(on.pods)
	}
	return nil
}

// Look calls a function with all pods as they are at one time. Nothing of what it is given may be changed.
func (s *Store) Look(look func(*View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	look(&View{s})
}

// View is a Store at one time.
type View struct{ s *Store }

// Requested is what all pods on a node and what those of DaemonSets request, nil for nothing. Both are shared: nobody may change them.
func (v *View) Requested(node string) (requested, daemons plan.Resources) {
	on := v.s.nodes[node]
	if on == nil {
		return nil, nil
	}
	if on.requested == nil {
		on.requested, on.daemons = plan.Resources{}, nil
		for _, pod := range on.pods {
			text := pod.alike.Value().requests
			addAmounts(on.requested, text)
			if pod.daemon {
				if on.daemons == nil {
					on.daemons = plan.Resources{}
				}
				addAmounts(on.daemons, text)
			}
		}
	}
	return on.requested, on.daemons
}

// Job has the pods of a maker by their names, those that have ended too, and a version that is another one when they have changed.
func (v *View) Job(key JobKey) (of map[string]*Pod, version uint64) {
	if job := v.s.jobs[key]; job != nil {
		return job.pods, job.version
	}
	return nil, 0
}

// Gated are the pods behind the gate that have neither ended nor are about to.
func (v *View) Gated() map[types.NamespacedName]*Pod { return v.s.gated }

// Version is the resource version of a pod, empty for one that is not there.
func (v *View) Version(key types.NamespacedName) string {
	if pod := v.s.pods[key]; pod != nil {
		return pod.resourceVersion
	}
	return ""
}
