package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

type reconciler struct {
	client client.Client
}

func (r *reconciler) register(manager ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(manager).
		Named("minicluster").
		For(newMiniCluster()).
		Owns(&batchv1.Job{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.clustersBeside)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("registering the MiniCluster reconciler: %w", err)
	}
	return nil
}

func newMiniCluster() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(miniClusterKind)
	return object
}

// clustersBeside names the MiniClusters in the namespace of a pod: each of them labels all pods there.
func (r *reconciler) clustersBeside(ctx context.Context, pod client.Object) []reconcile.Request {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(miniClusterKind)
	if err := r.client.List(ctx, list, client.InNamespace(pod.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing MiniClusters", "namespace", pod.GetNamespace())
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// Reconcile makes the Job of one MiniCluster follow it. Its steps are in the order of the real operator.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	object := newMiniCluster()
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if object.GetDeletionTimestamp() != nil {
		return reconcile.Result{}, nil
	}
	cluster, err := readMiniCluster(object)
	if err != nil {
		return reconcile.Result{}, reconcile.TerminalError(err)
	}
	if reason := ignoredBecause(cluster.Spec); reason != "" {
		ctrl.LoggerFrom(ctx).Info("MiniCluster ignored", "reason", reason)
		return reconcile.Result{}, nil
	}
	maximum := maximumSize(cluster)

	if err := r.ensureService(ctx, object, cluster); err != nil {
		return reconcile.Result{}, err
	}
	job, err := r.ensureJob(ctx, object, cluster)
	if err != nil {
		return reconcile.Result{}, err
	}
	status := cluster.Status
	if current := *job.Spec.Parallelism; current != cluster.Spec.Size {
		status.Size, err = r.resize(ctx, object, job, cluster.Spec.Size, current, maximum)
		if err != nil {
			return reconcile.Result{}, err
		}
	}
	status.MaximumSize = maximum
	status.Selector = selector(cluster.Name)
	status.Conditions = readyConditions(status.Conditions, time.Now())
	if err := r.writeStatus(ctx, object, status); err != nil {
		return reconcile.Result{}, err
	}
	pods := &corev1.PodList{}
	if err := r.client.List(ctx, pods, client.InNamespace(cluster.Namespace)); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing pods: %w", err)
	}
	if err := r.labelPods(ctx, cluster.Name, pods.Items); err != nil {
		return reconcile.Result{}, err
	}
	if cluster.Spec.Cleanup && leadBrokerEnded(cluster.Name, pods.Items) {
		ctrl.LoggerFrom(ctx).Info("deleting the MiniCluster, its lead broker has ended and cleanup is true")
		return reconcile.Result{}, client.IgnoreNotFound(r.client.Delete(ctx, object))
	}
	return reconcile.Result{}, nil
}

func (r *reconciler) ensureService(ctx context.Context, owner *unstructured.Unstructured, cluster miniCluster) error {
	service := newService(cluster)
	err := r.client.Get(ctx, client.ObjectKeyFromObject(service), &corev1.Service{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	if err := controllerutil.SetControllerReference(owner, service, r.client.Scheme()); err != nil {
		return fmt.Errorf("owning service %s: %w", service.Name, err)
	}
	if err := r.client.Create(ctx, service); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating service %s: %w", service.Name, err)
	}
	return nil
}

// ensureJob is the Job of the MiniCluster, created if there is none.
func (r *reconciler) ensureJob(ctx context.Context, owner *unstructured.Unstructured, cluster miniCluster) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: cluster.Namespace, Name: cluster.Name}, job)
	if err == nil {
		return job, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Job %s: %w", cluster.Name, err)
	}
	job = newJob(cluster)
	if err := controllerutil.SetControllerReference(owner, job, r.client.Scheme()); err != nil {
		return nil, fmt.Errorf("owning Job %s: %w", job.Name, err)
	}
	if err := r.client.Create(ctx, job); err != nil {
		return nil, fmt.Errorf("creating Job %s: %w", job.Name, err)
	}
	ctrl.LoggerFrom(ctx).Info("Job created", "size", cluster.Spec.Size)
	return job, nil
}

// resize applies the desired size to the Job, or writes a refused one back into the MiniCluster. It
// returns the size for the status.
func (r *reconciler) resize(
	ctx context.Context, object *unstructured.Unstructured, job *batchv1.Job, desired, current, maximum int32,
) (int32, error) {
	log := ctrl.LoggerFrom(ctx).WithValues("size", current, "desired", desired, "maximumSize", maximum)
	applied, refused := resize(desired, current, maximum)
	if refused {
		before := object.DeepCopy()
		if err := unstructured.SetNestedField(object.Object, int64(applied), "spec", "size"); err != nil {
			return 0, fmt.Errorf("setting spec.size: %w", err)
		}
		if err := r.client.Patch(ctx, object, client.MergeFrom(before)); err != nil {
			return 0, fmt.Errorf("writing size %d back: %w", applied, err)
		}
		log.Info("desired size refused and written back", "applied", applied)
		return applied, nil
	}
	before := job.DeepCopy()
	job.Spec.Parallelism, job.Spec.Completions = &applied, &applied
	if err := r.client.Patch(ctx, job, client.MergeFrom(before)); err != nil {
		return 0, fmt.Errorf("resizing Job %s to %d: %w", job.Name, applied, err)
	}
	log.Info("Job resized")
	return applied, nil
}

// writeStatus writes the status when it differs from that of object.
func (r *reconciler) writeStatus(ctx context.Context, object *unstructured.Unstructured, status miniClusterStatus) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		return fmt.Errorf("encoding the status: %w", err)
	}
	before := object.DeepCopy()
	object.Object["status"] = content
	patch := client.MergeFrom(before)
	difference, err := patch.Data(object)
	if err != nil {
		return fmt.Errorf("comparing the status: %w", err)
	}
	if string(difference) == "{}" {
		return nil
	}
	if err := r.client.Status().Patch(ctx, object, patch); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	return nil
}

// labelPods gives each pod of the namespace that lacks it the label job-index, with the part of the
// pod's name that would be the index if it were a pod of this MiniCluster. Pods of others get it too.
func (r *reconciler) labelPods(ctx context.Context, name string, pods []corev1.Pod) error {
	var failed []error
	for i := range pods {
		pod := &pods[i]
		if labels.Set(pod.Labels).Has(labelIndex) {
			continue
		}
		index, _, _ := strings.Cut(strings.Replace(pod.Name, name+"-", "", 1), "-")
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{labelIndex: index}}})
		if err != nil {
			return fmt.Errorf("encoding the label of pod %s: %w", pod.Name, err)
		}
		if err := r.client.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
			failed = append(failed, fmt.Errorf("labelling pod %s: %w", pod.Name, err))
		}
	}
	return errors.Join(failed...)
}

// leadBrokerEnded tells whether a pod of index 0 has ended, successfully or not.
func leadBrokerEnded(name string, pods []corev1.Pod) bool {
	for _, pod := range pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if ended && pod.Labels[batchv1.JobNameLabel] == name && strings.HasPrefix(pod.Name, name+"-0-") {
			return true
		}
	}
	return false
}
