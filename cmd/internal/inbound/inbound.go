// Package inbound bounds the connections that a server accepts, for each source address and in all, so that no peer can take the
// memory of a process or lock another peer out. Where there is one connection too many the newest is let in and another one ends,
// which is that of the address that has most: whoever floods gives way to itself, and to everybody else.
package inbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits are how many connections a server has.
type Limits struct {
	// Connections is the number of connections in all, PerAddress of those from one address. 0 is for no limit. The addresses of
	// one IPv6 network of 64 bits count as one: a host has all of them.
	Connections, PerAddress int
	// Handshake is how long a connection may take from being accepted to being of use; 0 for as long as the server lets it.
	Handshake time.Duration
}

// Validate names what cannot be. flags are the names of those of Connections and PerAddress.
func (l *Limits) Validate(connections, perAddress string) error {
	switch {
	case l.Connections < 0:
		return fmt.Errorf("--%s is %d; it must be a number of connections, or 0 for no limit", connections, l.Connections)
	case l.PerAddress < 0:
		return fmt.Errorf("--%s is %d; it must be a number of connections, or 0 for no limit", perAddress, l.PerAddress)
	case l.Connections > 0 && l.PerAddress > l.Connections:
		return fmt.Errorf("--%s is %d; it must be at most --%s, %d", perAddress, l.PerAddress, connections, l.Connections)
	}
	return nil
}

// Listener accepts connections within limits.
type Listener struct {
	net.Listener
	limits Limits
	turned *Turned

	mu sync.Mutex
	// open are the connections of each source; total is their number.
	open  map[netip.Prefix]map[*Conn]struct{}
	total int
	// came is how many connections each source has opened since turn, before how many in the time before that.
	came, before map[netip.Prefix]int
	turn         time.Time
}

// turnAfter is for how long it is remembered how often a source came, and sources the number of them that are remembered.
const turnAfter, sources = 10 * time.Second, 8192

// New bounds what a listener accepts. What is ended because of a limit counts in turned.
func New(listener net.Listener, limits Limits, turned *Turned) *Listener {
	return &Listener{
		Listener: listener, limits: limits, turned: turned, open: map[netip.Prefix]map[*Conn]struct{}{}, came: map[netip.Prefix]int{},
	}
}

// Accept implements net.Listener. The connection is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // Servers look at what kind of error it is.
	}
	c := &Conn{Conn: raw, listener: l, source: source(raw.RemoteAddr()), accepted: time.Now()}
	l.admit(c)
	return c, nil
}

// admit takes a connection into the books, and ends the one that has to make room for it.
func (l *Listener) admit(c *Conn) {
	l.mu.Lock()
	l.note(c.source)
	var victim *Conn
	var why Reason
	switch {
	case l.limits.PerAddress > 0 && len(l.open[c.source]) >= l.limits.PerAddress:
		victim, why = quietest(l.open[c.source]), ConnectionsPerAddress
	case l.limits.Connections > 0 && l.total >= l.limits.Connections:
		victim, why = l.fromTheLargest(), Connections
	}
	if victim != nil {
		l.remove(victim)
	}
	if l.open[c.source] == nil {
		l.open[c.source] = map[*Conn]struct{}{}
	}
	l.open[c.source][c] = struct{}{}
	l.total++
	if l.limits.Handshake > 0 {
		c.handshake = time.AfterFunc(l.limits.Handshake, func() {
			if !c.established.Load() {
				c.End(Handshake)
			}
		})
	}
	l.mu.Unlock()
	if victim != nil {
		victim.End(why)
	}
}

// note counts that a source has come.
func (l *Listener) note(from netip.Prefix) {
	if time.Since(l.turn) >= turnAfter || len(l.came) >= sources {
		l.before, l.came, l.turn = l.came, map[netip.Prefix]int{}, time.Now()
	}
	l.came[from]++
}

// fromTheLargest is the connection that ends when there are too many in all: the quietest one of the address that has most. Where
// several have as many it is the one that has come most often lately: whoever is thrown out and comes again and again, from
// however many addresses, gives way to one who comes once.
func (l *Listener) fromTheLargest() (found *Conn) {
	most, often := 0, 0
	for from, conns := range l.open {
		c := quietest(conns)
		switch number, came := len(conns), l.came[from]+l.before[from]; {
		case number > most, number == most && came > often, number == most && came == often && c.quieterThan(found):
			most, often, found = number, came, c
		}
	}
	return found
}

// quietest is the connection that has been silent for longest. One that is still in its handshake gives way first: it is nobody's yet.
func quietest(conns map[*Conn]struct{}) (found *Conn) {
	for c := range conns {
		if found == nil || c.quieterThan(found) {
			found = c
		}
	}
	return found
}

// remove takes a connection out of the books; the lock is held.
func (l *Listener) remove(c *Conn) {
	conns := l.open[c.source]
	if _, there := conns[c]; !there {
		return
	}
	delete(conns, c)
	l.total--
	if len(conns) == 0 {
		delete(l.open, c.source)
	}
}

// EndOlder ends the connections that were accepted longer ago than an age.
func (l *Listener) EndOlder(than time.Duration, why Reason) {
	l.mu.Lock()
	var old []*Conn
	for _, conns := range l.open {
		for c := range conns {
			if time.Since(c.accepted) >= than {
				old = append(old, c)
			}
		}
	}
	l.mu.Unlock()
	for _, c := range old {
		c.End(why)
	}
}

// Conn is a connection that may be ended to make room for another.
type Conn struct {
	net.Conn
	listener  *Listener
	source    netip.Prefix
	accepted  time.Time
	handshake *time.Timer

	// heard is when the last byte came, as the time since it was accepted.
	heard       atomic.Int64
	established atomic.Bool
	ended       atomic.Bool
}

// quieterThan reports whether c is to end rather than other.
func (c *Conn) quieterThan(other *Conn) bool {
	if mine, theirs := c.established.Load(), other.established.Load(); mine != theirs {
		return !mine
	}
	return c.lastHeard().Before(other.lastHeard())
}

func (c *Conn) lastHeard() time.Time { return c.accepted.Add(time.Duration(c.heard.Load())) }

// Source is the address that the connection is from; in IPv6 its network of 64 bits.
func (c *Conn) Source() netip.Prefix { return c.source }

// Quieter reports whether c has been silent for longer than other.
func (c *Conn) Quieter(other *Conn) bool { return c.lastHeard().Before(other.lastHeard()) }

// Established says that the handshake has ended well.
func (c *Conn) Established() {
	c.established.Store(true)
	if c.handshake != nil {
		c.handshake.Stop()
	}
}

// End closes the connection because of a limit. Only the first reason counts.
func (c *Conn) End(why Reason) {
	if c.ended.Swap(true) {
		return
	}
	c.listener.turned.Count(why)
	_ = c.close() // Whoever reads from it gets the error.
}

// Read implements net.Conn.
func (c *Conn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.accepted)))
	}
	return n, err //nolint:wrapcheck // A reader's end has to be io.EOF itself.
}

// SetDeadline implements net.Conn. gRPC sets one for the handshake, and takes it away when the connection is of use.
func (c *Conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.Established()
	}
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.ended.Store(true)
	return c.close()
}

func (c *Conn) close() error {
	c.listener.mu.Lock()
	if c.handshake != nil {
		c.handshake.Stop()
	}
	c.listener.remove(c)
	c.listener.mu.Unlock()
	if err := c.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err //nolint:wrapcheck // It is a net.Conn's own.
	}
	return nil
}

// RemoteAddr implements net.Conn. The address knows its connection, so that a request, which knows its peer's address, can be
// told from others of the same connection.
func (c *Conn) RemoteAddr() net.Addr { return &address{Addr: c.Conn.RemoteAddr(), conn: c} }

type address struct {
	net.Addr
	conn *Conn
}

// Of is the connection that an address is of; nil where it was not accepted by a Listener.
func Of(a net.Addr) *Conn {
	if known, ok := a.(*address); ok {
		return known.conn
	}
	return nil
}

// source is what counts as one address. What has no IP address, such as a socket of a file, counts as one source.
func source(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
