package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
)

// fill puts into the cluster what is there before the programs start: pools with their machines and nodes, nodes of somebody else,
// namespaces, Jobs, and pods.
func (b *bench) fill(ctx context.Context) error {
	filler := &estate.Filler{Client: b.client, Progress: b.progress, Node: inFull}
	size := estate.Size{Groups: b.pools, Nodes: b.options.nodes / 3}
	if err := filler.Fill(ctx, size); err != nil {
		return err
	}
	for group := range size.Groups {
		for n := range size.MachinesIn(group) {
			b.nodes = append(b.nodes, nodegroup.MachineName(estate.PoolName(group), int64(n)))
		}
	}
	own := len(b.nodes)
	for n := range b.options.nodes - own {
		b.nodes = append(b.nodes, fmt.Sprintf("ip-10-%d-%d-%d.internal", n>>16, n>>8&255, n&255))
	}
	model := estate.NodeOf(estate.MachineOf(estate.NodePool(size, 0), 0, metav1.Now().Time, ""))
	err := filler.Each(ctx, "foreign nodes", len(b.nodes)-own, func(ctx context.Context, n int) error {
		return b.create(ctx, foreignNode(model, b.nodes[own+n], n))
	})
	if err != nil {
		return err
	}
	for i := range namespaces {
		if err := b.create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(i)}}); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	b.jobs = make([]types.UID, b.options.jobs)
	err = filler.Each(ctx, "Jobs", len(b.jobs), func(ctx context.Context, n int) error {
		job := foreignJob(n)
		if err := b.create(ctx, job); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		b.jobs[n] = job.UID
		return nil
	})
	if err != nil {
		return err
	}
	pods := newMaker(b.nodes, b.jobs)
	return filler.Each(ctx, "foreign pods", b.stored, func(ctx context.Context, n int) error { return b.createPod(ctx, pods.pod(n, 0, 0)) })
}

func (b *bench) create(ctx context.Context, object client.Object) error {
	if err := b.client.Create(ctx, object); err != nil {
		return fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
	}
	return nil
}

// createPod creates a pod and writes the status that its kubelet would.
func (b *bench) createPod(ctx context.Context, pod *corev1.Pod) error {
	created := pod.DeepCopy()
	// The API server names whoever manages fields itself.
	created.ManagedFields, created.UID = nil, ""
	if err := b.create(ctx, created); err != nil {
		return err
	}
	created.Status = *pod.Status.DeepCopy()
	if err := b.client.Status().Update(ctx, created); err != nil {
		return fmt.Errorf("write the status of pod %s: %w", pod.Name, err)
	}
	return nil
}

// inFull adds to a node what a kubelet tells of it and nobody here reads.
func inFull(node *corev1.Node) {
	for n := range 40 {
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{
			Names: []string{
				fmt.Sprintf(
					"registry.example.com/shop/image-%d@sha256:%s", n, strings.Repeat("5b8f6d7d", 8),
				), fmt.Sprintf("registry.example.com/shop/image-%d:v1.42.7", n),
			},
			SizeBytes: 1 << 28,
		})
	}
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Annotations["csi.volume.kubernetes.io/nodeid"] = `{"ebs.csi.aws.com":"i-0123456789abcdef0","efs.csi.aws.com":"i-0123456789abcdef0"}`
	node.Status.NodeInfo.MachineID, node.Status.NodeInfo.SystemUUID = strings.Repeat("9c2e", 8), strings.Repeat("5b8f", 8)
	node.Status.NodeInfo.KernelVersion, node.Status.NodeInfo.OSImage = "6.12.40-100.x86_64", "Example Linux 2026.11.20261104"
}

// foreignNode is a node that belongs to no pool, shaped as those that do.
func foreignNode(model *corev1.Node, name string, n int) *corev1.Node {
	node := model.DeepCopy()
	node.Name, node.Spec.ProviderID, node.Spec.Taints = name, fmt.Sprintf("aws:///region-1a/i-%017x", n), nil
	node.Labels = map[string]string{
		corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelInstanceTypeStable: "m7.4xlarge",
		corev1.LabelTopologyRegion: "region-1", corev1.LabelTopologyZone: "region-1a", "eks.amazonaws.com/nodegroup": "general",
		"eks.amazonaws.com/capacityType": "ON_DEMAND",
	}
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: address(172, n)}, {Type: corev1.NodeHostName, Address: name},
	}
	inFull(node)
	return node
}

// foreignJob is one that no controller acts for.
func foreignJob(n int) *batchv1.Job {
	template := model("Job").Spec
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(n), Name: jobName(n)},
		Spec: batchv1.JobSpec{
			ManagedBy: new("example.com/bench"), Parallelism: new(int32(10)), Completions: new(int32(10)),
			Template: corev1.PodTemplateSpec{Spec: template},
		},
	}
}

// change is the n-th change of a foreign pod in the API server: most are of a status, one goes, and then one comes in its place.
func (b *bench) change(ctx context.Context, pods *maker, n int) error {
	step := stepOf(n, b.stored)
	pod := pods.pod(step.pod, step.turn, 0)
	switch step.kind {
	case stepModify:
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"example.com/heartbeat":"%d"}}}`, n)
		return gone(b.client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch)))
	case stepDelete:
		pod.UID = ""
		return gone(b.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	default:
		// Without a status: that would be another event.
		pod.ManagedFields, pod.UID = nil, ""
		return b.create(ctx, pod)
	}
}

// gone passes over that a pod of several changes under way is not there.
func gone(err error) error { return client.IgnoreNotFound(err) }

// step is what happens to a pod.
type step struct {
	kind      int
	pod, turn int
}

const (
	stepModify = iota
	stepDelete
	stepAdd
)

// absent is how many pods that have gone have not come back yet: the changes of one pod may not be under way at the same time.
const absent = 25

// stepOf is the n-th step of those that go on for ever: of four, two change a pod, the third takes one away, and the fourth has one that
// went some time ago back on another node.
func stepOf(n, pods int) step {
	round := n / 4
	// A prime, so that neighbours in time are none in the cluster.
	victim := func(round int) (pod, turn int) { return round * 7919 % pods, round / pods }
	switch {
	case n%4 == 2:
		pod, turn := victim(round)
		return step{stepDelete, pod, turn}
	case n%4 == 3 && round >= absent:
		pod, turn := victim(round - absent)
		return step{stepAdd, pod, turn + 1}
	default:
		return step{stepModify, (n*104_729 + 1) % pods, round / pods}
	}
}
