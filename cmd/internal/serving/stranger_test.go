package serving_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
)

// shipped are the limits that the controller has by default, with times that a test can wait for.
var shipped = serving.Limits{
	RequestsPerSecond: 100, Burst: 200, RequestBytes: 24 << 10, Streams: 4, Connections: 4096, ConnectionsPerAddress: 16, Unfinished: 1024,
	HandshakeWithin: 2 * time.Second, ReadWithin: 3 * time.Second, Idle: 5 * time.Minute,
}

// stranger is a raw connection from an address of this host, of which nothing is known but its bytes.
func stranger(t *testing.T, address, from string) net.Conn {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 20 * time.Second}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// unfinished begins requests of a size on a connection and never sends the last byte of any. It returns when all is sent or the server has
// ended the connection.
func unfinished(conn net.Conn, requests, size int) error {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	message := make([]byte, min(size, 16<<10))
	for i := range requests {
		block.Reset()
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"},
			{":path", "/clusterautoscaler.cloudprovider.v1.externalgrpc.CloudProvider/NodeGroupTargetSize"},
			{":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
				return err
			}
		}
		stream := uint32(2*i + 1)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
			return err
		}
		// First whether it is compressed, then its length: one more than what is sent.
		if err := framer.WriteData(stream, false, []byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}); err != nil {
			return err
		}
		for sent := 0; sent < size-1; {
			part := message[:min(len(message), size-1-sent)]
			if err := framer.WriteData(stream, false, part); err != nil {
				return err
			}
			sent += len(part)
		}
	}
	return nil
}

// heap is what the process holds.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// comesBack waits until the numbers of goroutines and of bytes are near to what they were.
func (s *served) comesBack(t *testing.T, goroutines int, bytes uint64) {
	t.Helper()
	var now int
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		now = runtime.NumGoroutine()
		return now <= goroutines+100 && heap() < bytes+32<<20, nil
	})
	if err != nil {
		t.Errorf("%d goroutines and %d MiB are left of %d and %d: %v", now, heap()>>20, goroutines, bytes>>20, err)
	}
}

// serves checks that somebody else is served, by how many requests and each in what time.
func (s *served) serves(t *testing.T, conn *grpc.ClientConn, while string) {
	t.Helper()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := ask(ctx, conn, "a"); err != nil {
			t.Errorf("while %s: %v", while, err)
		}
		cancel()
	}
}

// flood opens connections, each at the same time as some others, and does something with each.
func flood(t *testing.T, address string, number int, from func(i int) string, do func(net.Conn) error) {
	t.Helper()
	var group sync.WaitGroup
	places := make(chan struct{}, 16)
	for i := range number {
		conn := stranger(t, address, from(i))
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_ = do(conn) // The server may end it at any moment: that is what is tested.
		})
	}
	group.Wait()
}

// These tests measure the process, so that none of them runs beside another.

// TestUnfinishedRequests: requests whose last bytes never come take little memory, keep nobody out, and end.
func TestUnfinishedRequests(t *testing.T) { //nolint:paralleltest // see above
	// As many as a machine that is busy opens within the time of one.
	limits := shipped
	limits.Unfinished, limits.ReadWithin = 256, 6*time.Second
	s := serve(t, limits)
	other := s.from(t, "127.0.0.2")
	s.serves(t, other, "nobody else is there")
	goroutines, before := runtime.NumGoroutine(), heap()
	flood(t, s.address, 200, func(int) string { return "127.0.0.3" }, func(c net.Conn) error { return unfinished(c, 32, 20<<10) })
	if grown := int64(heap()) - int64(before); grown > 32<<20 {
		t.Errorf("200 connections of one address with 32 unfinished requests each take %d MiB", grown>>20)
	}
	s.serves(t, other, "one address has 200 connections with unfinished requests")
	many := func(i int) string { return fmt.Sprintf("127.0.%d.%d", 5+i/200, 1+i%200) }
	flood(t, s.address, 300, many, func(c net.Conn) error { return unfinished(c, 4, 20<<10) })
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("300 addresses with 4 unfinished requests each take %d MiB", grown>>20)
	}
	s.serves(t, other, "300 addresses have unfinished requests")
	s.comesBack(t, goroutines, before)
	for _, reason := range []string{"connections_per_address", "unfinished_requests", "request_read"} {
		if s.turnedAway(t, reason) == 0 {
			t.Errorf("nothing is counted as turned away for %s", reason)
		}
	}
}

// TestIdleConnections: thousands of connections without a request are no burden, and keep nobody out.
func TestIdleConnections(t *testing.T) { //nolint:paralleltest // see above
	limits := shipped
	limits.Connections, limits.Idle = 256, 3*time.Second
	s := serve(t, limits)
	other := s.from(t, "127.0.0.2")
	s.serves(t, other, "nobody else is there")
	goroutines, before := runtime.NumGoroutine(), heap()
	flood(t, s.address, 2000, func(int) string { return "127.0.0.3" }, func(c net.Conn) error { return unfinished(c, 0, 0) })
	many := func(i int) string { return fmt.Sprintf("127.0.%d.%d", 10+i/200, 1+i%200) }
	flood(t, s.address, 2000, many, func(c net.Conn) error { return unfinished(c, 0, 0) })
	if grown := int64(heap()) - int64(before); grown > 32<<20 {
		t.Errorf("4000 idle connections take %d MiB", grown>>20)
	}
	s.serves(t, other, "4000 connections are idle")
	s.comesBack(t, goroutines, before)
	for _, reason := range []string{"connections_per_address", "connections"} {
		if s.turnedAway(t, reason) == 0 {
			t.Errorf("nothing is counted as turned away for %s", reason)
		}
	}
}

// TestHalfOpen: connections that say nothing at all end when their time for it is over, and keep nobody out before.
func TestHalfOpen(t *testing.T) { //nolint:paralleltest // see above
	limits := shipped
	limits.Connections, limits.ConnectionsPerAddress = 8, 2
	s := serve(t, limits)
	other := s.from(t, "127.0.0.2")
	s.serves(t, other, "nobody else is there")
	goroutines := runtime.NumGoroutine()
	var silent []net.Conn
	for i := range 20 {
		silent = append(silent, stranger(t, s.address, fmt.Sprintf("127.0.0.%d", 10+i%5)))
	}
	s.serves(t, other, "20 connections are silent")
	for _, conn := range silent {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("a silent connection is still open after 20 s: %v", err)
		}
	}
	s.comesBack(t, goroutines, heap())
	if s.turnedAway(t, "handshake") == 0 {
		t.Error("nothing is counted as turned away for a handshake")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// turnedAway is a value of the metric.
func (s *served) turnedAway(t *testing.T, reason string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "ensemble_autoscaler_turned_away_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "reason" && label.GetValue() == reason {
					return metric.GetCounter().GetValue()
				}
			}
		}
	}
	t.Errorf("the metric ensemble_autoscaler_turned_away_total has no reason %s", reason)
	return 0
}
