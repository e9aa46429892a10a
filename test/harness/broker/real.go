package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

const (
	// onlineWithin bounds how long a real broker may take until it is online, or noticed to be gone: a heartbeat is 2 s.
	onlineWithin = time.Minute
	// lookAgain is the time between two looks at which ranks are online.
	lookAgain = 50 * time.Millisecond
)

// fluxCore is an instance of flux-core: one process for each rank that is up, as the Flux Operator has one pod for each.
type fluxCore struct {
	options Options
	program string
	client  *flux.Client

	mu      sync.Mutex
	running map[int]*process
}

// process is one broker.
type process struct {
	command *exec.Cmd
	log     *os.File
}

// startReal starts an instance of the flux-core at path: the directory that it is installed in, or its program flux.
func startReal(ctx context.Context, path string, options Options) (Instance, error) {
	complete, err := options.complete()
	if err != nil {
		return nil, err
	}
	program := path
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%s=%s: %w", Variable, path, err)
	} else if info.IsDir() {
		program = filepath.Join(path, "bin", "flux")
	}
	r := &fluxCore{options: complete, program: program, running: map[int]*process{}}
	if err := r.configure(ctx); err != nil {
		return nil, err
	}
	r.client, err = flux.New(flux.Options{URI: r.URI()})
	if err != nil {
		return nil, err
	}
	if err := r.begin(ctx, idset.Range(0, uint32(complete.Online))); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *fluxCore) URI() string { return "local://" + filepath.Join(r.options.Dir, "local") }

func (r *fluxCore) Real() bool { return true }

func (r *fluxCore) configuration() string { return filepath.Join(r.options.Dir, "config") }

// configure writes what all brokers are told: who they are, that all connect to rank 0, and the resources that there can be. Ranks that go
// come back, because resources that are configured stay.
func (r *fluxCore) configure(ctx context.Context) error {
	if err := os.MkdirAll(r.configuration(), 0o700); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	certificate := filepath.Join(r.options.Dir, "curve.cert")
	if out, err := exec.CommandContext(ctx, r.program, "keygen", certificate).CombinedOutput(); err != nil {
		return fmt.Errorf("flux keygen: %w: %s", err, out)
	}
	hosts := fmt.Sprintf("node-[0-%d]", r.options.Size-1)
	set, err := json.Marshal(map[string]any{"version": 1, "execution": map[string]any{
		"R_lite": []any{map[string]any{
			"rank":     idset.Range(0, uint32(r.options.Size)),
			"children": map[string]any{"core": idset.Range(0, uint32(r.options.Cores))},
		}},
		"nodelist": []string{hosts}, "starttime": 0, "expiration": 0,
	}})
	if err != nil {
		return err
	}
	resources := filepath.Join(r.options.Dir, "R")
	if err := os.WriteFile(resources, set, 0o600); err != nil {
		return err
	}
	toml := fmt.Sprintf(`[bootstrap]
curve_cert = %q
default_bind = "tcp://127.0.0.1:%d"
default_connect = "tcp://127.0.0.1:%d"
hosts = [ { host = %q } ]

[resource]
path = %q
noverify = true
`, certificate, port, port, hosts, resources)
	return os.WriteFile(filepath.Join(r.configuration(), "flux.toml"), []byte(toml), 0o600)
}

func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address, is := listener.Addr().(*net.TCPAddr)
	if !is {
		return 0, errors.Join(fmt.Errorf("address %s is not of TCP", listener.Addr()), listener.Close())
	}
	return address.Port, listener.Close()
}

// begin starts the lead and then the others.
func (r *fluxCore) begin(ctx context.Context, ranks idset.Set) error {
	if err := r.start(ctx, 0); err != nil {
		return err
	}
	if err := r.waitOnline(ctx, 0, true); err != nil {
		return err
	}
	for rank := range ranks.Minus(idset.Of(0)).All() {
		if err := r.start(ctx, int(rank)); err != nil {
			return err
		}
	}
	for rank := range ranks.All() {
		if err := r.waitOnline(ctx, int(rank), true); err != nil {
			return err
		}
	}
	return nil
}

// start starts the broker of a rank.
func (r *fluxCore) start(ctx context.Context, rank int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, runs := r.running[rank]; runs {
		return nil
	}
	dir := filepath.Join(r.options.Dir, fmt.Sprintf("rank-%d", rank))
	for _, part := range []string{"run", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, part), 0o700); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	arguments := []string{
		"broker", "--config-path=" + r.configuration(),
		"-Srundir=" + filepath.Join(dir, "run"), "-Sstatedir=" + filepath.Join(dir, "state"),
		fmt.Sprintf("-Shostname=node-%d", rank),
		// Rank 0 alone is enough, and all others hang on it.
		"-Sbroker.quorum=1", "-Stbon.fanout=256", "-Sbroker.rc2_none",
	}
	if rank == 0 {
		arguments = append(arguments, "-Slocal-uri="+r.URI())
	}
	command := exec.CommandContext(context.WithoutCancel(ctx), r.program, arguments...)
	command.Stdout, command.Stderr = log, log
	command.Dir = dir
	// What it starts ends with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return errors.Join(fmt.Errorf("flux broker of rank %d: %w", rank, err), log.Close())
	}
	r.running[rank] = &process{command: command, log: log}
	return nil
}

// kill ends the broker of a rank at once, with all that it has started.
func (r *fluxCore) kill(rank int) error {
	r.mu.Lock()
	p, runs := r.running[rank]
	delete(r.running, rank)
	r.mu.Unlock()
	if !runs {
		return nil
	}
	err := syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		err = nil
	}
	var exit *exec.ExitError
	if waitErr := p.command.Wait(); waitErr != nil && !errors.As(waitErr, &exit) {
		err = errors.Join(err, waitErr)
	}
	return errors.Join(err, p.log.Close())
}

// waitOnline waits until a rank is online, or offline.
func (r *fluxCore) waitOnline(ctx context.Context, rank int, online bool) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, lookAgain, onlineWithin, true, func(ctx context.Context) (bool, error) {
		var status *flux.ResourceStatus
		if status, last = r.client.ResourceStatus(ctx); last != nil {
			return false, nil //nolint:nilerr // It is asked again, and told in the end.
		}
		return status.Online.Contains(uint32(rank)) == online, nil
	})
	if err != nil {
		log := filepath.Join(r.options.Dir, fmt.Sprintf("rank-%d", rank), "log")
		return fmt.Errorf("rank %d, online %t: %w; its log is %s", rank, online, errors.Join(err, last), log)
	}
	return nil
}

func (r *fluxCore) Add(ctx context.Context, rank int) error {
	if rank < 0 || rank >= r.options.Size {
		return fmt.Errorf("rank %d: it has to be between 0 and %d", rank, r.options.Size-1)
	}
	if err := r.start(ctx, rank); err != nil {
		return err
	}
	return r.waitOnline(ctx, rank, true)
}

func (r *fluxCore) Remove(ctx context.Context, rank int) error {
	if rank < 1 || rank >= r.options.Size {
		return fmt.Errorf("rank %d: it has to be between 1 and %d", rank, r.options.Size-1)
	}
	if err := r.kill(rank); err != nil {
		return err
	}
	return r.waitOnline(ctx, rank, false)
}

// Restart kills all brokers, because those that lose their lead end as well and their pods start them again.
func (r *fluxCore) Restart(ctx context.Context) error {
	r.mu.Lock()
	var ranks idset.Set
	for rank := range r.running {
		ranks = ranks.Union(idset.Of(uint32(rank)))
	}
	r.mu.Unlock()
	for rank := range ranks.All() {
		if err := r.kill(int(rank)); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(r.options.Dir, fmt.Sprintf("rank-%d", rank), "state")); err != nil {
			return err
		}
	}
	return r.begin(ctx, ranks)
}

func (r *fluxCore) Close() error {
	var errs []error
	for rank := range r.options.Size {
		errs = append(errs, r.kill(rank))
	}
	return errors.Join(append(errs, r.client.Close())...)
}
