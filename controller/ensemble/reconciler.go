package ensemble

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// Reconciler makes the members of Ensembles.
type Reconciler struct {
	// Client reads from caches, of unstructured objects too, and writes to the API server. Of ConfigMaps the cache need
	// only have those with LabelEnsemble.
	Client client.Client
	// Live reads from the API server.
	Live     client.Reader
	Events   events.EventRecorder
	Clock    clock.PassiveClock
	Settings Settings
}

// Kinds are the kinds of objects that it reads.
func Kinds() []client.Object {
	return []client.Object{&v1alpha1.Ensemble{}, &corev1.ConfigMap{}, minicluster.New(), &autoscaling.EnsembleMember{}}
}

// indexEnsemble finds MiniClusters and ConfigMaps by the uid of the Ensemble that owns them.
const indexEnsemble = "metadata.ownerReferences.ensemble"

// SetupWithManager starts the reconciler with a manager.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	for _, kind := range []client.Object{minicluster.New(), &corev1.ConfigMap{}} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, kind, indexEnsemble, func(o client.Object) []string {
			if owner := ownerOf(o); owner != nil {
				return []string{string(owner.UID)}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("index %T by %s: %w", kind, indexEnsemble, err)
		}
	}
	owned := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if owner := ownerOf(o); owner != nil {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}}}
		}
		return nil
	})
	ofMember := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		cluster := minicluster.New()
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(o), cluster); err != nil {
			return nil
		}
		if owner := ownerOf(cluster); owner != nil {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}}}
		}
		return nil
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("ensemble").
		For(&v1alpha1.Ensemble{}).
		Watches(&corev1.ConfigMap{}, owned).
		Watches(minicluster.New(), owned).
		Watches(&autoscaling.EnsembleMember{}, ofMember).
		Complete(r)
}

// ownerOf is the Ensemble that an object is controlled by, nil for none.
func ownerOf(o metav1.Object) *metav1.OwnerReference {
	owner := metav1.GetControllerOf(o)
	if owner == nil || owner.APIVersion != v1alpha1.GroupVersion.String() || owner.Kind != "Ensemble" {
		return nil
	}
	return owner
}

const (
	// retryAfter is how long to wait after somebody else has written at the same time, if no event comes first.
	retryAfter = 500 * time.Millisecond
	// lookAgain is how often to look whether a name that somebody else has is free: no event tells of it.
	lookAgain = 30 * time.Second
)

// Reconcile implements reconcile.Reconciler: one pass over one Ensemble.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	e := &v1alpha1.Ensemble{}
	if err := r.Client.Get(ctx, request.NamespacedName, e); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if e.DeletionTimestamp != nil {
		// The garbage collector removes what it owns.
		return reconcile.Result{}, nil
	}
	findings := examine(e, r.Settings.DefaultNodePools)
	var members []observed
	var failures []error
	for i := range e.Spec.Members {
		o, err := r.member(ctx, e, i, len(findings.faults) == 0)
		if err != nil {
			failures = append(failures, fmt.Errorf("member %s: %w", memberName(e, i), err))
		}
		members = append(members, o)
	}
	if len(findings.faults) == 0 {
		failures = append(failures, r.remove(ctx, e))
	}
	failures = append(failures, r.report(ctx, e, findings, members))
	err := errors.Join(failures...)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		log.FromContext(ctx).V(1).Info("Another writer was first", "why", err.Error())
		return reconcile.Result{RequeueAfter: retryAfter}, nil
	}
	if slices.ContainsFunc(members, func(o observed) bool { return o.state == stateNameTaken }) && err == nil {
		return reconcile.Result{RequeueAfter: lookAgain}, nil
	}
	return reconcile.Result{}, err
}

// member brings what one member is made of in line, where it may, and says how the member is. The ConfigMap comes first:
// the pods of the MiniCluster mount it.
func (r *Reconciler) member(ctx context.Context, e *v1alpha1.Ensemble, i int, valid bool) (observed, error) {
	o := observed{name: memberName(e, i)}
	key := types.NamespacedName{Namespace: e.Namespace, Name: o.name}
	cluster := minicluster.New()
	switch err := r.Client.Get(ctx, key, cluster); {
	case apierrors.IsNotFound(err):
		cluster = nil
	case err != nil:
		return o, fmt.Errorf("read the MiniCluster: %w", err)
	case !metav1.IsControlledBy(cluster, e):
		o.state, o.message = stateNameTaken, fmt.Sprintf("MiniCluster %s is there and belongs to another; it is left alone", o.name)
		return o, nil
	}
	if cluster == nil && ended(e, i, valid) {
		o.state, o.message = stateEnded, "the ensemble has ended, and its MiniCluster was cleaned up (spec.cleanup)"
		return o, nil
	}
	var failure error
	if valid {
		cluster, failure = r.bring(ctx, e, i, cluster, &o)
		if failure != nil && !apierrors.IsConflict(failure) {
			// Who was second to write is so for a moment only.
			o.problem = failure.Error()
		}
	}
	if cluster == nil {
		if o.state == "" {
			o.state, o.message = stateCreating, cmp.Or(o.problem, "the MiniCluster is to be created")
		}
		return o, failure
	}
	return o, errors.Join(failure, r.observe(ctx, e, i, cluster, &o))
}

// bring brings what one member is made of in line, and returns the MiniCluster: also when it fails, if there is one.
func (r *Reconciler) bring(
	ctx context.Context, e *v1alpha1.Ensemble, i int, there *unstructured.Unstructured, o *observed,
) (*unstructured.Unstructured, error) {
	want, err := build(e, i, &r.Settings)
	if err != nil {
		return there, err
	}
	taken, err := r.configMap(ctx, e, want)
	if taken != "" {
		o.state, o.message = stateNameTaken, taken
	}
	if taken != "" || err != nil {
		return there, err
	}
	changed, err := r.cluster(ctx, e, there, want)
	if err != nil {
		return there, err
	}
	return changed, nil
}

// observe looks at a MiniCluster that is there, and at what is known of it beside.
func (r *Reconciler) observe(ctx context.Context, e *v1alpha1.Ensemble, i int, cluster *unstructured.Unstructured, o *observed) error {
	o.outdated = outdated(cluster, &e.Spec.Members[i])
	parsed, err := minicluster.Parse(cluster)
	if parsed != nil {
		o.size = parsed.Size()
	}
	switch {
	case o.state != "":
		return nil
	case err != nil:
		o.state, o.message = v1alpha1.ReasonInvalid, err.Error()
		return nil //nolint:nilerr // Trying again does not help; the line in the status says what is wrong.
	case !parsed.Managed():
		o.state, o.message = stateUnmanaged, "it names no nodePools, so its size stays as it is"
		return nil
	}
	member := &autoscaling.EnsembleMember{}
	switch err := r.Client.Get(ctx, client.ObjectKeyFromObject(cluster), member); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("read the EnsembleMember: %w", err)
	default:
		o.member = member
	}
	return nil
}

// ended reports whether a MiniCluster that is not there was, and has been cleaned up at its end. While the spec is not
// valid, what the status says of it stays.
func ended(e *v1alpha1.Ensemble, i int, valid bool) bool {
	name := memberName(e, i)
	if !valid && slices.ContainsFunc(e.Status.Members, func(m v1alpha1.MemberStatus) bool { return m.Name == name && m.State == stateEnded }) {
		return true
	}
	template, _ := minicluster.ParseTemplate(e.Spec.Members[i].MiniCluster.Raw, nil)
	return template != nil && template.Cleanup && created(e, name)
}

// created reports whether the status says that a member's MiniCluster was there once.
func created(e *v1alpha1.Ensemble, name string) bool {
	return slices.ContainsFunc(e.Status.Members, func(m v1alpha1.MemberStatus) bool {
		return m.Name == name && m.State != stateCreating && m.State != stateNameTaken
	})
}

// configMap brings the ensemble.yaml in line. taken says that somebody else has the name.
func (r *Reconciler) configMap(ctx context.Context, e *v1alpha1.Ensemble, want *desired) (taken string, err error) {
	key := client.ObjectKeyFromObject(want.configMap)
	there := &corev1.ConfigMap{}
	switch err := r.Client.Get(ctx, key, there); {
	case apierrors.IsNotFound(err):
		err := r.Client.Create(ctx, want.configMap)
		if apierrors.IsAlreadyExists(err) {
			// Somebody else's is not in the cache, and one that is ours may not be there yet.
			if err := r.Live.Get(ctx, key, there); err != nil {
				return "", fmt.Errorf("read the ConfigMap: %w", err)
			}
			if !metav1.IsControlledBy(there, e) {
				return fmt.Sprintf("ConfigMap %s is there and belongs to another; it is left alone", key.Name), nil
			}
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("create the ConfigMap: %w", err)
		}
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read the ConfigMap: %w", err)
	case !metav1.IsControlledBy(there, e):
		return fmt.Sprintf("ConfigMap %s is there and belongs to another; it is left alone", key.Name), nil
	case sameData(there.Data, want.configMap.Data):
		return "", nil
	}
	patch, err := dataPatch(there, want.configMap.Data)
	if err != nil {
		return "", err
	}
	changed := there.DeepCopy()
	if err := r.Client.Patch(ctx, changed, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return "", fmt.Errorf("update the ConfigMap: %w", err)
	}
	r.tell(
		ctx, e, changed, corev1.EventTypeNormal, "EnsembleChanged",
		fmt.Sprintf("ConfigMap %s has the new ensemble.yaml; a member reads it when it starts", key.Name),
	)
	return "", nil
}

// cluster creates the MiniCluster, or brings to it what can change.
func (r *Reconciler) cluster(
	ctx context.Context, e *v1alpha1.Ensemble, there *unstructured.Unstructured, want *desired,
) (*unstructured.Unstructured, error) {
	if there == nil {
		if err := r.current(ctx, e); err != nil {
			return nil, err
		}
		// Every MiniCluster is in the cache: one that is there already, whoever's it is, will be found there by the next pass.
		if err := r.Client.Create(ctx, want.cluster); err != nil {
			return nil, fmt.Errorf("create the MiniCluster: %w", err)
		}
		r.tell(
			ctx, e, want.cluster, corev1.EventTypeNormal, v1alpha1.ReasonCreated, fmt.Sprintf("created MiniCluster %s", want.cluster.GetName()),
		)
		return want.cluster, nil
	}
	patch := map[string]any{}
	annotations := map[string]any{}
	for _, key := range policyAnnotations {
		was, had := there.GetAnnotations()[key]
		is, has := want.cluster.GetAnnotations()[key]
		switch {
		case has && was != is:
			annotations[key] = is
		case had && !has:
			annotations[key] = nil
		}
	}
	before, hadMinSize, err := unstructured.NestedInt64(there.Object, "spec", "minSize")
	if err != nil {
		return nil, fmt.Errorf("read spec.minSize of the MiniCluster: %w", err)
	}
	switch {
	case want.minSize != nil && (!hadMinSize || before != *want.minSize):
		patch["spec"] = map[string]any{"minSize": *want.minSize}
	case want.minSize == nil && before != 0:
		patch["spec"] = map[string]any{"minSize": nil}
	}
	if len(annotations) == 0 && len(patch) == 0 {
		return there, nil
	}
	patch["metadata"] = map[string]any{"resourceVersion": there.GetResourceVersion(), "annotations": annotations}
	encoded, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode the patch of the MiniCluster: %w", err)
	}
	changed := there.DeepCopy()
	if err := r.Client.Patch(ctx, changed, client.RawPatch(types.MergePatchType, encoded)); err != nil {
		return nil, fmt.Errorf("change the MiniCluster: %w", err)
	}
	r.tell(ctx, e, changed, corev1.EventTypeNormal, "MemberChanged", fmt.Sprintf("changed MiniCluster %s: %s", there.GetName(), encoded))
	return changed, nil
}

// current fails with a conflict unless an Ensemble is as the API server has it. One that lags behind may not say yet that a
// MiniCluster was there and has ended, and would have it run twice.
func (r *Reconciler) current(ctx context.Context, e *v1alpha1.Ensemble) error {
	now := &v1alpha1.Ensemble{}
	switch err := r.Live.Get(ctx, client.ObjectKeyFromObject(e), now); {
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("read the Ensemble: %w", err)
	case err != nil || now.ResourceVersion != e.ResourceVersion:
		resource := v1alpha1.GroupVersion.WithResource("ensembles").GroupResource()
		return apierrors.NewConflict(
			resource, e.Name, fmt.Errorf("its resourceVersion is %q by now, not %q", now.ResourceVersion, e.ResourceVersion),
		)
	}
	return nil
}

// remove deletes what belongs to members that the Ensemble does not have any more: the MiniCluster first, whose pods use
// the other.
func (r *Reconciler) remove(ctx context.Context, e *v1alpha1.Ensemble) error {
	wanted := map[string]bool{}
	for i := range e.Spec.Members {
		wanted[memberName(e, i)] = true
	}
	for _, list := range []client.ObjectList{minicluster.NewList(), &corev1.ConfigMapList{}} {
		if err := r.Client.List(ctx, list, client.InNamespace(e.Namespace), client.MatchingFields{indexEnsemble: string(e.UID)}); err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
		objects, err := meta.ExtractList(list)
		if err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
		for _, object := range objects {
			o, is := object.(client.Object)
			if !is || wanted[o.GetName()] || o.GetDeletionTimestamp() != nil {
				continue
			}
			if err := r.Client.Delete(ctx, o, client.Preconditions{UID: new(o.GetUID())}); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("delete %T %s: %w", o, o.GetName(), err)
			}
			if _, isCluster := o.(*unstructured.Unstructured); isCluster {
				r.tell(
					ctx, e, o, corev1.EventTypeNormal, "MemberRemoved",
					fmt.Sprintf("deleted MiniCluster %s: the Ensemble has %d members", o.GetName(), len(e.Spec.Members)),
				)
			}
		}
	}
	return nil
}

// report writes the status where it differs, and tells what has changed in it.
func (r *Reconciler) report(ctx context.Context, e *v1alpha1.Ensemble, f *findings, members []observed) error {
	changed := e.DeepCopy()
	fill(changed, f, members, metav1.NewTime(r.Clock.Now()))
	if equality.Semantic.DeepEqual(e.Status, changed.Status) {
		return nil
	}
	if err := r.Client.Status().Update(ctx, changed); err != nil {
		return fmt.Errorf("write the status of Ensemble %s: %w", e.Name, err)
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionMembersCreated, v1alpha1.ConditionUpToDate} {
		was, is := meta.FindStatusCondition(e.Status.Conditions, kind), meta.FindStatusCondition(changed.Status.Conditions, kind)
		if is.Status != metav1.ConditionTrue && is.Reason != v1alpha1.ReasonCreating &&
			(was == nil || was.Status != is.Status || was.Message != is.Message) {
			r.tell(ctx, e, nil, corev1.EventTypeWarning, is.Reason, is.Message)
		}
	}
	return nil
}

// tell logs what happened to an Ensemble and makes an event of it. Events that differ in their note alone are taken for
// repetitions of the first; what they are about beside the Ensemble, if it is not nil, tells them apart.
func (r *Reconciler) tell(ctx context.Context, e *v1alpha1.Ensemble, about client.Object, kind, reason, message string) {
	log.FromContext(ctx).Info(message, "reason", reason)
	// Events have at most 1024 bytes.
	const most = 1000
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "")
	}
	if about == nil {
		r.Events.Eventf(e, nil, kind, reason, reason, "%s", message)
		return
	}
	r.Events.Eventf(e, about, kind, reason, reason, "%s", message)
}
