package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// forward listens on the loopback interface and passes each connection on to an address, from a source address: that of
// a pod, to which the programs of other languages cannot all bind. It returns the address to connect to, and ends with
// the test.
func forward(t *testing.T, source net.IP, to string) string {
	t.Helper()
	ctx := t.Context()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: source}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			from, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Errorf("accept a connection to forward: %v", err)
				return
			}
			running.Go(func() {
				if err := pass(ctx, from, dialer, to); err != nil {
					t.Errorf("forward a connection from %s to %s: %v", source, to, err)
				}
			})
		}
	})
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return listener.Addr().String()
}

// pass copies both ways until one side closes its connection or the context ends. The error is that of the dial: a
// connection that breaks is an end like any other.
func pass(ctx context.Context, from net.Conn, dialer *net.Dialer, address string) error {
	defer func() { _ = from.Close() }()
	to, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	closeBoth := func() { _, _ = from.Close(), to.Close() }
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{to, from}, {from, to}} {
		copying.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			closeBoth()
		})
	}
	copying.Wait()
	return nil
}
