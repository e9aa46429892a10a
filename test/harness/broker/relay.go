package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
)

// Relay stands between clients and a broker and keeps what they say to each other: so frames of a release of flux-core are recorded.
type Relay struct {
	path, to string
	listener *net.UnixListener
	running  sync.WaitGroup

	mu      sync.Mutex
	sockets []io.Closer
	frames  []Frame
}

// Frame is one message as it was on a socket, without the magic and the length before it.
type Frame struct {
	// FromBroker says who sent it.
	FromBroker bool
	// Bytes are what wire.Decode reads.
	Bytes []byte
}

// NewRelay listens at path for clients of the broker at an address such as local:///run/flux/local.
func NewRelay(path, uri string) (*Relay, error) {
	to, isLocal := strings.CutPrefix(uri, "local://")
	if !isLocal {
		return nil, fmt.Errorf("address %q of a broker: it has to be local:// and the path of a socket", uri)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	r := &Relay{path: path, to: to, listener: listener}
	r.running.Go(r.accept)
	return r, nil
}

// URI is the address for clients.
func (r *Relay) URI() string { return "local://" + r.path }

// Frames are all that was said up to now.
func (r *Relay) Frames() []Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Frame(nil), r.frames...)
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.AcceptUnix()
		if err != nil {
			return
		}
		server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.to, Net: "unix"})
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		r.sockets = append(r.sockets, client, server)
		r.mu.Unlock()
		r.running.Go(func() { r.pass(server, client, false) })
		r.running.Go(func() {
			// The broker greets with one byte.
			if _, err := io.CopyN(client, server, 1); err != nil {
				return
			}
			r.pass(client, server, true)
		})
	}
}

// pass hands on what comes, message by message, until either side has gone.
func (r *Relay) pass(to, from *net.UnixConn, fromBroker bool) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	for {
		var header [8]byte
		if _, err := io.ReadFull(from, header[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[4:]))
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		r.mu.Lock()
		r.frames = append(r.frames, Frame{FromBroker: fromBroker, Bytes: body})
		r.mu.Unlock()
		if _, err := to.Write(append(header[:], body...)); err != nil {
			return
		}
	}
}

// Close ends the relay and all connections through it.
func (r *Relay) Close() error {
	err := r.listener.Close()
	r.mu.Lock()
	for _, socket := range r.sockets {
		// Either side may have gone before.
		_ = socket.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
	if removeErr := os.Remove(r.path); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}
