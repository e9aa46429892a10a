package resize

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// ledger knows the pods of the cluster by what a pass asks for: by node, by Job, and those behind our gate. It follows the events of
// their informer, so that a pass costs what has changed and not what there is. Whose a Job is it does not know: a pod may be known
// before its Job is.
//
// It remembers what it was told last of each pod, and counts that again where something changes. Nothing is added up and subtracted
// over time: it says what a new one would that is told of all pods, in whatever order, and however often.
type ledger struct {
	mu    sync.Mutex
	pods  map[types.NamespacedName]*corev1.Pod
	nodes map[string]*tenants
	jobs  map[jobKey]*jobPods
	gated map[types.NamespacedName]*corev1.Pod
}

// jobKey tells Jobs apart: a pod is one of a Job only in the Job's namespace.
type jobKey struct {
	namespace string
	uid       types.UID
}

// tenants are the pods on a node that have not ended.
type tenants struct {
	pods map[types.NamespacedName]*corev1.Pod
	// requested and daemons are what all of them and what those of DaemonSets request; nil until they are counted. Passes share them.
	requested, daemons plan.Resources
}

// jobPods are the pods of a Job, those that have ended too.
type jobPods struct {
	pods map[types.NamespacedName]*podReading
	// ranks is what they come to for a size of the MiniCluster; nil until it is counted. Passes share it.
	ranks *ranks
	size  int32
}

func newLedger() *ledger {
	return &ledger{
		pods: map[types.NamespacedName]*corev1.Pod{}, nodes: map[string]*tenants{}, jobs: map[jobKey]*jobPods{}, gated: map[types.NamespacedName]*corev1.Pod{},
	}
}

// note is told of a pod as it is now.
func (l *ledger) note(pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := client.ObjectKeyFromObject(pod)
	before := l.pods[key]
	if before != nil && before.UID == pod.UID && before.ResourceVersion == pod.ResourceVersion && pod.ResourceVersion != "" {
		// It was told again, as all are once in a while.
		return
	}
	l.drop(key, before)
	job, of := jobOf(pod)
	lives := !ended(pod)
	if !of && !lives {
		return
	}
	l.pods[key] = pod
	if of {
		if l.jobs[job] == nil {
			l.jobs[job] = &jobPods{pods: map[types.NamespacedName]*podReading{}}
		}
		l.jobs[job].pods[key], l.jobs[job].ranks = podOf(pod), nil
	}
	if node := pod.Spec.NodeName; node != "" && lives {
		if l.nodes[node] == nil {
			l.nodes[node] = &tenants{pods: map[types.NamespacedName]*corev1.Pod{}}
		}
		on := l.nodes[node]
		on.pods[key], on.requested = pod, nil
	}
	if lives && pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && gates.Has(pod) {
		l.gated[key] = pod
	}
}

// gone is told of a pod that is there no more. What was known of it last may be old, as when its end was missed; its name is not.
func (l *ledger) gone(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(key, l.pods[key])
}

func (l *ledger) drop(key types.NamespacedName, pod *corev1.Pod) {
	if pod == nil {
		return
	}
	delete(l.pods, key)
	delete(l.gated, key)
	if job, of := jobOf(pod); of {
		pods := l.jobs[job]
		delete(pods.pods, key)
		pods.ranks = nil
		if len(pods.pods) == 0 {
			delete(l.jobs, job)
		}
	}
	if on := l.nodes[pod.Spec.NodeName]; on != nil {
		delete(on.pods, key)
		on.requested = nil
		if len(on.pods) == 0 {
			delete(l.nodes, pod.Spec.NodeName)
		}
	}
}

// jobOf is the Job that has made a pod.
func jobOf(pod *corev1.Pod) (key jobKey, of bool) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if !isJob(owner) {
		return jobKey{}, false
	}
	return jobKey{pod.Namespace, owner.UID}, true
}

// on is what all pods on a node and what those of DaemonSets request. The ledger has to be locked.
func (l *ledger) on(node string) (requested, daemons plan.Resources) {
	on := l.nodes[node]
	if on == nil {
		return nil, nil
	}
	if on.requested == nil {
		on.requested, on.daemons = plan.Resources{}, nil
		for _, pod := range on.pods {
			of := reading.PodRequests(pod)
			on.requested.Add(of)
			if isDaemonSet(metav1.GetControllerOfNoCopy(pod)) {
				if on.daemons == nil {
					on.daemons = plan.Resources{}
				}
				on.daemons.Add(of)
			}
		}
	}
	return on.requested, on.daemons
}

// of is what the pods of a Job come to for a size of its MiniCluster. The ledger has to be locked.
func (l *ledger) of(job jobKey, size int32) *ranks {
	pods := l.jobs[job]
	if pods == nil {
		return ranksOf(nil, size)
	}
	if pods.ranks == nil || pods.size != size {
		pods.ranks, pods.size = ranksOf(pods.pods, size), size
	}
	return pods.ranks
}

// version is the resource version of a pod, empty for one that is not there. The ledger has to be locked.
func (l *ledger) version(key types.NamespacedName) string {
	if pod := l.pods[key]; pod != nil {
		return pod.ResourceVersion
	}
	return ""
}

// follow lets a ledger hear of pods, and asks for a pass after each: a pass must not come before the ledger knows what it is for.
func (l *ledger) follow() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	note := func(object client.Object, q queue) {
		if pod, is := object.(*corev1.Pod); is {
			l.note(pod)
		}
		q.Add(everything)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { note(e.Object, q) },
		// The old object is no help: it may be another pod of the same name.
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { note(e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			l.gone(client.ObjectKeyFromObject(e.Object))
			q.Add(everything)
		},
	}
}
