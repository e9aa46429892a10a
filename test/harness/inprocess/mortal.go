package inprocess

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// errKilled is what every write after the last returns.
var errKilled = errors.New("the process was killed")

// Mortal is a manager that is killed when it is about to make the write after so many, as if it had never made
// that one.
type Mortal struct {
	manager.Manager
	most    int64
	writes  atomic.Int64
	dead    chan struct{}
	killing sync.Once
	stop    func()
	// held is closed when writes may go on, nil while they may.
	held atomic.Pointer[chan struct{}]
}

// Log is where parts of the product log to that run in a test: nowhere, unless TEST_LOG is set, which is for looking into a failure.
func Log() logr.Logger {
	if os.Getenv("TEST_LOG") == "" {
		return logr.Discard()
	}
	return funcr.New(
		func(prefix, arguments string) { fmt.Fprintln(os.Stderr, prefix, arguments) }, funcr.Options{Verbosity: 1, LogTimestamp: true},
	)
}

// NewMortal returns a manager that makes at most so many writes; a negative number is no bound.
func (c *Cluster) NewMortal(t testing.TB, most int64, options manager.Options) *Mortal {
	t.Helper()
	m := &Mortal{most: most, dead: make(chan struct{})}
	options.Scheme = c.Scheme
	options.Logger = Log()
	options.Metrics = metricsserver.Options{BindAddress: "0"}
	options.Controller = config.Controller{SkipNameValidation: new(true)}
	options.NewClient = m.NewClient
	var err error
	if m.Manager, err = ctrl.NewManager(c.Config, options); err != nil {
		t.Fatal(err)
	}
	return m
}

// NewClient is a client whose writes are counted among the process's own, for whatever has another client than the manager's.
func (m *Mortal) NewClient(config *rest.Config, options client.Options) (client.Client, error) {
	inner, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(inner, m.funcs()), nil
}

// Run starts the manager, and runs what belongs to it, until the test ends or Stop is called. It returns when the
// caches of the kinds are filled.
func (m *Mortal) Run(t testing.TB, beside func(context.Context) error, kinds ...client.Object) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{m.Start, beside} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("it ended with %v", err)
			}
		})
	}
	m.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(m.stop)
	for _, kind := range kinds {
		if _, err := m.GetCache().GetInformer(ctx, kind); err != nil {
			t.Fatal(err)
		}
	}
	if !m.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the caches were not filled")
	}
}

// Stop ends it and waits for its end.
func (m *Mortal) Stop() { m.stop() }

// Writes is the number of writes so far, refused ones included.
func (m *Mortal) Writes() int64 { return m.writes.Load() }

// Hold makes every write wait, as on a network that is stuck, until it is let go.
func (m *Mortal) Hold() (goOn func()) {
	held := make(chan struct{})
	m.held.Store(&held)
	return sync.OnceFunc(func() { m.held.Store(nil); close(held) })
}

// Killed reports whether it was about to make a write too many.
func (m *Mortal) Killed() bool {
	select {
	case <-m.dead:
		return true
	default:
		return false
	}
}

func (m *Mortal) may(write func() error) error {
	if n := m.writes.Add(1); m.most >= 0 && n > m.most {
		m.killing.Do(func() { close(m.dead) })
		return errKilled
	}
	if held := m.held.Load(); held != nil {
		<-*held
	}
	return write()
}

func (m *Mortal) funcs() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return m.may(func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return m.may(func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return m.may(func() error { return c.Patch(ctx, o, patch, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return m.may(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return m.may(func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, o client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
		) error {
			return m.may(func() error { return c.SubResource(sub).Patch(ctx, o, patch, opts...) })
		},
	}
}

// EachKill runs a story again and again, killed before its first write, before its second and so on, until it comes to
// its end without. tell reports whether it did.
func EachKill(t *testing.T, tell func(most int64) (survived bool)) {
	t.Helper()
	const enough = 200 // writes that a story takes at the most
	for most := range int64(enough) {
		if tell(most) {
			t.Logf("killed before each of %d writes", most)
			return
		}
	}
	t.Fatalf("the story takes more than %d writes", enough)
}
