package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// maxRequest bounds what a client may send, in bytes.
const maxRequest = 64 << 20

// What connector-local writes into requests: the roles of the owner on the local socket.
const (
	roleOwner = 1
	roleLocal = 4
)

// connection is one client.
type connection struct {
	socket *net.UnixConn
	// topics counts the subscriptions of each beginning of a topic. It is guarded by the stand-in.
	topics map[string]int

	mu     sync.Mutex
	filled *sync.Cond
	// queue is what is to be written: it has no bound, as in flux-core.
	queue  []*wire.Message
	closed bool
}

func newConnection(socket *net.UnixConn) *connection {
	c := &connection{socket: socket, topics: map[string]int{}}
	c.filled = sync.NewCond(&c.mu)
	return c
}

// send queues a message.
func (c *connection) send(m *wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, m)
	c.filled.Signal()
}

// write writes what is queued, until the connection is closed.
func (c *connection) write() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.filled.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, m := range queue {
			framed, err := wire.AppendFramed(nil, m)
			if err == nil {
				_, err = c.socket.Write(framed)
			}
			if err != nil {
				c.close()
				return
			}
		}
	}
}

func (c *connection) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.filled.Signal()
	// Whoever reads it finds out.
	_ = c.socket.Close()
}

// serve reads the requests of a client and hands each to take, until it goes.
func (c *connection) serve(take func(*request)) error {
	messages := wire.NewReader(c.socket, maxRequest)
	for {
		m, err := messages.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
			// It has gone, in the middle of a request or not.
			return nil
		case err != nil:
			return err
		case m.Type == wire.Request:
			take(&request{from: c, Message: m})
		}
	}
}

// request is what a client asks.
type request struct {
	*wire.Message

	from *connection
}

// response is the beginning of an answer.
func (r *request) response() *wire.Message {
	return &wire.Message{Type: wire.Response, Roles: roleOwner, Tag: r.Tag, Topic: r.Topic}
}

// respond answers with a value as JSON, nil for nothing.
func (r *request) respond(value any) {
	if r.Flags&wire.NoResponse != 0 {
		return
	}
	m := r.response()
	m.Flags = r.Flags & wire.Streaming
	payload, err := wire.JSON(value)
	if err != nil {
		r.fail(syscall.EINVAL, "%v", err)
		return
	}
	m.Payload = payload
	r.from.send(m)
}

// fail answers with an error.
func (r *request) fail(errno syscall.Errno, format string, args ...any) {
	if r.Flags&wire.NoResponse != 0 {
		return
	}
	m := r.response()
	m.Errno = uint32(errno)
	if text := fmt.Sprintf(format, args...); text != "" {
		m.Payload = wire.Text(text)
	}
	r.from.send(m)
}

// read decodes what was asked. It answers itself where that cannot be understood.
func (r *request) read(into any) bool {
	if err := json.Unmarshal(wire.Unterminated(r.Payload), into); err != nil {
		r.fail(syscall.EPROTO, "%v", err)
		return false
	}
	return true
}

// streaming says whether many answers are expected. It answers itself where they are not.
func (r *request) streaming() bool {
	if r.Flags&wire.Streaming == 0 {
		r.fail(syscall.EPROTO, "%s has many responses, which the request does not ask for", r.Topic)
		return false
	}
	return true
}

// same says whether a request is that of a tag of the same client.
func (r *request) same(from *connection, tag uint32) bool { return r.from == from && r.Tag == tag }
