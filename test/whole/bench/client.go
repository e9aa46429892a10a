package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

// clientRole is the first argument of the process that plays Cluster Autoscaler; the second is the path of its
// order. It is a process of its own because the garbage of one side would otherwise burden the other.
const clientRole = "-as=client"

// callers is how many call at a time where throughput is measured. Cluster Autoscaler has one connection, so
// they share it.
const callers = 8

// warmUp is how often a call is made before it is measured.
const warmUp = 100

// clientMemory is how much the client may occupy before it collects garbage in the middle of a measurement.
const clientMemory = 1 << 30

// fewest is the number of serial calls that a p99 needs, however long they take.
const fewest = 200

// clientOrder says what the client is to do.
type clientOrder struct {
	Task     clientTask
	Provider string // address
	Constant string // address, for the loop
	Expander string // address
	Client   files
	Size     size
	Effort   effort
}

// clientTask is one thing that the client can do.
type clientTask string

const (
	taskReads  clientTask = "reads"  // measure all calls that read
	taskBySize clientTask = "sizes"  // measure a few of them
	taskWrites clientTask = "writes" // measure the one that writes
	taskLoop   clientTask = "loop"   // replay the loop
	taskExpand clientTask = "expand" // ask the expander
)

// clientAnswer is what the client found.
type clientAnswer struct {
	Timings []timing
	Loops   loops
	Expands []expandTiming
}

// timing is what a call costs.
type timing struct {
	Name string
	// Bytes is the size of an answer.
	Bytes int
	// Calls is the number of serial calls, P50 and P99 how long they took, and PerSecond how many there were in a second.
	Calls     int
	P50, P99  time.Duration
	PerSecond float64
	// Concurrent is the number of calls in a second with callers at a time; 0 where that was not measured.
	Concurrent float64
}

func runClient(ctx context.Context, path string, out, progress io.Writer) (err error) {
	// The garbage of decoded answers is collected between measurements: the pauses would count as the provider's.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(clientMemory)
	var order clientOrder
	if err := readJSONFile(path, &order); err != nil {
		return err
	}
	p := &player{order: &order, estate: newEstate(order.Size), progress: progress}
	if p.calls, err = reads(p.estate); err != nil {
		return err
	}
	answer, err := p.play(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(answer)
}

// player plays Cluster Autoscaler.
type player struct {
	order    *clientOrder
	estate   *estate
	calls    *calls
	progress io.Writer
}

func (p *player) play(ctx context.Context) (answer *clientAnswer, err error) {
	answer = &clientAnswer{}
	connection, provider, err := p.connect(ctx, p.order.Provider)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	switch p.order.Task {
	case taskReads:
		answer.Timings, err = p.reads(ctx, provider, p.calls.all(), true)
	case taskBySize:
		answer.Timings, err = p.reads(ctx, provider, p.calls.bySize(), false)
	case taskWrites:
		answer.Timings, err = p.writes(ctx, provider)
	case taskLoop:
		answer.Loops, err = p.loops(ctx, provider)
	case taskExpand:
		answer.Expands, err = p.expands(ctx)
	default:
		err = fmt.Errorf("there is no task %q", p.order.Task)
	}
	return answer, err
}

// connect waits for the other side: the handshake is none of what is measured.
func (p *player) connect(ctx context.Context, address string) (*grpc.ClientConn, autoscaler, error) {
	connection, err := p.order.Client.dial(address)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	connection.Connect()
	for state := connection.GetState(); state != connectivity.Ready; state = connection.GetState() {
		if !connection.WaitForStateChange(ctx, state) {
			return nil, nil, errors.Join(fmt.Errorf("connect to %s: %w", address, ctx.Err()), connection.Close())
		}
	}
	return connection, newAutoscaler(connection), nil
}

func (p *player) reads(ctx context.Context, provider autoscaler, which []call, throughput bool) ([]timing, error) {
	var out []timing
	for i := range which {
		c := &which[i]
		_, _ = fmt.Fprintf(p.progress, "measuring %s\n", c.name) // Progress that nobody reads is no error.
		bytes, err := c.verify(ctx, provider, 0)
		for n := 1; err == nil && n < warmUp; n++ {
			_, err = c.verify(ctx, provider, n)
		}
		if err != nil {
			return nil, err
		}
		t, err := p.serial(ctx, provider, c)
		if err != nil {
			return nil, err
		}
		t.Bytes = bytes
		if throughput {
			runtime.GC()
			until := time.Now().Add(p.order.Effort.Spend)
			t.Concurrent, err = concurrently(ctx, provider, c, 0, func(int) bool { return time.Now().Before(until) })
			if err != nil {
				return nil, err
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// serial calls one after the other, as Cluster Autoscaler does.
func (p *player) serial(ctx context.Context, provider autoscaler, c *call) (timing, error) {
	durations := make([]time.Duration, 0, p.order.Effort.Calls)
	runtime.GC()
	started := time.Now()
	for len(durations) < fewest || (len(durations) < p.order.Effort.Calls && time.Since(started) < p.order.Effort.Spend) {
		before := time.Now()
		if err := c.ask(ctx, provider, len(durations)); err != nil {
			return timing{}, err
		}
		durations = append(durations, time.Since(before))
	}
	return timingOf(c.name, durations, time.Since(started)), nil
}

func timingOf(name string, durations []time.Duration, all time.Duration) timing {
	return timing{
		Name: name, Calls: len(durations),
		P50: figures.Percentile(durations, 50), P99: figures.Percentile(durations, 99),
		PerSecond: float64(len(durations)) / all.Seconds(),
	}
}

// concurrently calls from several goroutines, with numbers from first on, as long as more says so, and returns
// the number of calls in a second.
func concurrently(ctx context.Context, provider autoscaler, c *call, first int, more func(i int) bool) (perSecond float64, err error) {
	next := atomic.Int64{}
	next.Store(int64(first))
	var made atomic.Int64
	errs := make(chan error, callers)
	var group sync.WaitGroup
	started := time.Now()
	for range callers {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if !more(i) {
					return
				}
				if err := c.ask(ctx, provider, i); err != nil {
					errs <- err
					return
				}
				made.Add(1)
			}
		})
	}
	group.Wait()
	elapsed := time.Since(started)
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(made.Load()) / elapsed.Seconds(), nil
	}
}

// writes raises the targets of some groups one after the other, and of as many others concurrently.
func (p *player) writes(ctx context.Context, provider autoscaler) ([]timing, error) {
	c := increaseSize()
	count := min(p.order.Effort.Writes, p.order.Size.Groups/2)
	if count == 0 {
		return nil, nil
	}
	_, _ = fmt.Fprintf(p.progress, "measuring %s\n", c.name) // Progress that nobody reads is no error.
	var durations []time.Duration
	started := time.Now()
	for i := range count {
		before := time.Now()
		if err := c.ask(ctx, provider, i); err != nil {
			return nil, err
		}
		durations = append(durations, time.Since(before))
	}
	t := timingOf(c.name, durations, time.Since(started))
	var err error
	t.Concurrent, err = concurrently(ctx, provider, &c, count, func(i int) bool { return i < 2*count })
	return []timing{t}, err
}
