package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
)

// TestCluster tells what a whole control plane does. Its parts share one: a start takes seconds.
func TestCluster(t *testing.T) {
	plane := controlplanetest.Start(t, controlplane.Options{Parts: controlplane.All})
	clients := clientsFor(t, plane.AdminConfig())
	cluster := cluster{plane: plane, clients: clients}

	t.Run("kubectl and the API server are of the version that go.mod names", cluster.versions)
	t.Run("a kubeconfig file leads to the API server", cluster.kubeconfig)
	t.Run("RBAC refuses a ServiceAccount until a role allows", cluster.rbac)
	t.Run("a node is Ready at once and stays as its creator made it", cluster.node)
	t.Run("each pod of an Indexed Job runs at a loopback address of its own", cluster.indexedJob)
	t.Run("a pod with a time to run ends by itself", cluster.finishingPods)
	t.Run("scheduling is told in events", cluster.events)
	t.Run("the API server can go away and come back", cluster.apiServerRestart)
	t.Run("a component can crash and come back", cluster.componentRestart)
}

type cluster struct {
	plane   *controlplane.ControlPlane
	clients kubernetes.Interface
}

func clientsFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

func (c cluster) versions(t *testing.T) {
	goMod, err := os.ReadFile(filepath.Join("kubernetes", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := c.clients.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(goMod), "k8s.io/kubernetes "+version.GitVersion+" ") {
		t.Errorf("the API server says it is %s, which is not what kubernetes/go.mod requires", version.GitVersion)
	}
	kubectl, err := c.plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(kubectl, "version", "--client").CombinedOutput()
	if err != nil || !strings.Contains(string(output), version.GitVersion) {
		t.Errorf("kubectl version: %v %s, want %s", err, output, version.GitVersion)
	}
}

func (c cluster) kubeconfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "kubeconfig")
	if err := controlplane.WriteKubeconfig(path, c.plane.AdminConfig()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with an administrator's key has mode %v (%v), want 0600", info.Mode(), err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientsFor(t, config).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list nodes by way of the file: %v", err)
	}
}

func (c cluster) rbac(t *testing.T) {
	if _, err := c.plane.ServiceAccountConfig(t.Context(), "default", "nobody"); !apierrors.IsNotFound(err) {
		t.Errorf("the token of a ServiceAccount that does not exist: %v, want NotFound", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader", Namespace: "default"}}
	if _, err := c.clients.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config, err := c.plane.ServiceAccountConfig(t.Context(), "default", "reader")
	if err != nil {
		t.Fatal(err)
	}
	reader := clientsFor(t, config)

	_, err = reader.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:serviceaccount:default:reader") {
		t.Fatalf("list nodes without a role: %v, want Forbidden for the ServiceAccount", err)
	}
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "read-nodes"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "read-nodes"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "read-nodes"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: "reader"}},
	}
	if _, err := c.clients.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.clients.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := reader.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
	if _, err := reader.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list pods with a role for nodes: %v, want Forbidden", err)
	}
}

// newNode is a Node as a machine backend makes it.
func newNode(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{corev1.LabelHostname: name, "pool": "test"},
			Annotations: map[string]string{controlplane.NodeAnnotation: controlplane.NodeAnnotationValue},
		},
		Spec: corev1.NodeSpec{
			ProviderID: "test://" + name,
			Taints:     []corev1.Taint{{Key: "dedicated", Value: "test", Effect: corev1.TaintEffectNoSchedule}},
		},
		Status: corev1.NodeStatus{
			Capacity:    resources("8", "16Gi"),
			Allocatable: resources("7", "15Gi"),
		},
	}
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cpu),
		corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourcePods:   resource.MustParse("20"),
	}
}

func (c cluster) node(t *testing.T) {
	made := newNode("as-made")
	created, err := c.clients.CoreV1().Nodes().Create(t.Context(), made, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	var node *corev1.Node
	eventually(t, func(ctx context.Context) error {
		if node, err = c.clients.CoreV1().Nodes().Get(ctx, made.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		return usable(node, made.Spec.Taints)
	})
	t.Logf("Ready and without the taint for nodes that are not, %s after its creation", time.Since(start).Round(time.Millisecond))

	for _, kept := range []struct {
		what      string
		got, want any
	}{
		{"labels", node.Labels, created.Labels},
		{"provider ID", node.Spec.ProviderID, made.Spec.ProviderID},
		{"taints", node.Spec.Taints, made.Spec.Taints},
		{"capacity", asText(node.Status.Capacity), asText(made.Status.Capacity)},
		{"allocatable", asText(node.Status.Allocatable), asText(made.Status.Allocatable)},
	} {
		if !reflect.DeepEqual(kept.got, kept.want) {
			t.Errorf("the node's %s: %v, want %v", kept.what, kept.got, kept.want)
		}
	}

	unmarked := newNode("unmarked")
	unmarked.Annotations = nil
	if _, err := c.clients.CoreV1().Nodes().Create(t.Context(), unmarked, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.deleteNode(t, "as-made")
	// By the time that a later node is Ready, kwok has passed by the node without the annotation.
	c.createNode(t, "later")
	if node, err = c.clients.CoreV1().Nodes().Get(t.Context(), "unmarked", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if usable(node, unmarked.Spec.Taints) == nil {
		t.Error("a node without the annotation became Ready")
	}
	c.deleteNode(t, "later")
	c.deleteNode(t, "unmarked")
}

// usable says why pods cannot be placed on the node yet: it is not Ready, or it carries more taints than these.
func usable(node *corev1.Node, taints []corev1.Taint) error {
	if len(node.Spec.Taints) > len(taints) {
		return fmt.Errorf("node %s carries the taints %v", node.Name, node.Spec.Taints)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready: %v", node.Name, node.Status.Conditions)
}

func asText(list corev1.ResourceList) map[corev1.ResourceName]string {
	text := map[corev1.ResourceName]string{}
	for name, quantity := range list {
		text[name] = quantity.String()
	}
	return text
}

// createNode creates a node and waits until pods can be placed on it.
func (c cluster) createNode(t *testing.T, name string) {
	t.Helper()
	made := newNode(name)
	if _, err := c.clients.CoreV1().Nodes().Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		node, err := c.clients.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return usable(node, made.Spec.Taints)
	})
}

func (c cluster) deleteNode(t *testing.T, name string) {
	t.Helper()
	if err := c.clients.CoreV1().Nodes().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Errorf("delete node %s: %v", name, err)
	}
}

// newJob is an Indexed Job whose pods tolerate the taint of newNode.
func newJob(name string, size int32, annotations map[string]string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: batchv1.JobSpec{
			Completions:    new(size),
			Parallelism:    new(size),
			BackoffLimit:   new(int32(0)),
			CompletionMode: new(batchv1.IndexedCompletion),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Annotations: annotations},
				Spec: corev1.PodSpec{
					RestartPolicy:  corev1.RestartPolicyNever,
					Tolerations:    []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}},
					InitContainers: []corev1.Container{{Name: "before", Image: "example.org/image"}},
					Containers: []corev1.Container{{
						Name: "main", Image: "example.org/image",
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
					}},
				},
			},
		},
	}
}

// podsRun waits until the job has exactly that many pods and all of them are Ready.
func (c cluster) podsRun(t *testing.T, job string, size int) []corev1.Pod {
	t.Helper()
	var pods *corev1.PodList
	eventually(t, func(ctx context.Context) (err error) {
		pods, err = c.clients.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "job-name=" + job})
		if err != nil {
			return err
		}
		if len(pods.Items) != size {
			return fmt.Errorf("job %s has %d pods, want %d", job, len(pods.Items), size)
		}
		for _, pod := range pods.Items {
			if pod.Status.Phase != corev1.PodRunning || !ready(pod) {
				return fmt.Errorf("pod %s is %s: %v", pod.Name, pod.Status.Phase, pod.Status.Conditions)
			}
		}
		return nil
	})
	return pods.Items
}

func ready(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (c cluster) indexedJob(t *testing.T) {
	c.createNode(t, "for-job")
	defer c.deleteNode(t, "for-job")
	if _, err := c.clients.BatchV1().Jobs("default").Create(t.Context(), newJob("indexed", 5, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := c.podsRun(t, "indexed", 5)

	network := c.plane.PodNetwork()
	takenBy := map[string]string{}
	for _, pod := range pods {
		address := net.ParseIP(pod.Status.PodIP)
		if !address.IsLoopback() || !network.Contains(address) {
			t.Errorf("pod %s has the address %q, which is not in %s", pod.Name, pod.Status.PodIP, network.String())
		}
		if other, taken := takenBy[pod.Status.PodIP]; taken {
			t.Errorf("pods %s and %s share the address %s", pod.Name, other, pod.Status.PodIP)
		}
		takenBy[pod.Status.PodIP] = pod.Name
	}
	for _, pod := range pods {
		seen, err := addressSeenByServer(t, pod.Status.PodIP)
		if err != nil || seen != pod.Status.PodIP {
			t.Errorf("a server sees a connection from pod %s come from %q (%v), want %s", pod.Name, seen, err, pod.Status.PodIP)
		}
	}

	smaller := []byte(`{"spec":{"parallelism":2,"completions":2}}`)
	if _, err := c.clients.BatchV1().Jobs("default").Patch(
		t.Context(), "indexed", "application/merge-patch+json", smaller, metav1.PatchOptions{},
	); err != nil {
		t.Fatal(err)
	}
	for _, pod := range c.podsRun(t, "indexed", 2) {
		if index := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; index != "0" && index != "1" {
			t.Errorf("after the job shrank to 2, the pod of index %s is still there", index)
		}
	}
	c.deleteJob(t, "indexed")
}

// addressSeenByServer connects from the address to a server on 127.0.0.1 and returns what the server sees.
func addressSeenByServer(t *testing.T, address string) (seen string, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
	client, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		return "", err
	}
	server, err := listener.Accept()
	if err != nil {
		return "", errors.Join(err, client.Close())
	}
	seen, _, err = net.SplitHostPort(server.RemoteAddr().String())
	return seen, errors.Join(err, server.Close(), client.Close())
}

// deleteJob deletes the job and waits until its pods are gone.
func (c cluster) deleteJob(t *testing.T, name string) {
	t.Helper()
	background := metav1.DeletePropagationBackground
	if err := c.clients.BatchV1().Jobs("default").Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		pods, err := c.clients.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "job-name=" + name})
		if err == nil && len(pods.Items) > 0 {
			return fmt.Errorf("%d pods of the deleted job %s are still there", len(pods.Items), name)
		}
		return err
	})
}

func (c cluster) finishingPods(t *testing.T) {
	c.createNode(t, "for-finishing")
	defer c.deleteNode(t, "for-finishing")
	for _, test := range []struct {
		name, exitCode string
		want           batchv1.JobConditionType
	}{
		{"succeeds", "", batchv1.JobComplete},
		{"fails", "3", batchv1.JobFailed},
	} {
		annotations := map[string]string{controlplane.RunSecondsAnnotation: "1"}
		if test.exitCode != "" {
			annotations[controlplane.ExitCodeAnnotation] = test.exitCode
		}
		if _, err := c.clients.BatchV1().Jobs("default").Create(
			t.Context(), newJob(test.name, 1, annotations), metav1.CreateOptions{},
		); err != nil {
			t.Fatal(err)
		}
		eventually(t, func(ctx context.Context) error {
			job, err := c.clients.BatchV1().Jobs("default").Get(ctx, test.name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, condition := range job.Status.Conditions {
				if condition.Type == test.want && condition.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("job %s is not %s: %+v", test.name, test.want, job.Status)
		})
		c.deleteJob(t, test.name)
	}
}

func (c cluster) events(t *testing.T) {
	// There is no node at all.
	if _, err := c.clients.BatchV1().Jobs("default").Create(t.Context(), newJob("homeless", 1, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		events, err := c.clients.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedScheduling"})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if strings.HasPrefix(event.InvolvedObject.Name, "homeless-") {
				return nil
			}
		}
		return fmt.Errorf("none of %d events FailedScheduling is about the pod", len(events.Items))
	})
	c.deleteJob(t, "homeless")
}

func (c cluster) apiServerRestart(t *testing.T) {
	address := c.plane.URL()
	if err := c.plane.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.clients.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Fatal("the API server answers after it was stopped")
	}
	if err := c.plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.plane.URL() != address {
		t.Errorf("the API server moved from %s to %s", address, c.plane.URL())
	}
	if _, err := c.clients.CoreV1().ServiceAccounts("default").Get(t.Context(), "reader", metav1.GetOptions{}); err != nil {
		t.Errorf("what was stored before the restart: %v", err)
	}
	// The other components have found it again when a job runs.
	c.createNode(t, "after-restart")
	defer c.deleteNode(t, "after-restart")
	if _, err := c.clients.BatchV1().Jobs("default").Create(t.Context(), newJob("after-restart", 2, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.podsRun(t, "after-restart", 2)
	c.deleteJob(t, "after-restart")
}

func (c cluster) componentRestart(t *testing.T) {
	for _, name := range []string{
		controlplane.KubeScheduler, controlplane.KubeControllerManager, controlplane.KwokController, controlplane.Etcd,
	} {
		t.Run(name, func(t *testing.T) {
			c.createNode(t, "before-"+name)
			defer c.deleteNode(t, "before-"+name)
			if _, err := c.clients.BatchV1().Jobs("default").Create(
				t.Context(), newJob("before-"+name, 3, nil), metav1.CreateOptions{},
			); err != nil {
				t.Fatal(err)
			}
			pods := c.podsRun(t, "before-"+name, 3)

			process := c.plane.Component(name)
			before := process.Pid()
			if err := c.plane.Restart(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if process.Pid() == before || alive(before) {
				t.Errorf("%s is process %d and was %d, which is alive: %t", name, process.Pid(), before, alive(before))
			}

			if _, err := c.clients.BatchV1().Jobs("default").Create(t.Context(), newJob("after-"+name, 3, nil), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			pods = append(pods, c.podsRun(t, "after-"+name, 3)...)
			takenBy := map[string]string{}
			for _, pod := range pods {
				if other, taken := takenBy[pod.Status.PodIP]; taken {
					t.Errorf("pods %s and %s share the address %s", pod.Name, other, pod.Status.PodIP)
				}
				takenBy[pod.Status.PodIP] = pod.Name
			}
			c.deleteJob(t, "before-"+name)
			c.deleteJob(t, "after-"+name)
		})
	}
	if err := c.plane.Restart(t.Context(), "cloud-controller-manager"); err == nil {
		t.Error("Restart of a component that does not exist succeeded")
	}
}
