package process

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
)

// TestGivenUp: a body that has come whole counts until its handler has ended, and is given up when another address needs the room: its
// handler is told by its context. So it is of one whose end does not come, whose handler waits no longer for it.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	turned, err := inbound.NewTurned(prometheus.NewPedanticRegistry(), "Webhooks")
	if err != nil {
		t.Fatal(err)
	}
	b := newBodies(100, turned)
	type outcome struct {
		err   error
		cause error
	}
	read, ended := make(chan error, 10), make(chan outcome, 10)
	server := httptest.NewServer(b.limit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		read <- err
		if err == nil && len(content) > 50 {
			// It is of use for as long as nobody else needs the room.
			<-r.Context().Done()
		}
		ended <- outcome{err, context.Cause(r.Context())}
	})))
	t.Cleanup(server.Close)
	send := func(from string, body io.Reader) {
		go func() { _, _ = post(t, clientFrom(t, from), server.URL, body) }()
	}
	send("127.0.0.2", strings.NewReader(strings.Repeat("a", 80)))
	if err := <-read; err != nil {
		t.Fatalf("80 bytes of 100: %v", err)
	}
	send("127.0.0.3", strings.NewReader(strings.Repeat("b", 40)))
	if err := <-read; err != nil {
		t.Errorf("40 bytes of another address: %v", err)
	}
	for range 2 {
		select {
		case o := <-ended:
			if o.err != nil {
				t.Errorf("a body that had come whole: %v", o.err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the handler of the larger body has not ended")
		}
	}
	// One that waits for more of its body.
	let := make(chan struct{})
	defer close(let)
	send("127.0.0.2", io.MultiReader(strings.NewReader(strings.Repeat("a", 80)), &waiting{let}))
	counts := func(n int) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
			return b.bytes() == n, nil
		}); err != nil {
			t.Fatalf("%d bytes are counted, not %d", b.bytes(), n)
		}
	}
	counts(80)
	send("127.0.0.3", strings.NewReader(strings.Repeat("b", 40)))
	failed := 0
	for range 2 {
		if err := <-read; err != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d of the two bodies were given up", failed)
	}
	for range 2 {
		if o := <-ended; o.err != nil && !errors.Is(o.cause, errTooMuch) {
			t.Errorf("%v, whose cause is %v", o.err, o.cause)
		}
	}
	counts(0)
}

func (b *bodies) bytes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
