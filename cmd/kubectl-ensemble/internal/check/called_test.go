package check_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// caller stands for the network between the API server and the pods of the controller, and for what these answer with. No address of a
// Service leads anywhere in a test: the API server reaches them through a proxy, which an EgressSelectorConfiguration names.
type caller struct {
	t *testing.T
	// arguments are those of the API server.
	arguments []string
	conns     chan net.Conn
	done      chan struct{}
	proxy     string

	mutex       sync.Mutex
	certificate *tls.Certificate
	closed      bool
	ports       map[string]bool
	paths       map[string]bool
}

func newCaller(t *testing.T) *caller {
	t.Helper()
	directory := t.TempDir()
	c := &caller{
		t: t, conns: make(chan net.Conn), done: make(chan struct{}), proxy: filepath.Join(directory, "proxy"), ports: map[string]bool{},
		paths: map[string]bool{},
	}
	config := filepath.Join(directory, "egress.yaml")
	text := fmt.Sprintf(`
apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds:
        udsName: %s
`, c.proxy)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.arguments = []string{"--egress-selector-config-file=" + config}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", c.proxy)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	proxy := &http.Server{Handler: http.HandlerFunc(c.connect), ReadHeaderTimeout: patience}
	webhook := &http.Server{
		Handler: http.HandlerFunc(c.admit), ReadHeaderTimeout: patience,
		// That the API server does not trust it is planted.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				c.mutex.Lock()
				defer c.mutex.Unlock()
				return c.certificate, nil
			},
		},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	// Each question is a connection, so that the certificate of now is the one that is shown.
	webhook.SetKeepAlivesEnabled(false)
	running.Go(func() { c.serves(proxy.Serve(listener)) })
	running.Go(func() { c.serves(webhook.ServeTLS(c, "", "")) })
	t.Cleanup(func() {
		if err := errors.Join(proxy.Close(), webhook.Close()); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return c
}

func (c *caller) serves(err error) {
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		c.t.Error(err)
	}
}

// show sets the certificate that is shown from now on, in PEM with its key.
func (c *caller) show(certificate, key []byte) {
	c.t.Helper()
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.certificate = &pair
}

// cut takes the way to the pods away, or gives it back.
func (c *caller) cut(closed bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.closed = closed
}

// connect is asked for the way to a Service.
func (c *caller) connect(w http.ResponseWriter, r *http.Request) {
	c.mutex.Lock()
	closed := c.closed
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		c.ports[port] = true
	}
	c.mutex.Unlock()
	if closed {
		http.Error(w, "no route to host", http.StatusBadGateway)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		c.t.Error(err)
		return
	}
	if _, err := buffered.WriteString("HTTP/1.1 200 OK\r\n\r\n"); err != nil || buffered.Flush() != nil {
		_ = conn.Close() // The API server has gone.
		return
	}
	select {
	case c.conns <- &hijacked{conn, buffered.Reader}:
	case <-c.done:
		_ = conn.Close() // So has the test.
	}
}

// hijacked is a connection of which something may have been read already.
type hijacked struct {
	net.Conn
	reader *bufio.Reader
}

// Read implements net.Conn.
func (h *hijacked) Read(b []byte) (int, error) { return h.reader.Read(b) }

// Accept implements net.Listener.
func (c *caller) Accept() (net.Conn, error) {
	select {
	case conn := <-c.conns:
		return conn, nil
	case <-c.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (c *caller) Close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	select {
	case <-c.done:
	default:
		close(c.done)
	}
	return nil
}

// Addr implements net.Listener.
func (c *caller) Addr() net.Addr { return &net.UnixAddr{Name: c.proxy, Net: "unix"} }

// admit lets everything through.
func (c *caller) admit(w http.ResponseWriter, r *http.Request) {
	c.mutex.Lock()
	c.paths[r.URL.Path] = true
	c.mutex.Unlock()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if err := json.NewEncoder(w).Encode(&review); err != nil && !errors.Is(r.Context().Err(), context.Canceled) {
		c.t.Error(err)
	}
}

// asked are the paths that were asked, and the ports of Services that were called.
func (c *caller) asked() (paths, ports []string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return slices.Sorted(maps.Keys(c.paths)), slices.Sorted(maps.Keys(c.ports))
}
