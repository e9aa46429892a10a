package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// accepts is a listener with limits, and what it has turned away.
type accepts struct {
	*Listener
	registry *prometheus.Registry
}

func listen(t *testing.T, limits Limits) accepts {
	t.Helper()
	raw, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	registry := prometheus.NewRegistry()
	turned, err := NewTurned(registry, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTurned(registry, "another of this process"); err != nil {
		t.Fatal(err)
	}
	return accepts{New(raw, limits, turned), registry}
}

// connect is both ends of a connection from an address.
func (a accepts) connect(t *testing.T, from string) (client net.Conn, server *Conn) {
	t.Helper()
	client, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server, ok := accepted.(*Conn)
	if !ok {
		t.Fatalf("a %T is accepted", accepted)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

// says has a client say something that the server reads.
func says(t *testing.T, client net.Conn, server *Conn) {
	t.Helper()
	if _, err := client.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// open reports whether a server's connection is still open, as its client sees it.
func open(t *testing.T, client net.Conn) bool {
	t.Helper()
	var err error
	// A deadline that passes before the read begins says nothing: it is looked at several times.
	for _, within := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		if err := client.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		if _, err = client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	if err == nil || (!errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF)) {
		t.Logf("the client reads %v", err)
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// TestLargestGivesWay: when all connections are taken, the address that has most gives up the one that was silent for longest.
func TestLargestGivesWay(t *testing.T) {
	t.Parallel()
	a := listen(t, Limits{Connections: 4, PerAddress: 3})
	first, firstServer := a.connect(t, "127.0.0.2")
	second, secondServer := a.connect(t, "127.0.0.2")
	third, thirdServer := a.connect(t, "127.0.0.2")
	other, otherServer := a.connect(t, "127.0.0.3")
	for _, c := range []*Conn{firstServer, secondServer, thirdServer, otherServer} {
		c.Established()
	}
	// The other one says nothing at all; of the three the second does not.
	says(t, first, firstServer)
	says(t, third, thirdServer)
	newest, _ := a.connect(t, "127.0.0.4")
	for name, c := range map[string]struct {
		client net.Conn
		want   bool
	}{"first": {first, true}, "second": {second, false}, "third": {third, true}, "other": {other, true}, "newest": {newest, true}} {
		if got := open(t, c.client); got != c.want {
			t.Errorf("the %s connection is open: %t, want %t", name, got, c.want)
		}
	}
}

// TestWhoComesAgain: where no address has more connections than another, the one that comes again and again gives way, and not one that
// came once and is still in its handshake.
func TestWhoComesAgain(t *testing.T) {
	t.Parallel()
	a := listen(t, Limits{Connections: 2, PerAddress: 1})
	once, _ := a.connect(t, "127.0.0.3")
	var again net.Conn
	for range 5 {
		again, _ = a.connect(t, "127.0.0.2")
	}
	newest, _ := a.connect(t, "127.0.0.4")
	if !open(t, once) || open(t, again) || !open(t, newest) {
		t.Errorf("of who came once, five times and last these are open: %t, %t, %t", open(t, once), open(t, again), open(t, newest))
	}
}

// TestNewestStays: of too many from one address the newest stays, and one that is in its handshake still gives way before one that is of
// use.
func TestNewestStays(t *testing.T) {
	t.Parallel()
	a := listen(t, Limits{Connections: 10, PerAddress: 2})
	used, usedServer := a.connect(t, "127.0.0.2")
	usedServer.Established()
	strange, strangeServer := a.connect(t, "127.0.0.2")
	says(t, strange, strangeServer)
	newest, _ := a.connect(t, "127.0.0.2")
	if !open(t, used) || open(t, strange) || !open(t, newest) {
		t.Errorf(
			"of one of use, one in its handshake and the newest these are open: %t, %t, %t", open(t, used), open(t, strange), open(t, newest),
		)
	}
	// One that has ended makes room.
	if err := usedServer.Close(); err != nil {
		t.Error(err)
	}
	next, _ := a.connect(t, "127.0.0.2")
	if !open(t, newest) || !open(t, next) {
		t.Error("a connection ended though another one had made room")
	}
}

// TestHandshake: a connection that is of no use in time ends, and one that is does not.
func TestHandshake(t *testing.T) {
	t.Parallel()
	a := listen(t, Limits{Handshake: 3 * time.Second})
	silent, _ := a.connect(t, "127.0.0.2")
	used, usedServer := a.connect(t, "127.0.0.2")
	// As gRPC does at the end of a handshake.
	if err := usedServer.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := silent.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that says nothing: %v", err)
	}
	if !open(t, used) {
		t.Error("a connection that is of use has ended")
	}
	if Of(usedServer.RemoteAddr()) != usedServer || Of(&net.TCPAddr{}) != nil {
		t.Error("an address does not know its connection")
	}
}

// TestSource: the addresses of an IPv6 network of 64 bits count as one, and IPv4 in IPv6 as IPv4.
func TestSource(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"10.0.0.1": "10.0.0.1/32", "::ffff:10.0.0.1": "10.0.0.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::1": "2001:db8:1:2::/64",
	} {
		if got := source(&net.TCPAddr{IP: net.ParseIP(address), Port: 1}).String(); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
	if got := source(&net.UnixAddr{Name: "a"}); got.IsValid() {
		t.Errorf("a socket counts as %s", got)
	}
}

// TestValidate: what cannot be is told by the flag's name.
func TestValidate(t *testing.T) {
	t.Parallel()
	for want, limits := range map[string]Limits{
		"--all is -1; it must be a number of connections, or 0 for no limit": {Connections: -1},
		"--one is -1; it must be a number of connections, or 0 for no limit": {PerAddress: -1},
		"--one is 3; it must be at most --all, 2":                            {Connections: 2, PerAddress: 3},
	} {
		if err := limits.Validate("all", "one"); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", limits, err, want)
		}
	}
	if err := (&Limits{PerAddress: 3}).Validate("all", "one"); err != nil {
		t.Error(err)
	}
}
