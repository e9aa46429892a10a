package faults

import (
	"context"
	"io"
	"net"
	"net/http"
	"path"
	"sync"
	"testing"
)

// lag is a network on which the events of watches can be held back, while everything else passes.
type lag struct {
	mu sync.Mutex
	// held has, for each resource whose events are held back, what is closed when they are let go.
	held map[string]chan struct{}
	// lists counts the answers to lists of a resource, those of caches apart.
	lists map[string]int
	// before is called before each request, nil for nothing.
	before func(*http.Request)
}

func newLag() *lag { return &lag{held: map[string]chan struct{}{}, lists: map[string]int{}} }

// hold holds back the events of resources from now on.
func (l *lag) hold(resources ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, resource := range resources {
		if l.held[resource] == nil {
			l.held[resource] = make(chan struct{})
		}
	}
}

// deliver delivers the events of resources, those held back included.
func (l *lag) deliver(resources ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, resource := range resources {
		if held := l.held[resource]; held != nil {
			close(held)
			delete(l.held, resource)
		}
	}
}

// interpose calls a function before each request is sent; nil for none.
func (l *lag) interpose(before func(*http.Request)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = before
}

func (l *lag) heldBack(resource string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[resource]
}

// listed is how often a resource was listed.
func (l *lag) listed(resource string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lists[resource]
}

// wrap is for rest.Config.Wrap.
func (l *lag) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		l.mu.Lock()
		before := l.before
		l.mu.Unlock()
		if before != nil {
			before(request)
		}
		response, err := next.RoundTrip(request)
		if err != nil {
			return nil, err
		}
		resource := path.Base(request.URL.Path)
		switch {
		case request.URL.Query().Get("watch") == "true":
			response.Body = &heldBody{
				ReadCloser: response.Body, lag: l, resource: resource, gone: request.Context().Done(), closed: make(chan struct{}),
			}
		case request.Method == http.MethodGet:
			l.mu.Lock()
			l.lists[resource]++
			l.mu.Unlock()
		}
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// heldBody is the body of a watch. What has arrived while events are held back is handed on when they are let go.
type heldBody struct {
	io.ReadCloser
	lag      *lag
	resource string
	gone     <-chan struct{}
	closing  sync.Once
	closed   chan struct{}
}

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if held := b.lag.heldBack(b.resource); held != nil {
		select {
		case <-held:
		case <-b.closed:
		case <-b.gone:
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *heldBody) Close() error {
	b.closing.Do(func() { close(b.closed) })
	return b.ReadCloser.Close()
}

// gate is a TCP proxy that can be shut, as a network that loses every packet from then on.
type gate struct {
	ctx      context.Context //nolint:containedctx // It is that of the connections, and ends with the gate.
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu    sync.Mutex
	shut  bool
	ended bool
	conns map[net.Conn]struct{}
}

// newGate opens a gate to an address. It ends with the test.
func newGate(t *testing.T, target string) *gate {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g := &gate{ctx: ctx, listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	g.running.Go(g.serve)
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		g.mu.Lock()
		g.ended = true
		g.drop()
		g.mu.Unlock()
		g.running.Wait()
	})
	return g
}

func (g *gate) address() string { return g.listener.Addr().String() }

// close lets nothing pass any more. Whoever is behind it waits for answers that do not come.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// open lets new connections pass. Those that were there before are lost, with all that was on its way.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop()
	g.shut = false
}

func (g *gate) drop() {
	for conn := range g.conns {
		_ = conn.Close()
	}
	clear(g.conns)
}

// keep notes a connection, unless the gate has ended.
func (g *gate) keep(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		_ = conn.Close()
		return false
	}
	g.conns[conn] = struct{}{}
	return true
}

func (g *gate) passes() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.shut
}

func (g *gate) serve() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		if !g.keep(conn) || !g.passes() {
			continue // Whoever connects to a shut gate hears nothing.
		}
		other, err := (&net.Dialer{}).DialContext(g.ctx, "tcp", g.target)
		if err != nil {
			_ = conn.Close()
			continue
		}
		if !g.keep(other) {
			continue
		}
		g.running.Go(func() { g.pipe(conn, other) })
		g.running.Go(func() { g.pipe(other, conn) })
	}
}

// pipe copies until either side ends. What comes while the gate is shut is lost.
func (g *gate) pipe(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && g.passes() {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
