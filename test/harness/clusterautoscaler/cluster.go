package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/util/retry"
)

// watched is a cluster read through watches.
type watched struct {
	clients kubernetes.Interface
	nodes   listers.NodeLister
	pods    listers.PodLister
}

// watchCluster returns when nodes and pods are known. Its stop ends the watches and waits for them.
func watchCluster(ctx context.Context, clients kubernetes.Interface) (_ *watched, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactory(clients, 0)
	w := &watched{
		clients: clients,
		nodes:   factory.Core().V1().Nodes().Lister(),
		pods:    factory.Core().V1().Pods().Lister(),
	}
	factory.Start(ctx.Done())
	stop = func() {
		cancel()
		factory.Shutdown()
	}
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			stop()
			return nil, nil, fmt.Errorf("stopped before all of %s was read", kind)
		}
	}
	return w, stop, nil
}

// Nodes implements cluster.
func (w *watched) Nodes() ([]*corev1.Node, error) {
	nodes, err := w.nodes.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	return nodes, nil
}

// Pods implements cluster.
func (w *watched) Pods() ([]*corev1.Pod, error) {
	pods, err := w.pods.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return pods, nil
}

// AddTaint implements cluster.
func (w *watched) AddTaint(ctx context.Context, node string, taint corev1.Taint) error {
	return w.edit(ctx, node, func(taints []corev1.Taint) []corev1.Taint {
		return append(without(taints, taint.Key), taint)
	})
}

// RemoveTaint implements cluster.
func (w *watched) RemoveTaint(ctx context.Context, node, key string) error {
	return w.edit(ctx, node, func(taints []corev1.Taint) []corev1.Taint { return without(taints, key) })
}

func without(taints []corev1.Taint, key string) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool { return t.Key == key })
}

func (w *watched) edit(ctx context.Context, name string, change func([]corev1.Taint) []corev1.Taint) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := w.clients.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		taints := change(node.Spec.Taints)
		if slices.EqualFunc(
			taints, node.Spec.Taints, func(a, b corev1.Taint) bool { return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect },
		) {
			return nil
		}
		node.Spec.Taints = taints
		_, err = w.clients.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("changing the taints of node %s: %w", name, err)
	}
	return nil
}
