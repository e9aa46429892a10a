package main

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// namespaces is how many the pods are spread over.
	namespaces = 20
	// daemonsEvery and endedEvery are how many pods there are for one of a DaemonSet, and for one that has ended.
	daemonsEvery, endedEvery = 10, 50
)

func namespaceName(i int) string { return fmt.Sprintf("tenant-%02d", i%namespaces) }

func jobName(job int) string { return fmt.Sprintf("simulation-%04d", job) }

// maker makes foreign pods, each from its number alone.
type maker struct {
	nodes  []string
	jobs   []types.UID
	models map[string]*corev1.Pod // by kind of owner
}

func newMaker(nodes []string, jobs []types.UID) *maker {
	m := &maker{nodes: nodes, jobs: jobs, models: map[string]*corev1.Pod{}}
	for _, kind := range []string{"Job", "DaemonSet", "ReplicaSet"} {
		m.models[kind] = model(kind)
	}
	return m
}

// pod is the i-th pod. turn tells apart those that had its name one after the other. A third are of Jobs, some of DaemonSets, the rest of
// ReplicaSets. What does not differ between them is shared, and nobody may change it.
func (m *maker) pod(i, turn int, version uint64) *corev1.Pod {
	var owner metav1.OwnerReference
	namespace := namespaceName(i)
	switch {
	case i%3 == 0:
		job := i / 3 % len(m.jobs)
		namespace = namespaceName(job)
		owner = metav1.OwnerReference{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Name: jobName(job), UID: m.jobs[job]}
	case i%daemonsEvery == 1:
		owner = metav1.OwnerReference{
			APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "DaemonSet", Name: "agent", UID: uid("d", i%namespaces, 0),
		}
	default:
		namespace = namespaceName(i / 20)
		owner = metav1.OwnerReference{
			APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "ReplicaSet", Name: fmt.Sprintf("service-%05d-7d9c5b8f6d", i/20),
			UID: uid("b", i/20, 0),
		}
	}
	owner.Controller, owner.BlockOwnerDeletion = new(true), new(true)
	pod := *m.models[owner.Kind]
	pod.Namespace, pod.Name = namespace, fmt.Sprintf("%s-%06d", owner.Name, i)
	pod.UID, pod.OwnerReferences = uid("a", i, turn), []metav1.OwnerReference{owner}
	if version > 0 {
		pod.ResourceVersion = fmt.Sprint(version)
	}
	node := (i + turn) % len(m.nodes)
	pod.Spec.NodeName = m.nodes[node]
	pod.Status.HostIP, pod.Status.PodIP = address(172, node), address(10, i)
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	if owner.Kind == "Job" && i%endedEvery == 0 {
		pod.Status.Phase = corev1.PodSucceeded
	}
	return &pod
}

// uid is a UUID. The kind is a digit.
func uid(kind string, i, turn int) types.UID {
	return types.UID(fmt.Sprintf("%s%07x-%04x-4d1f-9c2e-5b8f6d7d9c5b", kind, i, turn))
}

func address(first, i int) string {
	return fmt.Sprintf("%d.%d.%d.%d", first, i>>16&255, i>>8&255, i&255)
}

// model is a pod as an API server tells of it, of a size that is usual.
func model(kind string) *corev1.Pod {
	since := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			CreationTimestamp: since,
			Labels: map[string]string{
				"app.kubernetes.io/name": "service", "app.kubernetes.io/instance": "production", "app.kubernetes.io/part-of": "shop",
				"pod-template-hash": "7d9c5b8f6d",
			},
			Annotations: map[string]string{
				"checksum/config": strings.Repeat("5b8f6d7d", 8), "prometheus.io/scrape": "true", "prometheus.io/port": "9102",
				"cni.projectcalico.org/podIP": "10.0.0.1/32", "cni.projectcalico.org/containerID": strings.Repeat("c2e5b8f6", 8),
			},
		},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{
				{
					Name: "config",
					VolumeSource: corev1.VolumeSource{
						ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "service"}},
					},
				},
				{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
			},
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, ServiceAccountName: "service",
			DeprecatedServiceAccount: "service",
			SchedulerName:            corev1.DefaultSchedulerName, TerminationGracePeriodSeconds: new(int64(30)),
			Tolerations: []corev1.Toleration{
				{
					Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
					TolerationSeconds: new(int64(300)),
				},
				{
					Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
					TolerationSeconds: new(int64(300)),
				},
				{Key: "example.com/dedicated", Operator: corev1.TolerationOpExists},
			},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, StartTime: &since},
	}
	if kind == "Job" {
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
	for _, condition := range []corev1.PodConditionType{
		corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
	} {
		pod.Status.Conditions = append(
			pod.Status.Conditions, corev1.PodCondition{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: since},
		)
	}
	for n, name := range []string{"service", "proxy"} {
		container := corev1.Container{
			Name: name, Image: "registry.example.com/shop/" + name + ":v1.42.7", ImagePullPolicy: corev1.PullIfNotPresent,
			Args:  []string{"--config=/etc/service/config.yaml", "--listen=:8443", "--log-level=info"},
			Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: int32(8443 + n), Protocol: corev1.ProtocolTCP}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
			},
			VolumeMounts: []corev1.VolumeMount{
				{
					Name: "config", MountPath: "/etc/service", ReadOnly: true,
				}, {Name: "scratch", MountPath: "/tmp"}, {Name: "data", MountPath: "/var/lib/service"},
			},
			TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		}
		for e := range 10 {
			container.Env = append(
				container.Env,
				corev1.EnvVar{Name: fmt.Sprintf("SERVICE_SETTING_%d", e), Value: fmt.Sprintf("https://upstream-%d.shop.svc.cluster.local:8443", e)},
			)
		}
		pod.Spec.Containers = append(pod.Spec.Containers, container)
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: true, Started: new(true), Image: container.Image,
			ImageID:     "registry.example.com/shop/" + name + "@sha256:" + strings.Repeat("5b8f6d7d", 8),
			ContainerID: "containerd://" + strings.Repeat("9c2e5b8f", 8), State: corev1.ContainerState{
				Running: &corev1.ContainerStateRunning{StartedAt: since},
			},
		})
	}
	for _, manager := range []string{"kube-controller-manager", "kubelet"} {
		pod.ManagedFields = append(pod.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &since, FieldsType: "FieldsV1",
			FieldsV1: fieldsSet(),
		})
	}
	return pod
}

// fieldsSet are as many as one manager of a pod has.
func fieldsSet() *metav1.FieldsV1 {
	var of []string
	for n := range 20 {
		of = append(of, fmt.Sprintf(`"f:setting-%d":{".":{},"f:name":{},"f:value":{}}`, n))
	}
	out := &metav1.FieldsV1{}
	out.SetRawBytes([]byte(`{"f:spec":{` + strings.Join(of, ",") + `}}`))
	return out
}
