package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// StandIn is the stand-in. Its methods may be called by many goroutines at once.
type StandIn struct {
	options Options
	path    string

	// changing is held while the broker as a whole is ended or started.
	changing sync.Mutex
	serving  sync.WaitGroup

	// mu guards the rest.
	mu       sync.Mutex
	listener *net.UnixListener
	clients  map[*connection]struct{}
	state    *state
	closed   bool
	// taken is how many connections were, and asked how many requests came.
	taken, asked int
	// faults are what clients sent that is no message.
	faults []error
	// submitting is what submissions are answered with.
	submitting failure
	// rejecting is why jobs are rejected, or "".
	rejecting string
	// frozen is not nil while nothing is answered. It is closed when that ends.
	frozen chan struct{}
}

// New starts a stand-in.
func New(options Options) (*StandIn, error) {
	complete, err := options.complete()
	if err != nil {
		return nil, err
	}
	b := &StandIn{options: complete, path: filepath.Join(complete.Dir, "local"), clients: map[*connection]struct{}{}}
	if err := b.listen(complete.Online, complete.Loading); err != nil {
		return nil, err
	}
	return b, nil
}

// URI is the address of its socket.
func (b *StandIn) URI() string { return "local://" + b.path }

// Real is false.
func (b *StandIn) Real() bool { return false }

// listen starts a broker that knows nothing of the one before.
func (b *StandIn) listen(online int, loading bool) error {
	if err := os.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket of the broker before: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// As a broker that is killed leaves its socket.
	listener.SetUnlinkOnClose(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listener = listener
	b.state = newState(b, online, loading)
	b.serving.Go(func() { b.accept(listener) })
	return nil
}

// accept takes connections until the broker ends.
func (b *StandIn) accept(listener *net.UnixListener) {
	for {
		socket, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		c := newConnection(socket)
		b.mu.Lock()
		if b.closed || b.listener != listener {
			b.mu.Unlock()
			c.close()
			return
		}
		b.taken++
		refuse := b.options.Refuse
		b.clients[c] = struct{}{}
		b.serving.Go(func() { b.serve(c, refuse) })
		b.mu.Unlock()
	}
}

// serve greets a client and answers it until it goes.
func (b *StandIn) serve(c *connection, refuse byte) {
	defer b.forget(c)
	if _, err := c.socket.Write([]byte{refuse}); err != nil || refuse != 0 {
		return
	}
	var writing sync.WaitGroup
	writing.Go(c.write)
	defer writing.Wait()
	defer c.close()
	if err := c.serve(b.take); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, err)
	}
}

// take answers one request.
func (b *StandIn) take(r *request) {
	b.mu.Lock()
	b.asked++
	frozen := b.frozen
	b.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.clients[r.from]; !known {
		return
	}
	r.Flags |= wire.HasRoute
	r.UserID, r.Roles = uint32(os.Getuid()), roleOwner|roleLocal
	b.state.answer(r)
}

// forget is what the router does for a client that has gone: it tells the services.
func (b *StandIn) forget(c *connection) {
	c.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	b.state.disconnect(c)
}

// Faults are what clients sent that was no message.
func (b *StandIn) Faults() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults
}

// Connections is how many connections there are, and how many were ever taken.
func (b *StandIn) Connections() (now, ever int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.clients), b.taken
}

// Asked is how many requests came, answered or not.
func (b *StandIn) Asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// Cut ends all connections and nothing else, as when the module connector-local is loaded again.
func (b *StandIn) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		c.close()
	}
}

// Freeze lets nothing be answered until Thaw, as a broker does that is stopped.
func (b *StandIn) Freeze() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frozen == nil {
		b.frozen = make(chan struct{})
	}
}

// Thaw is the reverse of Freeze.
func (b *StandIn) Thaw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.thaw()
}

func (b *StandIn) thaw() {
	if b.frozen != nil {
		close(b.frozen)
		b.frozen = nil
	}
}

// FailSubmissions lets each submission fail with an errno and a text, as while a queue is disabled, until it is told 0.
func (b *StandIn) FailSubmissions(errno syscall.Errno, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.submitting = failure{errno, text}
}

// RejectJobs lets each job be rejected after its submission is in the journal, as a plugin of the job manager does, until it is told "".
func (b *StandIn) RejectJobs(note string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rejecting = note
}

// failure is an answer that is none of success, where errno is not 0.
type failure struct {
	errno syscall.Errno
	text  string
}

// Load lets a broker that was started with Options.Loading have its services.
func (b *StandIn) Load() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.load()
}

// Kill ends the broker with all that it knows. Its socket stays, and nobody listens there.
func (b *StandIn) Kill() {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.kill()
}

func (b *StandIn) kill() {
	b.mu.Lock()
	if b.listener != nil {
		// Nobody can be told that it was closed already.
		_ = b.listener.Close()
		b.listener = nil
	}
	for c := range b.clients {
		c.close()
	}
	b.thaw()
	b.state.end()
	b.mu.Unlock()
	b.serving.Wait()
}

// Begin starts a broker in the place of one that was killed, with as many ranks online.
func (b *StandIn) Begin(online int) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	return b.listen(online, false)
}

// Restart is Kill and Begin. All ranks that were online are again.
func (b *StandIn) Restart(context.Context) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	online := b.state.online
	b.mu.Unlock()
	b.kill()
	if err := b.listen(1, false); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for rank := range online.All() {
		b.state.up(rank)
	}
	return nil
}

// Close ends the stand-in.
func (b *StandIn) Close() error {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.kill()
	if err := os.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Add lets a rank be online.
func (b *StandIn) Add(_ context.Context, rank int) error {
	return b.withRank(rank, 0, func(rank uint32) { b.state.up(rank) })
}

// Remove lets a rank be offline. Jobs that run there fail.
func (b *StandIn) Remove(_ context.Context, rank int) error {
	return b.withRank(rank, 1, func(rank uint32) { b.state.down(rank) })
}

// Torpid lets a rank be torpid, or lively again.
func (b *StandIn) Torpid(rank int, torpid bool) error {
	return b.withRank(rank, 1, func(rank uint32) { b.state.setTorpid(rank, torpid) })
}

func (b *StandIn) withRank(rank, least int, do func(rank uint32)) error {
	if rank < least || rank >= b.options.Size {
		return fmt.Errorf("rank %d: it has to be between %d and %d", rank, least, b.options.Size-1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	do(uint32(rank))
	return nil
}

// Publish publishes an event, as flux event pub does.
func (b *StandIn) Publish(topic string, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.publish(topic, payload)
}

// publish sends an event to all that subscribed to it.
func (s *state) publish(topic string, payload []byte) {
	s.sequence++
	for c := range s.broker.clients {
		for prefix := range c.topics {
			if strings.HasPrefix(topic, prefix) {
				c.send(&wire.Message{Type: wire.Event, Roles: roleOwner, Sequence: s.sequence, Topic: topic, Payload: payload})
				break
			}
		}
	}
}

// now is the time of an event, in seconds since 1970.
func now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }
