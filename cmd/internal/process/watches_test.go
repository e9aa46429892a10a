package process

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// TestWatches: a watch that ends makes the caches age until it is open again; requests of other kinds do not count.
func TestWatches(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "true" {
			return
		}
		if r.URL.Query().Get("refused") != "" {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		until := end // before the answer, after which the test goes on and sets another
		_, _ = io.WriteString(w, "{}\n")
		_ = http.NewResponseController(w).Flush()
		<-until
	}))
	defer server.Close()
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	config := &rest.Config{Host: server.URL}
	watches := NewWatches(config, clock)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	get := func(query string) io.ReadCloser {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/nodes?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return response.Body
	}
	pass := func(d time.Duration) { clock.SetTime(clock.Now().Add(d)) }
	said := func(want string) {
		t.Helper()
		err := watches.Check(time.Minute)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	said("")
	if err := get("").Close(); err != nil {
		t.Error(err)
	}
	stream := get("watch=true")
	pass(time.Hour)
	said("")

	// The server ends the stream.
	close(end)
	if _, err := io.ReadAll(stream); err != nil {
		t.Error(err)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	nodes, pods := map[string]bool{"/api/v1/nodes": true}, map[string]bool{"/api/v1/pods": true}
	if err := watches.Interrupted(nodes); err == nil || !strings.Contains(
		err.Error(), "the watch of /api/v1/nodes has been interrupted since 2026-11-23T13:00:00Z",
	) {
		t.Errorf("at once: %v", err)
	}
	if err := watches.Interrupted(pods); err != nil {
		t.Errorf("of what was never watched: %v", err)
	}
	pass(time.Minute)
	said("")
	pass(time.Second)
	said("the watch of /api/v1/nodes has been interrupted for 1m1s")
	if err := get("watch=true&refused=1").Close(); err != nil {
		t.Error(err)
	}
	if err := get("watch=true&fieldSelector=a%3Db").Close(); err != nil {
		t.Error(err)
	}
	said("the watch of /api/v1/nodes has been interrupted for 1m1s")

	end = make(chan struct{})
	defer func() { close(end) }()
	// One that ends at once has brought nothing.
	if err := get("watch=true").Close(); err != nil {
		t.Error(err)
	}
	said("the watch of /api/v1/nodes has been interrupted for 1m1s")
	stream = get("watch=true")
	said("")
	if err := watches.CutOff(0); err != nil {
		t.Errorf("when one is open: %v", err)
	}
	if err := watches.Interrupted(nodes); err != nil {
		t.Errorf("when it is open again: %v", err)
	}
	// Closed by us, it ages too.
	pass(lasting)
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	pass(2 * time.Minute)
	said("the watch of /api/v1/nodes (a=b) has been interrupted for 2m10s")
	if err := watches.CutOff(time.Minute); err == nil ||
		!strings.Contains(err.Error(), "all watches of the API server have been interrupted for 2m0s") {
		t.Errorf("when all are interrupted: %v", err)
	}
	if err := watches.CutOff(2 * time.Minute); err != nil {
		t.Errorf("within the bound: %v", err)
	}
}
