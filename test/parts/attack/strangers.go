package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stranger does one thing on one connection until the connection or the context ends.
type stranger func(ctx context.Context, conn net.Conn) error

// attack is what many strangers do at one port at the same time. Whoever is thrown out comes again.
type attack struct {
	name string
	// to is host:port. Connections are the number at a time, from as many addresses in turn.
	to                     string
	connections, addresses int
	do                     stranger
	// providerBytes is how much the provider may have had after it, where that is more than usual.
	providerBytes int
}

// network is which addresses strangers have: 127.network.x.y. Nobody else has one of these.
const network = 66

// pause is how long a stranger waits who was thrown out. Together they come some thousand times in a second: a machine with two
// processors that also plays everybody else has no more to give.
const pause = 100 * time.Millisecond

// run attacks until the context ends.
func (a *attack) run(ctx context.Context, number int) {
	var group sync.WaitGroup
	for i := range a.connections {
		from := net.IPv4(127, network, byte(number), byte(1+i%a.addresses))
		group.Go(func() {
			for ctx.Err() == nil {
				a.once(ctx, from)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	group.Wait()
}

func (a *attack) once(ctx context.Context, from net.IP) {
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 5 * time.Second}).DialContext(ctx, "tcp", a.to)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	_ = a.do(ctx, conn) // To be thrown out is what happens to strangers.
}

// silent says nothing.
func silent(_ context.Context, conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	return err
}

// begins says the first bytes of something and no more.
func begins(words string) stranger {
	return func(ctx context.Context, conn net.Conn) error {
		if _, err := io.WriteString(conn, words); err != nil {
			return err
		}
		return silent(ctx, conn)
	}
}

// helloBytes are the first bytes of a TLS handshake that announce more.
const helloBytes = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

// overTLS does something over TLS.
func overTLS(protocols []string, do stranger) stranger {
	return func(ctx context.Context, conn net.Conn) error {
		over := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		if err := over.HandshakeContext(ctx); err != nil {
			return err
		}
		return do(ctx, over)
	}
}

// unfinished begins requests of gRPC, each with a message of which the last byte never comes.
func unfinished(path string, requests, size int) stranger {
	return func(_ context.Context, conn net.Conn) error {
		c, err := begin(conn)
		if err != nil {
			return err
		}
		prefix := messagePrefix(size)
		for i := range requests {
			id, err := c.open(i, path)
			if err != nil {
				return err
			}
			if err := c.windows.send(c.framer, id, prefix, zeros(size-1), false); err != nil {
				return err
			}
		}
		<-c.windows.ended
		return nil
	}
}

// whole makes requests of gRPC that have one message, come whole, and are to be read and answered. Each connection has as many of them at
// the same time.
func whole(path string, requests int, message []byte) stranger {
	return func(ctx context.Context, conn net.Conn) error {
		c, err := begin(conn)
		if err != nil {
			return err
		}
		prefix := messagePrefix(len(message))
		for i := range requests {
			id, err := c.open(i, path)
			if err != nil {
				return err
			}
			if err := c.windows.send(c.framer, id, prefix, bytes.NewReader(message), true); err != nil {
				return err
			}
		}
		// The answers are read until the connection ends, which it does for those who have nothing more to ask.
		select {
		case <-c.windows.ended:
		case <-ctx.Done():
		}
		return nil
	}
}

// caller is one end of a connection of HTTP/2.
type caller struct {
	framer  *http2.Framer
	windows *windows
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// begin opens a connection of HTTP/2 and reads what the server says on it until it ends.
func begin(conn net.Conn) (*caller, error) {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	c := &caller{framer: http2.NewFramer(conn, conn), windows: newWindows()}
	c.encoder = hpack.NewEncoder(&c.block)
	if err := c.framer.WriteSettings(); err != nil {
		return nil, err
	}
	// What the server says is read, and taken for permission to send on.
	go c.windows.read(c.framer)
	return c, nil
}

// open opens the stream of a request, counted from 0.
func (c *caller) open(number int, path string) (id uint32, err error) {
	c.block.Reset()
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "a"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return 0, err
		}
	}
	id = uint32(2*number + 1)
	return id, c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true})
}

// messagePrefix is what comes before a message of gRPC of a size that is not compressed.
func messagePrefix(size int) []byte {
	return []byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}
}

// zeros are so many bytes.
func zeros(size int) io.Reader { return io.LimitReader(zero{}, int64(size)) }

type zero struct{}

// Read implements io.Reader.
func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// windows are how much may be sent.
type windows struct {
	mu    sync.Mutex
	more  *sync.Cond
	all   int
	of    map[uint32]int
	gone  bool
	ended chan struct{}
}

const firstWindow = 65535

func newWindows() *windows {
	w := &windows{all: firstWindow, of: map[uint32]int{}, ended: make(chan struct{})}
	w.more = sync.NewCond(&w.mu)
	return w
}

// read follows the windows until the connection ends.
func (w *windows) read(framer *http2.Framer) {
	defer func() {
		w.mu.Lock()
		w.gone = true
		w.mu.Unlock()
		w.more.Broadcast()
		close(w.ended)
	}()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		update, ok := frame.(*http2.WindowUpdateFrame)
		if !ok {
			continue
		}
		w.mu.Lock()
		if update.StreamID == 0 {
			w.all += int(update.Increment)
		} else {
			w.of[update.StreamID] += int(update.Increment)
		}
		w.mu.Unlock()
		w.more.Broadcast()
	}
}

// send sends a prefix and what comes after it, as the windows allow, and ends the stream where that is all.
func (w *windows) send(framer *http2.Framer, id uint32, prefix []byte, body io.Reader, end bool) error {
	w.mu.Lock()
	w.of[id] += firstWindow
	w.mu.Unlock()
	part := make([]byte, 16<<10)
	for from := io.MultiReader(bytes.NewReader(prefix), body); ; {
		n, err := from.Read(part)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		w.mu.Lock()
		for (w.all < n || w.of[id] < n) && !w.gone {
			w.more.Wait()
		}
		gone := w.gone
		w.all -= n
		w.of[id] -= n
		w.mu.Unlock()
		if gone {
			return io.ErrUnexpectedEOF
		}
		if err := framer.WriteData(id, false, part[:n]); err != nil {
			return err
		}
	}
	if !end {
		return nil
	}
	return framer.WriteData(id, true, nil)
}

// posts sends requests of HTTP/1 one after the other. length is announced, body is what comes of it.
func posts(path string, length int, body []byte) stranger {
	return func(ctx context.Context, conn net.Conn) error {
		go func() { _, _ = io.Copy(io.Discard, conn) }() // It ends with the connection.
		for ctx.Err() == nil {
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
				path, length); err != nil {
				return err
			}
			if _, err := conn.Write(body); err != nil {
				return err
			}
			if length > len(body) {
				<-ctx.Done() // The rest never comes.
			}
		}
		return nil
	}
}

// gets asks for a page again and again, and reads the answers.
func gets(path string) stranger {
	return func(ctx context.Context, conn net.Conn) error {
		transport := &http.Transport{
			MaxConnsPerHost: 1,
			DialContext:     func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		}
		defer transport.CloseIdleConnections()
		for ctx.Err() == nil {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://a"+path, http.NoBody)
			if err != nil {
				return err
			}
			response, err := transport.RoundTrip(request)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, response.Body)
			if err := errors.Join(err, response.Body.Close()); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause / 10):
			}
		}
		return nil
	}
}
