// Package process has what both binaries do at their start.
package process

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Logger writes structured lines to standard error: what happens at verbosity 0, more above.
func Logger(verbosity int) logr.Logger {
	return zap.New(
		zap.WriteTo(os.Stderr),
		zap.JSONEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.RFC3339NanoTimeEncoder }),
		zap.Level(zapcore.Level(-verbosity)), //nolint:gosec // A verbosity is a small number.
		zap.StacktraceLevel(zapcore.DPanicLevel),
	)
}

// RESTConfig is how to reach the API server: by a kubeconfig, which a flag names, or by the pod's ServiceAccount when the path is empty.
func RESTConfig(flag, kubeconfig, userAgent string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("load --%s %q: %w", flag, kubeconfig, err)
	}
	config.UserAgent = userAgent
	// The API server's priority and fairness limits us; limits of our own would only slow bursts down.
	config.QPS = -1
	return config, nil
}

// namespaceFile is where a pod finds its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Namespace is the one that was given, or that of the pod where none was.
func Namespace(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	content, err := os.ReadFile(namespaceFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", errors.New("--namespace is needed outside of a pod: it is where the Secrets and Services of the program are")
	}
	if err != nil {
		return "", fmt.Errorf("find the namespace of the pod: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// Everywhere is a runnable that runs on every replica, leader or not.
type Everywhere func(context.Context) error

var _ manager.LeaderElectionRunnable = Everywhere(nil)

// Start implements manager.Runnable.
func (f Everywhere) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (Everywhere) NeedLeaderElection() bool { return false }

// Synced fills the caches of a manager and knows whether they hold everything.
type Synced struct {
	cache cache.Cache
	kinds []client.Object
	also  []<-chan struct{}
	done  chan struct{}
}

// NewSynced is for a cache and the kinds that are read from it. A replica that does not lead runs no
// controller that would ask for them. It has to be added to the manager.
func NewSynced(c cache.Cache, kinds ...client.Object) *Synced {
	return &Synced{cache: c, kinds: kinds, done: make(chan struct{})}
}

// And has it wait for what is watched beside the cache, too: until a channel is closed. It has to be called before the start.
func (s *Synced) And(filled <-chan struct{}) { s.also = append(s.also, filled) }

// Start implements manager.Runnable.
func (s *Synced) Start(ctx context.Context) error {
	for _, kind := range s.kinds {
		if _, err := s.cache.GetInformer(ctx, kind); err != nil {
			return fmt.Errorf("fill the cache of %T: %w", kind, err)
		}
	}
	filled := s.cache.WaitForCacheSync(ctx)
	for _, other := range s.also {
		select {
		case <-other:
		case <-ctx.Done():
			filled = false
		}
	}
	if filled {
		close(s.done)
	}
	<-ctx.Done()
	return nil
}

// Wait blocks until the caches hold everything, or returns false when the context ends first.
func (s *Synced) Wait(ctx context.Context) bool {
	select {
	case <-s.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Synced) NeedLeaderElection() bool { return false }

// Is reports whether the caches hold everything.
func (s *Synced) Is() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Check is Is as a probe.
func (s *Synced) Check(*http.Request) error {
	if !s.Is() {
		return errors.New("the caches are not filled yet")
	}
	return nil
}
