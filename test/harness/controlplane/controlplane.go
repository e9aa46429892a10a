package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// Parts are the components that a control plane has besides etcd and the API server.
type Parts uint8

const (
	// Scheduler binds pods to nodes.
	Scheduler Parts = 1 << iota
	// ControllerManager runs Jobs, the garbage collector, ServiceAccounts and so on.
	ControllerManager
	// Kwok stands for the kubelets: Nodes become Ready and bound pods run.
	Kwok

	// All is a whole cluster.
	All = Scheduler | ControllerManager | Kwok
)

// startWithin bounds Start, after the build, and the restart of a component. A loaded machine needs a multiple
// of the usual four seconds.
const startWithin = 5 * time.Minute

// stopWithin bounds the wait for a process to end after SIGTERM before it is killed. It has to be longer than what processes
// give themselves to end, also on a busy machine.
const stopWithin = time.Minute

// Options say what Start starts. The zero value is etcd and the API server in a temporary directory.
type Options struct {
	// Parts are the components besides etcd and the API server.
	Parts Parts

	// DataDir is where everything is kept. By default it is a new temporary directory that goes away with the
	// control plane; a given one must be empty or absent, and stays.
	DataDir string

	// LogDir is where each process has its file <name>.log. The default is the directory "logs" in DataDir; a
	// given one stays.
	LogDir string

	// OmitControllers names controllers that kube-controller-manager leaves out, as its flag --controllers
	// knows them, besides those that cannot work here (the ones for endpoints).
	OmitControllers []string

	// APIServerArguments are further flags of kube-apiserver.
	APIServerArguments []string

	// NodeLease is how long the lease of a node lasts that kwok simulates; kwok renews it four times as often. The default
	// is the kubelet's.
	NodeLease time.Duration

	// PodsAtOnce is how many pods kwok starts at a time, as so many kubelets would. The default is 1, and with more the first pod has
	// to run alone: see kwokconfig/configuration.yaml.
	PodsAtOnce int

	// Binaries come from Build. Start calls Build itself when they are the zero value.
	Binaries Binaries

	// Progress receives what Build has to say. Nil discards it.
	Progress io.Writer
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	binaries  Binaries
	parts     Parts
	nodeLease time.Duration
	// podsAtOnce is that of the options.
	podsAtOnce int
	directory  string
	logs       string

	guard      *guard
	thread     *thread
	addresses  addresses
	podNetwork *net.IPNet
	ports      ports
	authority  *authority
	admin      *rest.Config
	components map[string]component

	mu        sync.Mutex
	processes map[string]*Process // of Run
	stopped   bool
	stopErr   error
	stopping  sync.Once
}

// ports are those that the components listen on at 127.0.0.1.
type ports struct {
	etcd, apiServer, scheduler, controllerManager, kwok int
}

// quiet sets the logger of controller-runtime, which prints a stack trace after 30 s where nobody has. It can be set by one at a time,
// and tests start control planes side by side. What there is to say is told as progress, and in the logs of the programs.
var quiet = sync.OnceFunc(func() { ctrllog.SetLogger(logr.Discard()) })

// Start starts a control plane and returns when its components serve. The context bounds the start only;
// the control plane runs until Stop, or until this program ends.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	quiet()
	if options.Progress == nil {
		options.Progress = io.Discard
	}
	binaries := options.Binaries
	if binaries == (Binaries{}) {
		var err error
		if binaries, err = Build(ctx, options.Progress); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()

	c := &ControlPlane{
		binaries:   binaries,
		parts:      options.Parts,
		nodeLease:  cmp.Or(options.NodeLease, nodeLease),
		podsAtOnce: options.PodsAtOnce,
		components: map[string]component{},
		processes:  map[string]*Process{},
	}
	if err := c.prepare(options); err != nil {
		return nil, fmt.Errorf("prepare control plane: %w", err)
	}
	if err := c.start(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("start control plane: %w", err), c.Stop())
	}
	return c, nil
}

// prepare claims what the control plane needs of the machine: directories, guard, ports. Stop gives it back.
func (c *ControlPlane) prepare(options Options) (err error) {
	temporary, err := c.makeDirectories(options)
	if err == nil {
		c.guard, err = startGuard(c.binaries.path(guardBinary), temporary...)
	}
	if err != nil {
		for _, directory := range temporary {
			err = errors.Join(err, os.RemoveAll(directory))
		}
		return err
	}
	c.thread = newThread()
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()

	if c.podNetwork, err = c.addresses.podNetwork(); err != nil {
		return err
	}
	for _, port := range []*int{&c.ports.etcd, &c.ports.apiServer, &c.ports.scheduler, &c.ports.controllerManager, &c.ports.kwok} {
		if *port, err = c.addresses.port(); err != nil {
			return err
		}
	}
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	c.admin, err = c.UserConfig("admin", "system:masters")
	return err
}

// makeDirectories makes the data and the log directory and returns what goes away with the control plane.
func (c *ControlPlane) makeDirectories(options Options) (temporary []string, err error) {
	if options.DataDir == "" {
		if c.directory, err = os.MkdirTemp("", "controlplane-"); err != nil {
			return nil, err
		}
		temporary = []string{c.directory}
	} else {
		if c.directory, err = filepath.Abs(options.DataDir); err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(c.directory)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if len(entries) > 0 {
			return nil, fmt.Errorf("DataDir %s is not empty; name an empty or absent directory", c.directory)
		}
	}
	c.logs = filepath.Join(c.directory, "logs")
	if options.LogDir != "" {
		if c.logs, err = filepath.Abs(options.LogDir); err != nil {
			return temporary, err
		}
	}
	return temporary, os.MkdirAll(c.logs, 0o755)
}

// start starts the components: first etcd and the API server, then the rest all at once.
func (c *ControlPlane) start(ctx context.Context, options Options) error {
	secure := func(port int, path string) string { return fmt.Sprintf("https://127.0.0.1:%d%s", port, path) }
	if err := c.add(Etcd, c.etcdCommand(), c.EtcdURL()+"/readyz"); err != nil {
		return err
	}
	// The API server waits for etcd by itself.
	if err := c.add(KubeAPIServer, c.apiServerCommand(options.APIServerArguments), c.URL()+"/readyz"); err != nil {
		return err
	}
	if err := c.serves(ctx, KubeAPIServer); err != nil {
		return err
	}

	if c.parts&Kwok != 0 {
		if err := c.grantKwok(ctx); err != nil {
			return err
		}
		if err := c.add(KwokController, c.kwokCommand(), fmt.Sprintf("http://127.0.0.1:%d/healthz", c.ports.kwok)); err != nil {
			return err
		}
	}
	if c.parts&Scheduler != 0 {
		if err := c.add(KubeScheduler, c.schedulerCommand(), secure(c.ports.scheduler, "/readyz")); err != nil {
			return err
		}
	}
	if c.parts&ControllerManager != 0 {
		if err := c.add(
			KubeControllerManager, c.controllerManagerCommand(options.OmitControllers), secure(c.ports.controllerManager, "/healthz"),
		); err != nil {
			return err
		}
		if err := c.defaultServiceAccountExists(ctx); err != nil {
			return err
		}
	}
	for name := range c.components {
		if err := c.serves(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// add starts a component.
func (c *ControlPlane) add(name string, command *exec.Cmd, health string) error {
	process, err := newProcess(name, c.logFile(name), command, c.guard, c.thread)
	if err != nil {
		return err
	}
	if name == KwokController {
		process.adjust = kwokNetworks(c.podNetwork)
	}
	c.components[name] = component{process: process, health: health}
	return process.Start()
}

// Component is the process of a component, by the names [Etcd], [KubeAPIServer] and so on; nil when the
// control plane does not have that part.
func (c *ControlPlane) Component(name string) *Process { return c.components[name].process }

// StopAPIServer kills the API server; what is stored stays. It is not asked to end: with watches open it
// would take longer than a test wants to wait.
func (c *ControlPlane) StopAPIServer() error { return c.Component(KubeAPIServer).Kill() }

// StartAPIServer starts the API server again, at the same address, and waits until it serves.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	if err := c.Component(KubeAPIServer).Start(); err != nil {
		return err
	}
	return c.servesAgain(ctx, KubeAPIServer)
}

// Restart kills the component, as a crash would, starts it again and waits until it serves.
func (c *ControlPlane) Restart(ctx context.Context, name string) error {
	process := c.Component(name)
	if process == nil {
		return fmt.Errorf("restart %s: this control plane has no such component", name)
	}
	if err := process.Kill(); err != nil {
		return err
	}
	if name == KwokController {
		if err := c.dropNodeLeases(ctx); err != nil {
			return fmt.Errorf("restart %s: %w", name, err)
		}
	}
	if err := process.Start(); err != nil {
		return err
	}
	return c.servesAgain(ctx, name)
}

// servesAgain waits for a component that was restarted by a caller whose context may have no end.
func (c *ControlPlane) servesAgain(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	return c.serves(ctx, name)
}

// Run starts a further program under the same guard: it ends with the control plane at the latest. Its
// output goes to <name>.log in the log directory, so Stdout and Stderr of the command must be nil; a context
// of the command has no effect. A name can be used again when its process has ended; to start the same
// command line again, call Start of the Process.
func (c *ControlPlane) Run(name string, command *exec.Cmd) (*Process, error) {
	if filepath.Base(name) != name {
		return nil, fmt.Errorf("run %q: the name names the log file; use one without a path separator", name)
	}
	process, err := newProcess(name, c.logFile(name), command, c.guard, c.thread)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, fmt.Errorf("run %s: the control plane was stopped", name)
	}
	if _, taken := c.components[name]; taken {
		return nil, fmt.Errorf("run %s: that is the name of a component", name)
	}
	if earlier := c.processes[name]; earlier != nil {
		if earlier.Running() {
			return nil, fmt.Errorf("run %s: a process of that name runs already as %d", name, earlier.Pid())
		}
		// Two handles must not start two processes under one name.
		if err := earlier.retire(earlier.Kill); err != nil {
			return nil, err
		}
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	c.processes[name] = process
	return process, nil
}

// Directory is where the control plane keeps everything. By default it goes away with the control plane.
func (c *ControlPlane) Directory() string { return c.directory }

// LogDir holds one file <name>.log for each process.
func (c *ControlPlane) LogDir() string { return c.logs }

func (c *ControlPlane) logFile(name string) string { return filepath.Join(c.logs, name+".log") }

// Kubectl is the path of a kubectl of the same version, which is built when it is asked for first; progress says so.
func (c *ControlPlane) Kubectl(ctx context.Context, progress io.Writer) (string, error) {
	if ready := c.binaries.path(kubectlBinary); c.binaries.directory != "" {
		if _, err := os.Stat(ready); err == nil {
			return ready, nil
		}
	}
	return BuildKubectl(ctx, progress)
}

// PodNetwork holds the addresses that pods of this control plane get, a part of 127.0.0.0/8.
func (c *ControlPlane) PodNetwork() net.IPNet { return *c.podNetwork }

// Stop ends all processes, those of Run with SIGTERM first, and removes the temporary directory. A second
// call waits for the first and returns the same.
func (c *ControlPlane) Stop() error {
	c.stopping.Do(func() { c.stopErr = c.stop() })
	return c.stopErr
}

func (c *ControlPlane) stop() error {
	c.mu.Lock()
	c.stopped = true
	processes := c.processes
	c.mu.Unlock()

	var polite, final sync.WaitGroup
	errs := make(chan error, len(processes)+len(c.components)+3)
	for _, process := range processes {
		polite.Go(func() {
			errs <- process.retire(func() error { return process.Stop(stopWithin) })
		})
	}
	polite.Wait()
	// The components have nothing to lose: their data goes away, or is safe in the page cache.
	for _, component := range c.components {
		final.Go(func() { errs <- component.process.retire(component.process.Kill) })
	}
	final.Wait()
	errs <- c.guard.close()
	c.thread.close()
	errs <- c.addresses.close()
	close(errs)

	var all []error
	for err := range errs {
		all = append(all, err)
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("stop control plane: %w", err)
	}
	return nil
}
