package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

const (
	namespace = corev1.NamespaceDefault
	poolName  = "bench"
	// pollPeriod is how often is looked, patience bounds everything that is waited for.
	pollPeriod = 500 * time.Millisecond
	patience   = 5 * time.Minute
)

// ensembles are the members of the benchmark, each with a connection from the address of its pod.
type ensembles struct {
	*options
	system   *system.System
	progress io.Writer
	members  []*member
}

type member struct {
	name       string
	connection *grpc.ClientConn
	endpoint   ensemble.EnsembleOperatorClient
}

func (e *ensembles) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(e.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

func memberName(i int) string { return fmt.Sprintf("m-%04d", i) }

// settle has nodes made, creates members and waits until each has the node that its pod is on.
func settle(ctx context.Context, s *system.System, o *options, progress io.Writer) (*ensembles, error) {
	e := &ensembles{options: o, system: s, progress: progress}
	pool := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: poolName},
		Spec: v1alpha1.NodePoolSpec{
			// The pool follows its minimum, in place of Cluster Autoscaler, so that no node goes while this lasts.
			MinSize: int32(2 * o.members), MaxSize: int32(3 * o.members), Autoscaler: v1alpha1.AutoscalerNone,
			ProvisionTimeout: metav1.Duration{Duration: patience},
			Template:         v1alpha1.NodeTemplate{Capacity: capacity()},
			Machines:         v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	if err := s.Client.Create(ctx, pool); err != nil {
		return nil, err
	}
	e.say("waiting for %d nodes", 2*o.members)
	if err := e.nodes(ctx); err != nil {
		return nil, err
	}
	e.say("creating %d MiniClusters, each with a Job and a pod", o.members)
	if err := e.forEach(ctx, o.members, e.member); err != nil {
		return nil, err
	}
	if err := e.sizes(ctx, 1); err != nil {
		return nil, err
	}
	addresses, err := e.addresses(ctx)
	if err != nil {
		return nil, err
	}
	for i := range o.members {
		m, err := connect(s.EndpointAddress, memberName(i), addresses[memberName(i)])
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		e.members = append(e.members, m)
	}
	e.say("waiting until all members are answered")
	err = e.forEach(ctx, o.members, func(ctx context.Context, i int) error {
		return harness.Poll(ctx, pollPeriod, patience, func() string {
			response, err := e.members[i].status(ctx)
			if err != nil {
				return err.Error()
			}
			if response.GetStatus() != ensemble.Response_SUCCESS {
				return response.String()
			}
			return ""
		})
	})
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func miniCluster(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "flux-framework.org/v1alpha2", "kind": "MiniCluster",
		"metadata": map[string]any{
			"namespace": namespace, "name": name, "annotations": map[string]any{v1alpha1.AnnotationNodePools: poolName},
		},
		"spec": map[string]any{
			"size": int64(1), "minSize": int64(1), "maxSize": int64(4),
			"containers": []any{map[string]any{
				"image": "bench", "runFlux": true, "command": "sleep infinity",
				"resources": map[string]any{"requests": map[string]any{"cpu": "3"}},
			}},
			"pod": map[string]any{"nodeSelector": map[string]any{v1alpha1.LabelNodePool: poolName}},
		},
	}}
}

func nodeName(i int) string { return nodegroup.MachineName(poolName, int64(i)) }

// nodes waits until the machines of the pool have registered nodes, which nobody uses yet.
func (e *ensembles) nodes(ctx context.Context) error {
	err := harness.Poll(ctx, time.Second, patience, func() string {
		var pool v1alpha1.NodePool
		if err := e.system.Client.Get(ctx, client.ObjectKey{Name: poolName}, &pool); err != nil {
			return err.Error()
		}
		if ready := int(pool.Status.Ready); ready < 2*e.options.members {
			return fmt.Sprintf("%d of %d nodes are Ready", ready, 2*e.options.members)
		}
		return ""
	})
	if err != nil {
		return err
	}
	// A controller that is not here takes away the taint of a node that was not Ready.
	return e.forEach(ctx, 2*e.options.members, func(ctx context.Context, i int) error {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}}
		return e.system.Client.Patch(ctx, node, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"taints":null}}`)))
	})
}

func capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
}

// member makes a MiniCluster, and the Job and the pod that the Flux Operator, the Job controller and the scheduler would
// make of it. kwok runs the pod.
func (e *ensembles) member(ctx context.Context, i int) error {
	cluster := miniCluster(memberName(i))
	if err := e.system.Client.Create(ctx, cluster); err != nil {
		return err
	}
	size := int32(1)
	meta := func(name string, owner client.Object, kind schema.GroupVersionKind) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: namespace, Name: name, OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)},
		}
	}
	needs := []corev1.Container{{Name: "bench", Image: "bench", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")},
	}}}
	job := &batchv1.Job{
		ObjectMeta: meta(memberName(i), cluster, cluster.GroupVersionKind()),
		Spec: batchv1.JobSpec{
			CompletionMode: new(batchv1.IndexedCompletion), Completions: &size, Parallelism: &size,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: needs}},
		},
	}
	if err := e.system.Client.Create(ctx, job); err != nil {
		return err
	}
	pod := &corev1.Pod{
		ObjectMeta: meta(memberName(i)+"-0", job, batchv1.SchemeGroupVersion.WithKind("Job")),
		Spec:       corev1.PodSpec{NodeName: nodeName(i), Containers: needs},
	}
	pod.Labels = map[string]string{batchv1.JobNameLabel: memberName(i), batchv1.JobCompletionIndexAnnotation: "0"}
	return e.system.Client.Create(ctx, pod)
}

// addresses are those of the pods, by their members. kwok gives each one of the loopback network.
func (e *ensembles) addresses(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	return out, harness.Poll(ctx, pollPeriod, patience, func() string {
		var pods corev1.PodList
		if err := e.system.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		for i := range pods.Items {
			if pod := &pods.Items[i]; pod.Status.PodIP != "" && pod.Status.Phase == corev1.PodRunning {
				out[pod.Labels[batchv1.JobNameLabel]] = pod.Status.PodIP
			}
		}
		if len(out) < e.options.members {
			return fmt.Sprintf("%d of %d pods run", len(out), e.options.members)
		}
		return ""
	})
}

func connect(endpoint, name, address string) (*member, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	connection, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", to) }))
	if err != nil {
		return nil, fmt.Errorf("connect to the ensemble endpoint: %w", err)
	}
	return &member{name: name, connection: connection, endpoint: ensemble.NewEnsembleOperatorClient(connection)}, nil
}

func (e *ensembles) close() error {
	var failures []error
	for _, m := range e.members {
		failures = append(failures, m.connection.Close())
	}
	return errors.Join(failures...)
}

func (m *member) status(ctx context.Context) (*ensemble.Response, error) {
	return m.endpoint.RequestStatus(ctx, &ensemble.StatusRequest{Member: "miniclusters", Name: m.name})
}

func (m *member) act(ctx context.Context, action string) (*ensemble.Response, error) {
	return m.endpoint.RequestAction(ctx, &ensemble.ActionRequest{
		Member: "miniclusters", Name: m.name, Action: action, Payload: fmt.Sprintf(
			`{"version":"v1alpha2","group":"flux-framework.org","%s":1}`, action,
		),
	})
}

// forEach does something for each number below count, several at a time.
func (e *ensembles) forEach(ctx context.Context, count int, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.connections)
	for i := range count {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// sizes waits until all members have a size, and the nodes for it.
func (e *ensembles) sizes(ctx context.Context, size int32) error {
	return harness.Poll(ctx, pollPeriod, patience, func() string {
		var list v1alpha1.EnsembleMemberList
		if err := e.system.Client.List(ctx, &list); err != nil {
			return err.Error()
		}
		there := 0
		for i := range list.Items {
			if m := &list.Items[i]; m.Spec.Size == size && m.Status.Size == size && m.Status.Nodes == size {
				there++
			}
		}
		if there < e.options.members {
			return fmt.Sprintf("%d of %d members have size %d", there, e.options.members, size)
		}
		return ""
	})
}

// resized waits until all MiniClusters have been given a size. begin is called when their changes are being watched: the
// API server sends them to one more client, and nothing else is asked of it.
func (e *ensembles) resized(ctx context.Context, size int64, begin func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	there := map[string]bool{}
	note := func(cluster *unstructured.Unstructured) {
		if given, _, err := unstructured.NestedInt64(cluster.Object, "spec", "size"); err == nil && given == size {
			there[cluster.GetName()] = true
		}
	}
	begun := make(chan error, 1)
	// The API server ends a watch that does not keep up; the next one begins with a list.
	for first := true; len(there) < e.options.members; first = false {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("flux-framework.org/v1alpha2")
		list.SetKind("MiniClusterList")
		if err := e.system.Client.List(ctx, list); err != nil {
			return err
		}
		for i := range list.Items {
			note(&list.Items[i])
		}
		watcher, err := e.system.Client.Watch(
			ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}},
		)
		if err != nil {
			return err
		}
		if first {
			go func() { begun <- begin(ctx) }()
		}
		for event := range watcher.ResultChan() {
			if cluster, is := event.Object.(*unstructured.Unstructured); is && event.Type != watch.Deleted {
				note(cluster)
			}
			if len(there) == e.options.members {
				break
			}
		}
		watcher.Stop()
	}
	return <-begun
}

// timing is how long calls took.
type timing struct {
	name, status string
	durations    []time.Duration
	all          time.Duration
}

// resize is how long it took until all MiniClusters were given another size, and until their members' status said that
// they have it.
type resize struct {
	name                   string
	members, before, after int
	took, atRest           time.Duration
}

func (r *resize) perSecond() float64 { return float64(r.members) / r.took.Seconds() }

// measure asks for the status, then for more, then for less.
func (e *ensembles) measure(ctx context.Context) (calls []timing, resizes []resize, err error) {
	e.say("measuring RequestStatus")
	status, err := e.time(
		ctx, "RequestStatus", e.calls, func(ctx context.Context, m *member) (*ensemble.Response, error) { return m.status(ctx) },
	)
	if err != nil {
		return nil, nil, err
	}
	calls = append(calls, status)
	for _, step := range []struct {
		action        string
		before, after int
	}{{"grow", 1, 2}, {"shrink", 2, 1}} {
		e.say("measuring RequestAction, %s", step.action)
		out := resize{
			name: step.action + " 1", members: e.options.members, before: step.before * e.options.members, after: step.after * e.options.members,
		}
		started := time.Now()
		err := e.resized(ctx, int64(step.after), func(ctx context.Context) error {
			asked, err := e.time(
				ctx, "RequestAction, "+step.action+" 1", e.options.members,
				func(ctx context.Context, m *member) (*ensemble.Response, error) { return m.act(ctx, step.action) },
			)
			calls = append(calls, asked)
			return err
		})
		out.took = time.Since(started)
		if err != nil {
			return nil, nil, err
		}
		if err := e.sizes(ctx, int32(step.after)); err != nil {
			return nil, nil, err
		}
		out.atRest = time.Since(started)
		resizes = append(resizes, out)
	}
	e.say("measuring RequestAction at the bound")
	refused, err := e.timeAnswered(ctx, "RequestAction, shrink below minSize", e.options.members, ensemble.Response_DENIED,
		func(ctx context.Context, m *member) (*ensemble.Response, error) { return m.act(ctx, "shrink") })
	return append(calls, refused), resizes, err
}

func (e *ensembles) time(
	ctx context.Context, name string, count int, ask func(context.Context, *member) (*ensemble.Response, error),
) (timing, error) {
	return e.timeAnswered(ctx, name, count, ensemble.Response_SUCCESS, ask)
}

// timeAnswered makes that many calls, each for another member in turn, and makes sure how they are answered.
func (e *ensembles) timeAnswered(
	ctx context.Context, name string, count int, want ensemble.Response_ResultType,
	ask func(context.Context, *member) (*ensemble.Response, error),
) (timing, error) {
	out := timing{name: name, status: want.String()}
	var mu sync.Mutex
	started := time.Now()
	err := e.forEach(ctx, count, func(ctx context.Context, i int) error {
		m := e.members[i%len(e.members)]
		began := time.Now()
		response, err := ask(ctx, m)
		took := time.Since(began)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", name, m.name, err)
		}
		if response.GetStatus() != want {
			return fmt.Errorf("%s of %s was answered %s", name, m.name, strings.TrimSpace(response.String()))
		}
		mu.Lock()
		out.durations = append(out.durations, took)
		mu.Unlock()
		return nil
	})
	out.all = time.Since(started)
	return out, err
}
