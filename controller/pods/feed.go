package pods

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// listAgainAfter is how often all pods may be asked for because a Job has become a member's that was none. An operator makes no such
// Job; whoever may write Jobs can make one as often as they like.
const listAgainAfter = time.Minute

// feed keeps a store up to date with the API server. It runs on every replica: those that do not lead answer members.
type feed struct {
	kinds member.Kinds
	store *Store
	cache cache.Cache
	pods  toolscache.ListerWatcher
	log   logr.Logger
	// again asks for all pods once more.
	again chan struct{}
}

var _ manager.LeaderElectionRunnable = (*feed)(nil)

// Follow has a manager keep a store up to date, from its start on. Of pods whose Jobs are of none of the kinds little is kept.
func Follow(mgr manager.Manager, kinds member.Kinds, store *Store) error {
	config := rest.CopyConfig(mgr.GetConfig())
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	clients, err := kubernetes.NewForConfigAndClient(config, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for pods: %w", err)
	}
	f := &feed{
		kinds: kinds, store: store, cache: mgr.GetCache(), log: mgr.GetLogger().WithName("pods"), again: make(chan struct{}, 1),
		pods: toolscache.NewListWatchFromClient(clients.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.Everything()),
	}
	if err := mgr.Add(f); err != nil {
		return fmt.Errorf("add the watch of pods to the manager: %w", err)
	}
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*feed) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable. Jobs are known first, so that little is ever kept of the pods of foreign ones.
func (f *feed) Start(ctx context.Context) error {
	jobs, err := f.cache.GetInformer(ctx, &batchv1.Job{})
	if err != nil {
		return fmt.Errorf("watch Jobs: %w", err)
	}
	told, err := jobs.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: f.judge, UpdateFunc: f.changed, DeleteFunc: f.forget,
	})
	if err != nil {
		return fmt.Errorf("watch Jobs: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), told.HasSynced) {
		return nil
	}
	for ctx.Err() == nil {
		f.run(ctx)
	}
	return nil
}

// run watches pods until all of them are to be asked for again, or the context ends.
func (f *feed) run(ctx context.Context) {
	watching, end := context.WithCancel(ctx)
	defer end()
	reflector := toolscache.NewReflectorWithOptions(f.pods, &corev1.Pod{}, f.store, toolscache.ReflectorOptions{Name: "pods"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		reflector.RunWithContext(watching)
	}()
	select {
	case <-ctx.Done():
	case <-time.After(listAgainAfter):
		select {
		case <-ctx.Done():
		case <-f.again:
		}
	}
	end()
	<-done
}

func jobKeyOf(job *batchv1.Job) JobKey { return JobKey{job.Namespace, job.UID} }

// changed is told of a Job before and after. After a gap in the watch it may be another one of that name.
func (f *feed) changed(before, now any) {
	was, wasJob := before.(*batchv1.Job)
	if is, isJob := now.(*batchv1.Job); wasJob && isJob && was.UID != is.UID {
		f.forget(before)
	}
	f.judge(now)
}

func (f *feed) judge(object any) {
	job, is := object.(*batchv1.Job)
	if !is {
		return
	}
	_, owner := f.kinds.Owner(job)
	if !f.store.judge(jobKeyOf(job), owner == nil) {
		return
	}
	select {
	case f.again <- struct{}{}:
		f.log.Info("Asking for all pods again: a Job has become a member's that was none, and little is kept of its pods",
			"namespace", job.Namespace, "job", job.Name, "atMostEvery", listAgainAfter.String())
	default:
	}
}

func (f *feed) forget(object any) {
	if unknown, is := object.(toolscache.DeletedFinalStateUnknown); is {
		object = unknown.Obj
	}
	if job, is := object.(*batchv1.Job); is {
		f.store.forget(jobKeyOf(job))
	}
}
