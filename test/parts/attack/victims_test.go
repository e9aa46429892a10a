package attack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// Addresses of those who are to be served.
const (
	autoscalerIP = "127.77.0.1"
	memberIP     = "127.77.0.2"
	newcomerIP   = "127.77.0.4"
	prometheusIP = "127.77.0.3"
)

// victim asks one thing again and again while strangers attack.
type victim struct {
	name  string
	every time.Duration
	ask   func(ctx context.Context) error
	// patience is how long it waits for an answer, and p99 how long 99 of 100 answers may take.
	patience, p99 time.Duration

	mu       sync.Mutex
	took     []time.Duration
	failures []error
}

// run asks until the context ends.
func (v *victim) run(ctx context.Context) {
	ticker := time.NewTicker(v.every)
	defer ticker.Stop()
	for {
		v.once(context.WithoutCancel(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (v *victim) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, v.patience)
	defer cancel()
	began := time.Now()
	err := v.ask(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.took = append(v.took, time.Since(began))
	if err != nil {
		v.failures = append(v.failures, err)
	}
}

// check tells what it met, and that it was served: of a hundred questions one may go wrong, which all of them ask again. The bound of the
// time is near to the patience that they have: the machine also plays the strangers.
func (v *victim) check(t *testing.T) {
	t.Helper()
	slices.Sort(v.took)
	percent := 99
	if len(v.took) < 100 {
		// Of so few the last hundredth is one, and one moment in which the machine stands still decides.
		percent = 90
	}
	late := v.took[len(v.took)*percent/100]
	t.Logf("%s: %d asked, %d failed, median %s, p%d %s", v.name, len(v.took), len(v.failures),
		v.took[len(v.took)/2].Round(10*time.Microsecond), percent, late.Round(10*time.Microsecond))
	if len(v.failures) > max(1, len(v.took)/100) {
		t.Errorf("%s: %d of %d failed, the first with: %v", v.name, len(v.failures), len(v.took), v.failures[0])
	}
	if late > v.p99 {
		t.Errorf("%s: p%d is %s, above %s", v.name, percent, late, v.p99)
	}
}

// dial connects from an address of this host until the test ends.
func dial(t *testing.T, from, to string, transport credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer(from).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return connection
}

func connect(from, to string, transport credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer(from).DialContext(ctx, "tcp", address)
		}))
}

func dialer(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
}

// victims are those who have to be served.
func victims(t *testing.T, s *system.System) []*victim {
	t.Helper()
	own, err := s.AutoscalerTLS()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := s.TLS()
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []*tls.Config{own, shown} {
		config.ServerName = "127.0.0.1"
	}
	cloud := externalgrpc.NewCloudProviderClient(dial(t, autoscalerIP, s.ProviderAddress, credentials.NewTLS(own)))
	expands := expander.NewExpanderClient(dial(t, autoscalerIP, s.ExpanderAddress, credentials.NewTLS(shown)))
	endpoint := ensemble.NewEnsembleOperatorClient(dial(t, memberIP, s.EndpointAddress, insecure.NewCredentials()))
	pool := nodePool("trial")
	question := &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: "attacked", NodeCount: 1}}}
	page := scraper(t)
	return []*victim{
		{name: "Cluster Autoscaler's NodeGroups",
			every: 50 * time.Millisecond, patience: 5 * time.Second, p99: 4 * time.Second, ask: func(ctx context.Context) error {
				_, err := cloud.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
				return err
			}},
		{name: "Cluster Autoscaler's BestOptions",
			every: 200 * time.Millisecond, patience: 5 * time.Second, p99: 4 * time.Second, ask: func(ctx context.Context) error {
				_, err := expands.BestOptions(ctx, question)
				return err
			}},
		{name: "BestOptions of a Cluster Autoscaler that was just started",
			every: 200 * time.Millisecond, patience: 5 * time.Second, p99: 4 * time.Second, ask: func(ctx context.Context) error {
				connection, err := connect(newcomerIP, s.ExpanderAddress, credentials.NewTLS(shown))
				if err != nil {
					return err
				}
				_, err = expander.NewExpanderClient(connection).BestOptions(ctx, question)
				return errors.Join(err, connection.Close())
			}},
		{name: "a member's RequestStatus",
			every: 150 * time.Millisecond, patience: 5 * time.Second, p99: 4 * time.Second, ask: func(ctx context.Context) error {
				answer, err := endpoint.RequestStatus(ctx, &ensemble.StatusRequest{Member: "miniclusters", Name: "attacked"})
				if err == nil && answer.GetStatus() == ensemble.Response_DENIED {
					return fmt.Errorf("denied: %s", answer.GetPayload())
				}
				return err
			}},
		{name: "the API server's reviews",
			every: 100 * time.Millisecond, patience: 10 * time.Second, p99: 8 * time.Second, ask: func(ctx context.Context) error {
				return s.Client.Create(ctx, pool.DeepCopy(), client.DryRunAll)
			}},
		{name: "Prometheus at the provider",
			every: time.Second, patience: 10 * time.Second, p99: 8 * time.Second, ask: page("http://" + s.ProviderMetrics + "/metrics")},
		{name: "Prometheus at the controller",
			every: time.Second, patience: 10 * time.Second, p99: 8 * time.Second, ask: page("http://" + s.ControllerMetrics + "/metrics")},
		{name: "the kubelet at the provider",
			every: time.Second, patience: 10 * time.Second, p99: 8 * time.Second, ask: page("http://" + s.ProviderProbes + "/healthz")},
		{name: "the kubelet at the controller",
			every: time.Second, patience: 10 * time.Second, p99: 8 * time.Second, ask: page("http://" + s.ControllerProbes + "/healthz")},
	}
}

// scraper asks for pages as Prometheus does.
func scraper(t *testing.T) func(url string) func(context.Context) error {
	t.Helper()
	transport := &http.Transport{DialContext: dialer(prometheusIP).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return func(url string) func(context.Context) error {
		return func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return err
			}
			response, err := transport.RoundTrip(request)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, response.Body)
			if response.StatusCode != http.StatusOK {
				err = errors.Join(err, errors.New(response.Status))
			}
			return errors.Join(err, response.Body.Close())
		}
	}
}

func nodePool(name string) *v1alpha1.NodePool {
	return &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 10, ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute}, Template: v1alpha1.NodeTemplate{Capacity: capacity()},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
}

// member makes a MiniCluster with a pod that runs at an address, as the Flux Operator, the Job controller and the kubelet would.
func member(t *testing.T, s *system.System, name, ip string) {
	t.Helper()
	cluster, err := system.Objects(fmt.Appendf(nil, `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: default, annotations: {autoscaling.flux-framework.org/node-pools: %[1]s}}
spec: {size: 1, maxSize: 4, containers: [{image: attacked}]}
`, name))
	if err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}
	if err := client.IgnoreAlreadyExists(s.Client.Create(t.Context(), account)); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Create(t.Context(), cluster[0]); err != nil {
		t.Fatal(err)
	}
	containers := []corev1.Container{{Name: "c", Image: "attacked"}}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cluster[0], cluster[0].GroupVersionKind())}},
		Spec: batchv1.JobSpec{
			CompletionMode: new(batchv1.IndexedCompletion), Completions: new(int32(1)), Parallelism: new(int32(1)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: containers}},
		},
	}
	if err := s.Client.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name + "-0",
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
			Labels:          map[string]string{batchv1.JobNameLabel: name, batchv1.JobCompletionIndexAnnotation: "0"},
		},
		Spec: corev1.PodSpec{Containers: containers, AutomountServiceAccountToken: new(false)},
	}
	if err := s.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	if err := s.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// peak is the most memory that a process has had, in bytes.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, is := strings.CutPrefix(line, "VmHWM:"); is {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("/proc/%d/status has no VmHWM", pid)
	return 0
}
