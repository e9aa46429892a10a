package clusterapi

import (
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/clusterapi"
)

// TestAwayAtStart: a launcher whose management cluster is away when it starts says so, keeps nobody waiting, and works when that is back:
// what wanted to hear of Machines hears of them then.
func TestAwayAtStart(t *testing.T) {
	t.Parallel()
	config := shared.Plane.AdminConfig()
	there, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config.Host = "https://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx := t.Context()
	reached := reach(t, config, &running)
	informer, err := reached.Cache().GetInformer(ctx, reached.Objects()[0])
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	once := sync.OnceFunc(func() { close(heard) })
	handler := toolscache.ResourceEventHandlerFuncs{AddFunc: func(any) { once() }}
	if registered, err := informer.AddEventHandlerWithOptions(handler, toolscache.HandlerOptions{}); err != nil || !registered.HasSynced() {
		t.Fatalf("a handler waits: %v", err)
	}
	x := newTenant(t)
	pool := poolOf(t, x.namespace+"-away", Template{})
	makeOrphan(t, pool, false)
	x.poll("nothing says that it is not reachable", func(ctx context.Context) (bool, error) {
		_, err := reached.List(ctx, pool)
		return err != nil && strings.Contains(err.Error(), "not reachable: ") && strings.Contains(err.Error(), "refused"), nil
	})
	if _, err := reached.Launch(ctx, pool, &launch.Order{}); err == nil {
		t.Error("it launches")
	}
	if errs := reached.Terminate(ctx, pool, make([]launch.Instance, 2)); len(errs) != 2 || errs[1] == nil {
		t.Errorf("it terminates: %v", errs)
	}
	forward(t, &running, listener.Addr().String(), there.Host)
	x.poll("it does not come to know the Machines", func(ctx context.Context) (bool, error) {
		instances, err := reached.List(ctx, pool)
		return err == nil && len(instances) == 1, nil
	})
	select {
	case <-heard:
	case <-t.Context().Done():
	}
}

// TestNoRightAtStart: a launcher that may not watch Machines when it starts says which right it lacks, and works when it has got it.
func TestNoRightAtStart(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	config, err := shared.Plane.ServiceAccountConfig(t.Context(), x.namespace, "default")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	reached := reach(t, config, &running)
	pool := poolOf(t, x.namespace+"-forbidden", Template{})
	makeOrphan(t, pool, false)
	x.poll("nothing says that a right is missing", func(ctx context.Context) (bool, error) {
		_, err := reached.List(ctx, pool)
		return err != nil && strings.Contains(err.Error(), "not reachable: ") && strings.Contains(err.Error(), "forbidden") &&
			strings.Contains(err.Error(), `"machines"`) && strings.Contains(err.Error(), x.namespace+":default"), nil
	})
	if _, err := reached.Pools(t.Context(), pool.Cluster); err == nil {
		t.Error("it tells of pools")
	}
	x.apply(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s, namespace: %[2]s}
rules: [{apiGroups: [cluster.x-k8s.io], resources: [machines], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s, namespace: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]s}
subjects: [{kind: ServiceAccount, name: default, namespace: %[1]s}]
`, x.namespace, Machines)
	x.poll("it does not come to know the Machines", func(ctx context.Context) (bool, error) {
		instances, err := reached.List(ctx, pool)
		return err == nil && len(instances) == 1, nil
	})
}

// reach starts a launcher of Machines, until the test ends.
func reach(t *testing.T, config *rest.Config, running *sync.WaitGroup) *clusterapi.Reached {
	t.Helper()
	reached := clusterapi.Reach(config, []string{Machines}, logr.Discard())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() {
		if err := reached.Start(ctx); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	return reached
}

// forward forwards connections until the test ends.
func forward(t *testing.T, running *sync.WaitGroup, from, to string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		cancel()
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
			for _, of := range [][2]net.Conn{{near, far}, {far, near}} {
				running.Go(func() {
					_, _ = io.Copy(of[0], of[1])
					_ = of[0].Close()
				})
			}
		}
	})
}
