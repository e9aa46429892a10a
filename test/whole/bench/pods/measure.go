package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

const (
	namespace = corev1.NamespaceDefault
	jobName   = "bench"
	// pollPeriod is how often is looked, patience bounds everything that is waited for.
	pollPeriod = 50 * time.Millisecond
	patience   = time.Minute
	// nobody is a scheduler that does not exist: pods whose creation alone is measured are left alone.
	nobody = "nobody"
	// warmUp is the number of pods that each turn begins with and that do not count.
	warmUp = 40
)

// way is one way to create pods.
type way struct {
	name string
	// admission is set where what is ours is installed in admission, controller where the controller runs.
	admission, controller bool
	// labelled is set for pods with our label.
	labelled bool
}

// ways are in an order in which the fewest things have to be changed from one to the next, and back.
var ways = []way{
	{name: "without us", controller: true},
	{name: "with us", admission: true, controller: true},
	{name: "with us, our label", admission: true, controller: true, labelled: true},
	{name: "with us, controller stopped", admission: true},
}

// bench creates pods.
type bench struct {
	*options
	system    *system.System
	progress  io.Writer
	admission *admission
	job       *batchv1.Job
}

func (b *bench) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

// settle makes the nodes that pods are bound to, and the Job that pods with our label are of.
func (b *bench) settle(ctx context.Context) (err error) {
	// These have nothing to do here, and would take part of the cores for it.
	for _, process := range []*controlplane.Process{b.system.Autoscaler, b.system.Operator} {
		if err := process.Stop(stopWithin); err != nil {
			return err
		}
	}
	if b.admission, err = readAdmission(ctx, b.system.Client); err != nil {
		return err
	}
	for i := range 4 {
		if err := b.system.Client.Create(ctx, node(i)); err != nil {
			return fmt.Errorf("create a node: %w", err)
		}
	}
	b.job = &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: jobName},
		Spec: batchv1.JobSpec{
			// Otherwise the Job controller would delete pods that it has not made.
			ManagedBy: new("example.com/bench"),
			Template:  corev1.PodTemplateSpec{Spec: b.pod("", false).Spec},
		},
	}
	b.job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	if err := b.system.Client.Create(ctx, b.job); err != nil {
		return fmt.Errorf("create the Job: %w", err)
	}
	b.say("waiting until nodes and admission are ready")
	return harness.Poll(ctx, pollPeriod, patience, func() string {
		var nodes corev1.NodeList
		if err := b.system.Client.List(ctx, &nodes); err != nil {
			return err.Error()
		}
		for i := range nodes.Items {
			if taints := nodes.Items[i].Spec.Taints; len(taints) > 0 {
				return fmt.Sprintf("node %s has the taint %s", nodes.Items[i].Name, taints[0].Key)
			}
		}
		return b.admits(ctx, true)
	})
}

func node(i int) *corev1.Node {
	name := fmt.Sprintf("bench-%d", i)
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("1000Gi"),
		corev1.ResourcePods: resource.MustParse("10000"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{corev1.LabelHostname: name},
			Annotations: map[string]string{controlplane.NodeAnnotation: controlplane.NodeAnnotationValue},
		},
		Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity},
	}
}

// pod is one that no scheduler looks at.
func (b *bench) pod(name string, labelled bool) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "bench"}},
		Spec: corev1.PodSpec{
			SchedulerName: nobody,
			Containers: []corev1.Container{{Name: "bench", Image: "bench", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")},
			}}},
		},
	}
	if labelled {
		pod.Labels[v1alpha1.LabelMember] = jobName
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(b.job, batchv1.SchemeGroupVersion.WithKind("Job"))}
	}
	return pod
}

func gated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SchedulingGate })
}

// measure creates pods in all ways, round by round.
func (b *bench) measure(ctx context.Context) (*report, error) {
	r := newReport(b.options)
	// What the first pods cost, in caches and connections, is nobody's.
	b.say("warming up")
	if err := b.round(ctx, newReport(b.options), slices.Values(ways), 50, 5); err != nil {
		return nil, err
	}
	for i := range b.rounds {
		b.say("round %d of %d", i+1, b.rounds)
		order := slices.Clone(ways)
		// The warm-up has ended with the last.
		if i%2 == 0 {
			slices.Reverse(order)
		}
		if err := b.round(ctx, r, slices.Values(order), b.creates/b.rounds, b.binds/b.rounds); err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	return r, nil
}

func (b *bench) round(ctx context.Context, r *report, order func(func(way) bool), creates, binds int) error {
	for w := range order {
		if err := b.turn(ctx, r, w, creates, binds); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// turn creates pods in one way.
func (b *bench) turn(ctx context.Context, r *report, w way, creates, binds int) error {
	if err := b.run(ctx, w.controller); err != nil {
		return err
	}
	if err := b.be(ctx, w.admission); err != nil {
		return err
	}
	// What follows from a change, in caches and controllers, is not what a pod costs.
	if _, err := b.create(ctx, w, warmUp, b.callers); err != nil {
		return err
	}
	before := 0
	var err error
	if w.controller {
		if before, err = b.reviews(ctx); err != nil {
			return err
		}
	}
	for _, kind := range []struct {
		figures *measured
		callers int
	}{{r.serial, 1}, {r.concurrent, b.callers}} {
		durations, err := b.create(ctx, w, creates, kind.callers)
		if err != nil {
			return err
		}
		kind.figures.add(w, durations)
	}
	if !w.labelled {
		durations, err := b.bind(ctx, binds)
		if err != nil {
			return err
		}
		r.bound.add(w, durations)
	}
	if w.controller {
		after, err := b.reviews(ctx)
		if err != nil {
			return err
		}
		r.reviews[w.name] += after - before
	}
	return nil
}

// create creates pods, so many of them at a time, deletes them, and returns how long the creation of each took.
func (b *bench) create(ctx context.Context, w way, count, callers int) ([]time.Duration, error) {
	var mu sync.Mutex
	var durations []time.Duration
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(callers)
	for i := range count {
		group.Go(func() error {
			pod := b.pod(fmt.Sprintf("bench-%05d", i), w.labelled)
			began := time.Now()
			err := b.system.Client.Create(creating, pod)
			took := time.Since(began)
			if err != nil {
				return fmt.Errorf("create a pod: %w", err)
			}
			if gated(pod) != w.labelled {
				return fmt.Errorf("pod %s, with our label: %t, is gated: %t", pod.Name, w.labelled, gated(pod))
			}
			mu.Lock()
			durations = append(durations, took)
			mu.Unlock()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return durations, b.clear(ctx)
}

// bind creates pods that a free node has room for, one after the other, and returns how long each took from its creation until
// a watch said that it is bound.
func (b *bench) bind(ctx context.Context, count int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var pods corev1.PodList
	if err := b.system.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	watcher, err := b.system.Client.Watch(
		ctx, &pods, client.InNamespace(namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: pods.ResourceVersion}},
	)
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	defer watcher.Stop()
	var durations []time.Duration
	for i := range count {
		pod := b.pod(fmt.Sprintf("bound-%05d", i), false)
		pod.Spec.SchedulerName = corev1.DefaultSchedulerName
		began := time.Now()
		if err := b.system.Client.Create(ctx, pod); err != nil {
			return nil, fmt.Errorf("create a pod: %w", err)
		}
		if err := untilBound(ctx, watcher, pod.Name); err != nil {
			return nil, err
		}
		durations = append(durations, time.Since(began))
	}
	return durations, b.clear(ctx)
}

func untilBound(ctx context.Context, watcher watch.Interface, name string) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s is not bound: %w", name, ctx.Err())
		case event, more := <-watcher.ResultChan():
			pod, is := event.Object.(*corev1.Pod)
			if !more || !is {
				return fmt.Errorf("the watch of pods has ended: %v", event.Object)
			}
			if pod.Name == name && pod.Spec.NodeName != "" {
				return nil
			}
		}
	}
}

// clear deletes all pods.
func (b *bench) clear(ctx context.Context) error {
	if err := b.system.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)); err != nil {
		return fmt.Errorf("delete the pods: %w", err)
	}
	return nil
}
